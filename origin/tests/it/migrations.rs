//! What migrations do to what is there already, and to who works on it meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use futures_util::future::join_all;
use origin::{MIGRATOR, health};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgPool, migrate::MigrateError};
use tower::ServiceExt;
use uuid::Uuid;

use crate::{
    second_factor::change,
    support::{Origin, assert_ledger_adds_up, count},
};

/// The newest one that had landed when the last one was written: what is rolled out comes upon it.
const BEFORE: i64 = 20_261_205_000_110;

/// The last migration whose transactions had their entries in a table beside them.
const ENTRIES_BESIDE: i64 = 20_261_123_001_100;

/// Somebody with 150 credits, as an early schema kept them.
const SOMEBODY: &str = "
    INSERT INTO auth.users (id, email, email_normalised, role)
    VALUES ('00000000-0000-7000-8000-000000000001', 'a', 'a', 'admin');
    INSERT INTO auth.sessions (id, user_id, client_id, refresh_salt, remember, amr, expires_at, ends_at)
    VALUES ('00000000-0000-7000-8000-000000000002', '00000000-0000-7000-8000-000000000001', 'first-party',
            substr(sha256(''), 1, 16), false, '{pwd}', now() + interval '1 day', now() + interval '1 day');
    SELECT credits.open_wallet('00000000-0000-7000-8000-000000000001', sha256('a'), 150000);
";

/// What an early schema takes, and where it stands among the others: the arguments before the kinds,
/// after the users, and before the last two.
const EARLY: [&str; 3] = ["", "", "false,"];
const LATEST: [&str; 3] = ["false,", "ARRAY['user', 'user'],", ""];

/// Asks for a charge under the key `k` and a hold under the key `h`.
async fn charge_and_hold(
    db: &PgPool,
    ids: [Uuid; 2],
    [first, openers, last]: [&str; 3],
) -> sqlx::Result<Vec<String>> {
    let call = format!(
        "SELECT outcome FROM credits.post(
             {first} ARRAY['spend', 'hold'], $1,
             array_fill('00000000-0000-7000-8000-000000000001'::uuid, ARRAY[2]), {openers}
             array_fill('00000000-0000-7000-8000-000000000002'::uuid, ARRAY[2]),
             ARRAY['app', 'app'], ARRAY[1000, 2000], ARRAY['d', 'd'], ARRAY[NULL, NULL]::jsonb[], ARRAY['k', 'h'],
             ARRAY['x', 'y']::bytea[], ARRAY[NULL, NULL]::uuid[], ARRAY[0, 60], {last} 0, false)"
    );
    let called = sqlx::query_scalar(sqlx::AssertSqlSafe(call)).bind(ids);
    called.fetch_all(db).await
}

/// Grants the same, for the same reference, as the admin that they are.
async fn grant(db: &PgPool) -> String {
    let call = "SELECT outcome FROM credits.grant(
                    gen_random_uuid(), '00000000-0000-7000-8000-000000000001', NULL, 1000, 'paid', NULL, 'reason', 'r',
                    'z', 1000000000)";
    let mut transaction = db.begin().await.expect("a transaction");
    sqlx::query("SELECT set_config('tollgate.user', '00000000-0000-7000-8000-000000000001', true)")
        .execute(&mut *transaction)
        .await
        .expect("set");
    let granted = sqlx::query_scalar(call).fetch_one(&mut *transaction).await;
    transaction.commit().await.expect("written");
    granted.expect("a grant")
}

/// The name of what this app has done under this key.
fn by_key(key: &str) -> Uuid {
    let hash: [u8; 32] = Sha256::digest(format!("app\n{key}")).into();
    Uuid::new_v8(hash[..16].try_into().expect("a half"))
}

async fn readiness(origin: &Origin) -> (u16, Value) {
    let request = Request::get("/health/ready").body(Body::empty());
    let answer = health::router(origin.app.clone())
        .oneshot(request.expect("a request"))
        .await
        .expect("infallible");
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX)
        .await
        .expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_process_serves_on_its_schema_or_a_newer_one_and_starts_on_no_newer_one(db: PgPool) {
    let origin = Origin::start(&db).await;
    assert_eq!(
        readiness(&origin).await,
        (200, json!({"ready": true, "failing": []}))
    );
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (99990101000000, 'of the next release', true, '', 0)";
    change(&db, newer).await;
    assert_eq!(readiness(&origin).await.0, 200);
    let refused = MIGRATOR.run(&db).await;
    assert!(
        matches!(refused, Err(MigrateError::VersionMissing(_))),
        "{refused:?}"
    );
    let older = "DELETE FROM _sqlx_migrations WHERE version IN
                 (SELECT version FROM _sqlx_migrations ORDER BY version DESC LIMIT 2)";
    change(&db, older).await;
    assert_eq!(
        readiness(&origin).await,
        (503, json!({"ready": false, "failing": ["schema"]}))
    );
}

