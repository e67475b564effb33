//! What one call of `credits.post_batch` does, in a row each as `credits.post` gives it: with the
//! charges of many, with what was done before, and with who may not.

use serde_json::json;
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use crate::{
    batcher,
    support::{Origin, add_lot, assert_ledger_adds_up, count},
};

/// Posts charges of each person's latest session by hand; they are sorted by user already.
async fn post(db: impl PgExecutor<'_>, charges: &[(&str, i64, Option<&str>)]) -> Vec<String> {
    let users: Vec<Uuid> = charges
        .iter()
        .map(|(user, ..)| user.parse().expect("an id"))
        .collect();
    let amounts: Vec<i64> = charges.iter().map(|(_, amount, _)| *amount).collect();
    let keys: Vec<Option<&str>> = charges.iter().map(|(_, _, key)| *key).collect();
    sqlx::query_scalar(
        "SELECT outcome FROM credits.post(
             false, array_fill('spend'::text, ARRAY[cardinality($1)]),
             ARRAY(
                 -- As the origin names what has a key.
                 SELECT CASE WHEN key IS NULL THEN gen_random_uuid() ELSE
                     encode(set_byte(set_byte(h, 6, get_byte(h, 6) & 15 | 128), 8, get_byte(h, 8) & 63 | 128), 'hex')::uuid
                 END
                 FROM unnest($3::text[]) WITH ORDINALITY AS k (key, i),
                      substr(sha256(convert_to(E'app\\n' || key, 'UTF8')), 1, 16) AS h
                 ORDER BY i
             ), $1, array_fill('user'::text, ARRAY[cardinality($1)]),
             ARRAY(SELECT coalesce((SELECT id FROM auth.sessions WHERE user_id = u), gen_random_uuid()) FROM unnest($1) u),
             array_fill('app'::text, ARRAY[cardinality($1)]), $2, array_fill('d'::text, ARRAY[cardinality($1)]),
             array_fill(NULL::jsonb, ARRAY[cardinality($1)]), $3, array_fill('x'::bytea, ARRAY[cardinality($1)]),
             array_fill(NULL::uuid, ARRAY[cardinality($1)]), array_fill(0, ARRAY[cardinality($1)]), 5000, false)
         ORDER BY place",
    )
    .bind(&users)
    .bind(&amounts)
    .bind(&keys)
    .fetch_all(db)
    .await
    .expect("a batch")
}

/// Two users, an unknown one, an overdraft, a key used before and one used for something else:
/// one batch, and each gets what it would have got alone.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_refused_charge_does_not_spoil_its_neighbours(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut people = [
        origin.join("ada@example.org").await,
        origin.join("eve@example.org").await,
    ];
    people.sort_by(|a, b| a.id.cmp(&b.id));
    let [first, second] = &people;
    for person in &people {
        origin.spend(person, 1.0, Some("used")).await;
    }
    let nobody = "ffffffff-ffff-7fff-8fff-ffffffffffff";
    let (a, b) = (first.id.as_str(), second.id.as_str());
    let outcomes = post(
        &db,
        &[
            (a, 1_000, Some("other values")),
            (a, 149_000, None),
            (a, 9_999, None),
            (a, 1_000, Some("used")),
            (b, 154_000, None),
            (b, 1, None),
            (nobody, 1, None),
        ],
    )
    .await;
    assert_eq!(
        outcomes,
        [
            "posted",
            "posted",
            "insufficient",
            "mismatch",
            "posted",
            "insufficient",
            "signed_out",
        ]
    );
    assert_ledger_adds_up(&db).await;
}

/// Nor from the wallet of whoever comes next.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_is_charged_who_has_no_wallet(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let mut people = [
        origin.join("ada@example.org").await,
        origin.join("eve@example.org").await,
    ];
    people.sort_by(|a, b| a.id.cmp(&b.id));
    let [first, second] = &people;
    sqlx::query("DELETE FROM credits.balances WHERE user_id = $1::uuid")
        .bind(&first.id)
        .execute(&db)
        .await
        .expect("no wallet");
    let outcomes = post(&db, &[(&first.id, 1, None), (&second.id, 1, None)]).await;
    assert_eq!(outcomes, ["unknown_user", "posted"]);
    assert_ledger_adds_up(&db).await;
}

/// A charge that takes from more lots than are read at once.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn one_charge_may_empty_many_lots(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let ada = origin.join("ada@example.org").await;
    for days in 1..=20 {
        add_lot(&db, "free", 1_000, Some(days)).await;
    }
    assert_eq!(origin.spend(&ada, 0.5, None).await.status, 200);
    assert_eq!(origin.spend(&ada, 18.0, None).await.status, 200);
    assert_eq!(
        count(&db, "SELECT count(*) FROM credits.grants WHERE burnable").await,
        2
    );
    origin
        .spend(&ada, 1.501, None)
        .await
        .is_problem(402, "INSUFFICIENT_CREDITS");
    assert_eq!(origin.spend(&ada, 1.5, None).await.status, 200);
    assert_ledger_adds_up(&db).await;
}

/// Free credits burn before paid ones, also where those had begun to burn.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_lot_that_comes_first_burns_before_one_that_burns_already(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let ada = origin.join("ada@example.org").await;
    add_lot(&db, "paid", 10_000, None).await;
    assert_eq!(origin.spend(&ada, 4.0, None).await.status, 200);
    assert_eq!(lots(&db).await, [("paid".to_owned(), 6_000)]);
    add_lot(&db, "free", 2_000, None).await;
    assert_eq!(origin.spend(&ada, 1.0, None).await.status, 200);
    let left = [("paid".to_owned(), 6_000), ("free".to_owned(), 1_000)];
    assert_eq!(lots(&db).await, left);
    assert_ledger_adds_up(&db).await;
    assert_eq!(origin.spend(&ada, 3.0, None).await.status, 200);
    let left = [("paid".to_owned(), 4_000), ("free".to_owned(), 0)];
    assert_eq!(lots(&db).await, left);
    assert_ledger_adds_up(&db).await;
}

/// What is left of each lot, the oldest first.
async fn lots(db: &PgPool) -> Vec<(String, i64)> {
    sqlx::query_as("SELECT kind, remaining FROM credits.lots ORDER BY version")
        .fetch_all(db)
        .await
        .expect("lots")
}

/// Nobody pays out of the lots of whoever is next in the batch, when many are used up.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn charges_of_one_batch_may_empty_many_lots(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let mut people = [
        origin.join("ada@example.org").await.id,
        origin.join("eve@example.org").await.id,
    ];
    people.sort();
    for days in 1..=20 {
        add_lot(&db, "free", 1_000, Some(days)).await;
    }
    let halves = people
        .iter()
        .flat_map(|person| [(person.as_str(), 500, None); 38]);
    let outcomes = post(&db, &halves.collect::<Vec<_>>()).await;
    assert_eq!(outcomes, ["posted"; 76]);
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM credits.lots WHERE remaining = 1000"
        )
        .await,
        2
    );
    assert_ledger_adds_up(&db).await;
}

/// Attempts one operation, whose id and hold are numbers, by the only session that there is; says
/// its outcome and what it was for.
async fn attempt(
    db: &PgPool,
    again: bool,
    (kind, id, hold): (&str, u128, Option<u128>),
) -> (String, Option<String>) {
    sqlx::query_as(
        "SELECT outcome, p.description FROM auth.sessions s, credits.post(
             $1, ARRAY[$2], ARRAY[$3], ARRAY[s.user_id], ARRAY['user'], ARRAY[s.id], ARRAY['app'], ARRAY[1000], ARRAY['d'],
             ARRAY[NULL::jsonb], ARRAY[NULL], ARRAY['1']::bytea[], ARRAY[$4], ARRAY[60], 0, false) p",
    )
    .bind(again)
    .bind(kind)
    .bind(Uuid::from_u128(id))
    .bind(hold.map(Uuid::from_u128))
    .fetch_one(db)
    .await
    .expect("an answer")
}

/// A retry after a lost connection carries the id of its first attempt.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_charge_without_a_key_is_found_by_its_id(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    for again in [false, true, true] {
        assert_eq!(attempt(&db, again, ("spend", 1, None)).await.0, "posted");
    }
    assert!((origin.spendable(&ada).await - 154.0).abs() < f64::EPSILON);
    assert_ledger_adds_up(&db).await;
}