/// As when a new version is rolled out: several start at once, and people go on meanwhile.
#[sqlx::test(migrations = false)]
async fn several_migrate_at_once_while_people_spend(db: PgPool) {
    MIGRATOR
        .run_to(BEFORE, &db)
        .await
        .expect("the schema of before");
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let migrated = AtomicBool::new(false);
    let spending = async {
        let mut after = 0;
        // Ten more when it is done.
        while after < 10 {
            let is_done = migrated.load(Ordering::Relaxed);
            let charged = origin.spend(&ada, 0.01, None).await;
            assert_eq!(charged.status, 200, "{charged:?}");
            let answer = origin
                .refresh(&origin.login("ada@example.org").await.refresh)
                .await;
            assert_eq!(answer.status, 200, "{answer:?}");
            after += u32::from(is_done);
        }
    };
    let migrating = async {
        let all = join_all((0..3).map(|_| MIGRATOR.run(&db))).await;
        migrated.store(true, Ordering::Relaxed);
        for one in all {
            one.expect("each of them sees the schema of today");
        }
    };
    tokio::join!(spending, migrating);
    assert_eq!(readiness(&origin).await.0, 200);
    assert_ledger_adds_up(&db).await;
}

/// Its entries and its words move into the transactions, and what was done under a key or for a
/// reference is still found by it.
#[sqlx::test(migrations = false)]
async fn a_ledger_with_entries_beside_its_transactions_is_taken_over(db: PgPool) {
    let migrated = MIGRATOR.run_to(ENTRIES_BESIDE, &db).await;
    migrated.expect("the early schema");
    sqlx::raw_sql(SOMEBODY).execute(&db).await.expect("a user");
    let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
    let done = charge_and_hold(&db, ids, EARLY).await;
    assert_eq!(done.expect("a batch"), ["posted", "posted"]);
    assert_eq!(grant(&db).await, "posted");
    let entries = "SELECT count(*) FROM credits.entries";
    let before = count(&db, entries).await;

    MIGRATOR.run(&db).await.expect("the schema of today");
    assert_eq!(count(&db, entries).await, before);
    let ids = ["k", "h"].map(by_key);
    let done = charge_and_hold(&db, ids, LATEST).await;
    assert_eq!(done.expect("a batch"), ["replayed", "replayed"]);
    // A process from before would misread the answers.
    let by_old = charge_and_hold(&db, ids, EARLY).await;
    let refused = by_old.expect_err("another call");
    let refused = refused.as_database_error().expect("Postgres refuses");
    assert_eq!(refused.code().as_deref(), Some("42883"));
    assert_eq!(grant(&db).await, "replayed");
    let words = "SELECT string_agg(description, ' ' ORDER BY version) FROM credits.transactions";
    let words: String = sqlx::query_scalar(words)
        .fetch_one(&db)
        .await
        .expect("words");
    assert_eq!(words, "d d reason");
    let apart =
        "SELECT count(*) FROM credits.holds h JOIN credits.transactions t USING (user_id, version)
                 WHERE h.id <> t.id";
    assert_eq!(count(&db, apart).await, 0);
    assert_ledger_adds_up(&db).await;
}

/// As `deploy/` has it: who owns the schema, and runs each task of an operator, is no superuser.
#[sqlx::test(migrations = false)]
async fn the_owner_of_the_deployment_makes_the_schema_and_looks_after_it(db: PgPool) {
    let options = (*db.connect_options()).clone();
    let database = options.get_database().expect("a name").to_owned();
    // Roles are the whole server's: one of this test's own.
    let owner = format!("{database}_owner").to_lowercase();
    let script = include_str!("../../../deploy/postgres/roles.sh");
    let about_owner = |line: &&str| line.ends_with(';') && line.contains("tollgate_owner");
    let statements: Vec<String> = script
        .lines()
        .filter(about_owner)
        .map(|line| {
            line.replace("tollgate_owner", &format!("\"{owner}\""))
                .replace(":'owner'", "'a password'")
                .replace(":\"database\"", &format!("\"{database}\""))
        })
        .collect();
    assert_eq!(statements.len(), 3, "{statements:?}");
    // Other databases of the server have made the roles of the schema, or this one has.
    MIGRATOR.run(&db).await.expect("the roles");
    let none = "DROP SCHEMA auth, credits CASCADE; DROP TABLE _sqlx_migrations";
    sqlx::raw_sql(none).execute(&db).await.expect("no schema");
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&db)
            .await
            .expect("the script's");
    }
    let theirs = PgPool::connect_with(options.username(&owner).password("a password"))
        .await
        .expect("a connection");
    MIGRATOR.run(&theirs).await.expect("a schema");
    let origin = Origin::start(&theirs).await;
    let ada = origin.join("ada@example.org").await;
    origin.spend(&ada, 1.0, None).await;
    assert_ledger_adds_up(&theirs).await;
    theirs.close().await;
    for statement in [
        format!("ALTER DATABASE \"{database}\" OWNER TO CURRENT_USER"),
        format!("DROP OWNED BY \"{owner}\" CASCADE"),
        format!("DROP ROLE \"{owner}\""),
    ] {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&db)
            .await
            .expect("gone");
    }
}