/// Whoever was told nothing and then signed out would ask again, and pay twice.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_was_done_is_told_to_whoever_may_no_more(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.join("ada@example.org").await;
    let done = [
        ("spend", 1, None),
        ("hold", 2, None),
        ("capture", 3, Some(2)),
    ];
    for operation in done {
        assert_eq!(attempt(&db, false, operation).await.0, "posted");
    }
    sqlx::query("UPDATE auth.sessions SET revoked_at = now()")
        .execute(&db)
        .await
        .expect("an end");
    for operation in done {
        let (outcome, description) = attempt(&db, true, operation).await;
        assert_eq!(outcome, "posted", "{operation:?}");
        let is_settlement = operation.0 == "capture";
        assert_eq!(description.as_deref(), is_settlement.then_some("d"));
    }
    let (outcome, _) = attempt(&db, true, ("spend", 4, None)).await;
    assert_eq!(outcome, "signed_out");
    assert_ledger_adds_up(&db).await;
}

/// Each of a batch gets one answer, and its own, even if two name the same session.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_session_charges_nobody_but_its_own_user(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    for email in ["eve@example.org", "mallory@example.org"] {
        origin.join(email).await;
    }
    let outcomes: Vec<(Uuid, String)> = sqlx::query_as(
        "SELECT users[place], outcome FROM auth.sessions s,
             LATERAL (SELECT array_agg(user_id ORDER BY user_id) FROM credits.balances) AS u (users),
             credits.post(
                 false, array_fill('spend'::text, ARRAY[3]),
                 ARRAY[gen_random_uuid(), gen_random_uuid(), gen_random_uuid()], users, array_fill('user'::text, ARRAY[3]), array_fill(s.id, ARRAY[3]),
                 array_fill('app'::text, ARRAY[3]), array_fill(1000::bigint, ARRAY[3]), array_fill('d'::text, ARRAY[3]),
                 array_fill(NULL::jsonb, ARRAY[3]), array_fill(NULL::text, ARRAY[3]), array_fill('1'::bytea, ARRAY[3]),
                 array_fill(NULL::uuid, ARRAY[3]), array_fill(0, ARRAY[3]), 0, false)
         WHERE s.user_id = $1::uuid",
    )
    .bind(&ada.id)
    .fetch_all(&db)
    .await
    .expect("a batch");
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
    for (user, outcome) in outcomes {
        let is_ada = user.to_string() == ada.id;
        assert_eq!(outcome, if is_ada { "posted" } else { "signed_out" });
    }
}

/// What expires while a batch waits for somebody else's wallet is not spent.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nothing_that_expires_while_a_batch_waits_is_spent(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let mut people = [
        origin.join("ada@example.org").await.id,
        origin.join("eve@example.org").await.id,
    ];
    people.sort();
    let [first, second] = people.each_ref().map(String::as_str);
    add_lot(&db, "free", 1_000, Some(1)).await;
    let mut hold_up = db.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM credits.balances WHERE user_id = $1::uuid FOR UPDATE")
        .bind(second)
        .execute(&mut *hold_up)
        .await
        .expect("a lock");
    sqlx::query(
        "WITH soon AS (
             UPDATE credits.grants SET expires_at = now() + interval '1 second' WHERE user_id = $1::uuid RETURNING *
         ) UPDATE credits.balances b SET due_at = soon.expires_at FROM soon WHERE b.user_id = soon.user_id",
    )
    .bind(first)
    .execute(&db)
    .await
    .expect("an expiry");
    let charges = [(first, 1_000, None), (second, 1_000, None)];
    let (outcomes, ()) = tokio::join!(post(&db, &charges), async {
        batcher::waiting(&db, 1).await;
        batcher::until_true(
            &db,
            "SELECT bool_or(expires_at < clock_timestamp()) FROM credits.grants",
        )
        .await;
        hold_up.commit().await.expect("an end");
    });
    assert_eq!(outcomes, ["posted", "posted"]);
    let charged = "SELECT count(*) FROM credits.burned b JOIN credits.grants g
                     ON g.user_id = b.user_id AND g.version = b.lot
                   JOIN credits.transactions t ON t.user_id = b.user_id AND t.version = b.version
                   WHERE t.type = 'spend' AND g.expires_at < t.created_at";
    assert_eq!(count(&db, charged).await, 0);
    assert_ledger_adds_up(&db).await;
}

/// A charge looks up what it needs, however many rows its user has and however few the others.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_charge_does_not_read_the_history_of_its_user(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let charges = vec![(ada.id.as_str(), 1, None); 1_000];
    assert_eq!(post(&db, &charges).await, ["posted"; 1_000]);
    for statement in [
        "INSERT INTO auth.users (id, email, email_normalised)
         SELECT gen_random_uuid(), n, n FROM generate_series(1, 1000) n",
        "SELECT credits.open_wallet(id, sha256(id::text::bytea), 1) FROM auth.users WHERE email <> 'ada@example.org'",
        "ANALYZE",
    ] {
        sqlx::query(statement).execute(&db).await.expect("others");
    }
    let mut reading = db.begin().await.expect("a transaction");
    let fetched = "SELECT idx_tup_fetch FROM pg_stat_xact_all_tables WHERE relid = 'credits.transactions'::regclass";
    let before: i64 = sqlx::query_scalar(fetched)
        .fetch_one(&mut *reading)
        .await
        .expect("a count");
    let outcomes = post(&mut *reading, &[(&ada.id, 1, Some("key"))]).await;
    assert_eq!(outcomes, ["posted"]);
    let after: i64 = sqlx::query_scalar(fetched)
        .fetch_one(&mut *reading)
        .await
        .expect("a count");
    assert!(after - before < 10, "{} rows were read", after - before);
}

/// Whoever calls the function says who asks; a charge without a session is an app's or nobody's.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn without_a_session_an_app_charges_and_the_edge_settles_and_nobody_else(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    for (opener, kind) in [
        (Some("user"), "spend"),
        (Some("user"), "hold"),
        (Some("user"), "capture"),
        (Some("edge"), "spend"),
        (Some("edge"), "hold"),
        (Some("app:app"), "spend"),
        (None, "spend"),
    ] {
        let outcome: String = sqlx::query_scalar(
            "SELECT outcome FROM credits.post(
                 false, ARRAY[$2], ARRAY[gen_random_uuid()], ARRAY[$1::uuid], ARRAY[$3], ARRAY[NULL::uuid], ARRAY['app'],
                 ARRAY[1000], ARRAY['d'], ARRAY[NULL::jsonb], ARRAY[NULL], ARRAY['1']::bytea[],
                 ARRAY[gen_random_uuid()], ARRAY[60], 0, false)",
        )
        .bind(&ada.id)
        .bind(kind)
        .bind(opener)
        .fetch_one(&db)
        .await
        .expect("an answer");
        assert_eq!(outcome, "unknown_user", "{opener:?} {kind}");
    }
    assert_ledger_adds_up(&db).await;
}

/// Usage is read from the ledger, and counted when a thousand transactions are not: before that and
/// after it is the same, and a refund lowers what was counted before it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn usage_is_counted_by_the_thousand(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let admin = origin.join_as_admin(&db, "root@example.org").await;
    let used = async || {
        let path = "/api/v1/credits/usage?by=app";
        let line = origin.get(path, &ada.access).await.body[0].clone();
        (line["spent"].clone(), line["uses"].clone())
    };
    let counted = "SELECT coalesce(sum(spent), 0)::bigint FROM credits.usage_days";
    let thousand = vec![(ada.id.as_str(), 1, None); 1_000];

    let charge = origin.spend(&ada, 1.0, None).await;
    assert_eq!(used().await, (json!(1), json!(1)));
    assert_eq!(count(&db, counted).await, 0);
    post(&db, &thousand).await;
    assert_eq!(used().await, (json!(2), json!(1_001)));
    assert_eq!(count(&db, counted).await, 2_000);

    let refund = json!({
        "userId": ada.id, "transactionId": charge.body["transaction"]["id"], "reason": "sorry", "referenceId": "r",
    });
    let refunded = origin
        .post("/api/v1/credits/refunds", Some(&admin.access), &refund)
        .await;
    assert_eq!(refunded.status, 200, "{refunded:?}");
    assert_eq!(used().await, (json!(1), json!(1_001)));
    assert_eq!(count(&db, counted).await, 2_000);
    post(&db, &thousand).await;
    assert_eq!(used().await, (json!(2), json!(2_001)));
    assert_eq!(count(&db, counted).await, 2_000);
    assert_ledger_adds_up(&db).await;
}
