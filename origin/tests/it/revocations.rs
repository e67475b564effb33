//! What ends tokens before their time, and how the edges hear of it.

use axum::{body::Body, http::Request};
use base64ct::{Base64UrlUnpadded, Encoding};
use origin::{keys, revocations, rim};
use serde_json::{Value, json};
use shared::{
    proof::Purpose,
    revocations::{Feed, PATH, Revocation, TAIL_SECS},
};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::{Duration, sleep, timeout};

use crate::{
    edge,
    support::{Answer, Origin, Person, count, sealing},
};

const SESSIONS: &str = "/api/v1/auth/sessions";

/// What the origin seals its keys with.
/// As an operator's command connects, or the origin's own reader.
async fn connect(db: &PgPool) -> PgConnection {
    PgConnection::connect_with(&db.connect_options())
        .await
        .expect("a connection")
}

/// Asks an internal path as an edge does, under a proof of this purpose.
async fn ask(origin: &Origin, target: &str, purpose: Purpose<'_>, body: &str) -> Answer {
    edge::ask(origin, ("GET", target), purpose, None, body.to_owned()).await
}

/// What the origin tells an edge that has heard everything up to `after`.
pub async fn feed(origin: &Origin, db: &PgPool, after: i64) -> Feed {
    revocations::catch_up(&origin.app, &mut connect(db).await)
        .await
        .expect("a look");
    let target = format!("{PATH}?after={after}");
    let answer = ask(origin, &target, Purpose::Internal(b""), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_value(answer.body).expect("a feed")
}

/// What a token says.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    let payload = Base64UrlUnpadded::decode_vec(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("claims")
}

fn session_of(person: &Person) -> Value {
    claims(&person.access)["sid"].clone()
}

/// What a revocation is about, for comparisons.
fn subject(revocation: &Revocation) -> (&'static str, Value) {
    match revocation {
        Revocation::Session { id, .. } => ("session", json!(id)),
        Revocation::User { id, .. } => ("user", json!(id)),
        Revocation::Key { id, .. } => ("key", json!(id)),
    }
}

fn end(person: &Person, session: &Value) -> Request<Body> {
    let id = session.as_str().expect("an id");
    let request = Request::delete(format!("{SESSIONS}/{id}"));
    let request = request.header("authorization", format!("Bearer {}", person.access));
    request.body(Body::empty()).expect("a request")
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn whatever_ends_tokens_is_told_once(db: PgPool) {
    let origin = Origin::start_with(&db, &["--refresh-grace=0s"]).await;
    let ada = origin.join("ada@example.org").await;
    let login = async || origin.login("ada@example.org").await;
    let (by_token, by_refresh, by_list, reused) =
        (login().await, login().await, login().await, login().await);
    let mut expected = Vec::new();

    let body = json!({});
    for _ in ["signs out", "had signed out"] {
        let token = Some(by_token.access.as_str());
        origin.post("/api/v1/auth/logout", token, &body).await;
    }
    expected.push(("session", session_of(&by_token)));
    let body = json!({"refreshToken": by_refresh.refresh});
    for _ in ["signs out", "had signed out"] {
        origin.post("/api/v1/auth/logout", None, &body).await;
    }
    expected.push(("session", session_of(&by_refresh)));

    for _ in ["ends", "had ended"] {
        origin.send(end(&ada, &session_of(&by_list))).await;
    }
    let eve = origin.join("eve@example.org").await;
    let foreign = origin.send(end(&eve, &session_of(&ada))).await;
    foreign.is_problem(404, "NOT_FOUND");
    expected.push(("session", session_of(&by_list)));

    let first = origin.refresh(&reused.refresh).await.body;
    let second = first["refreshToken"].as_str().expect("a token").to_owned();
    assert_eq!(origin.refresh(&second).await.status, 200);
    for _ in ["is reuse", "is too late"] {
        let reuse = origin.refresh(&reused.refresh).await;
        reuse.is_problem(401, "INVALID_REFRESH_TOKEN");
    }
    expected.push(("session", session_of(&reused)));

    let token = Some(ada.access.as_str());
    origin.post("/api/v1/auth/logout-all", token, &body).await;
    expected.push(("user", json!(ada.id)));

    let kid = origin.get("/api/v1/auth/jwks", "").await.body["keys"][0]["kid"].clone();
    let (mut operator, name) = (connect(&db).await, kid.as_str().expect("a kid"));
    keys::revoke(&mut operator, &sealing(), name, rim::now())
        .await
        .expect("revoked");
    expected.push(("key", kid));

    let told = feed(&origin, &db, 0).await;
    let told: Vec<_> = told.revocations.iter().map(subject).collect();
    assert_eq!(told, expected);
}

/// The next second has not begun yet, and the new tokens are good.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_signs_in_at_once_after_signing_out_everywhere_has_a_good_token(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    for _ in 0..3 {
        let before = origin.login("ada@example.org").await;
        let token = Some(before.access.as_str());
        let cursor = feed(&origin, &db, 0).await.cursor;
        origin
            .post("/api/v1/auth/logout-all", token, &json!({}))
            .await;
        let after = origin.login("ada@example.org").await;
        let refreshed = origin.refresh(&after.refresh).await.body;
        let refreshed = refreshed["accessToken"].as_str().expect("a token");

        let told = feed(&origin, &db, cursor).await.revocations;
        let [
            Revocation::User {
                not_before, until, ..
            },
        ] = told.as_slice()
        else {
            panic!("one of the user's: {told:?}");
        };
        let iat = |token: &str| claims(token)["iat"].as_i64().expect("a time");
        assert!(iat(&before.access) < *not_before);
        assert!(iat(&after.access) >= *not_before);
        assert!(iat(refreshed) >= *not_before);
        assert!((*until - not_before - TAIL_SECS) <= 1, "{told:?}");
        let exp = claims(&before.access)["exp"].as_i64().expect("a time");
        assert!(exp + 30 < *until, "no token outlives what revokes it");
        let session = origin.get("/api/v1/auth/session", &after.access).await;
        assert_eq!(session.status, 200);
    }
}

/// The clock that `iat` comes from is the one that `not_before` comes from: were it another, and
/// ahead, a token of before would pass for one of after.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn tokens_are_minted_by_the_databases_clock(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    sqlx::query(
        "INSERT INTO auth.revocations (user_id, not_before) VALUES ($1::uuid, date_trunc('second', now()) + interval '1 hour')",
    )
    .bind(&ada.id)
    .execute(&db)
    .await
    .expect("a row of the future");
    let later = rim::now().timestamp() + 3_590;
    for token in [
        origin.login("ada@example.org").await.access,
        origin.refresh(&ada.refresh).await.body["accessToken"]
            .as_str()
            .expect("a token")
            .to_owned(),
    ] {
        assert!(claims(&token)["iat"].as_i64() > Some(later));
    }
    assert!(claims(&ada.access)["iat"].as_i64() < Some(later));
}

/// Two transactions append, and the one that began last wants to commit first. It must wait: a
/// reader that had seen its row would never look for the other one.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn transactions_that_commit_out_of_order_lose_nothing(db: PgPool) {
    let origin = Origin::start(&db).await;
    let append = "INSERT INTO auth.revocations (user_id, session_id) VALUES (gen_random_uuid(), gen_random_uuid())";
    let mut slow = db.begin().await.expect("a transaction");
    sqlx::query(append)
        .execute(&mut *slow)
        .await
        .expect("a row");
    let quick = tokio::spawn({
        let db = db.clone();
        async move { sqlx::query(append).execute(&db).await.expect("a row") }
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    until("the quick one waits, or is done", async || {
        quick.is_finished() || count(&db, waits).await == 1
    })
    .await;
    let first = feed(&origin, &db, 0).await;
    slow.commit().await.expect("a commit");
    quick.await.expect("no panic");
    let second = feed(&origin, &db, first.cursor).await;
    let heard = first.revocations.len() + second.revocations.len();
    assert_eq!((heard, second.more), (2, false));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_reader_that_follows_many_writers_hears_of_every_row(db: PgPool) {
    const WRITERS: i64 = 6;
    const ROWS: i64 = 20;
    let origin = Origin::start(&db).await;
    let writers = (0..WRITERS).map(|_| {
        let db = db.clone();
        tokio::spawn(async move {
            for row in 0..ROWS {
                let mut transaction = db.begin().await.expect("a transaction");
                sqlx::query("INSERT INTO auth.revocations (user_id, session_id) VALUES (gen_random_uuid(), gen_random_uuid())")
                    .execute(&mut *transaction)
                    .await
                    .expect("a row");
                sqlx::query("SELECT pg_sleep(random() * 0.004)")
                    .execute(&mut *transaction)
                    .await
                    .expect("a while");
                if row % 5 == 4 {
                    transaction
                        .rollback()
                        .await
                        .expect("a cursor that nobody has");
                } else {
                    transaction.commit().await.expect("a commit");
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let (mut heard, mut cursor, mut done) = (0, 0, false);
    while !done {
        done = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let told = feed(&origin, &db, cursor).await;
        heard += told.revocations.len();
        cursor = told.cursor;
    }
    assert_eq!(i64::try_from(heard).expect("few"), WRITERS * ROWS * 4 / 5);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_feed_is_opened_by_a_proof_for_internal_calls_alone(db: PgPool) {
    let origin = Origin::start(&db).await;
    let target = format!("{PATH}?after=0");
    let unread = ask(&origin, &target, Purpose::Internal(b""), "").await;
    unread.is_problem(503, "DATABASE_UNAVAILABLE");
    feed(&origin, &db, 0).await;
    let good = ask(&origin, &target, Purpose::Internal(b""), "").await;
    assert_eq!(
        (good.status.as_u16(), &good.headers["cache-control"]),
        (200, &"no-store".parse().expect("text"))
    );

    let forwarded = ask(&origin, &target, Purpose::Forward, "").await;
    forwarded.is_problem(403, "EDGE_PROOF_INVALID");
    for (proven, sent) in [("", "more"), ("less", "")] {
        let answer = ask(&origin, &target, Purpose::Internal(proven.as_bytes()), sent).await;
        answer.is_problem(403, "EDGE_PROOF_INVALID");
    }
    let ada = origin.join("ada@example.org").await;
    for path in [&target, "/internal", "/internal/anything"] {
        let unproven = origin.get(path, &ada.access).await;
        unproven.is_problem(403, "EDGE_PROOF_INVALID");
    }
    let unknown = ask(&origin, "/internal/anything", Purpose::Internal(b""), "").await;
    unknown.is_problem(404, "NOT_FOUND");
    let public = ask(&origin, "/api/v1/auth/jwks", Purpose::Internal(b""), "").await;
    public.is_problem(403, "EDGE_PROOF_INVALID");
    for query in ["", "?after=x", "?after=1&after=2"] {
        let answer = ask(
            &origin,
            &format!("{PATH}{query}"),
            Purpose::Internal(b""),
            "",
        )
        .await;
        answer.is_problem(400, "INVALID_REQUEST");
    }
}

/// Two replicas, of which one hears of what the other does.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn every_replica_tells_within_a_moment(db: PgPool) {
    let (here, there) = (Origin::start(&db).await, Origin::start(&db).await);
    tokio::spawn(revocations::follow(there.app.clone()));
    let ask_there = async || {
        let answer = ask(
            &there,
            &format!("{PATH}?after=0"),
            Purpose::Internal(b""),
            "",
        )
        .await;
        serde_json::from_value::<Feed>(answer.body).ok()
    };
    until("the feed is read", async || ask_there().await.is_some()).await;
    let ada = here.join("ada@example.org").await;
    here.post("/api/v1/auth/logout", Some(&ada.access), &json!({}))
        .await;
    let ended = std::time::Instant::now();
    until("the other one tells", async || {
        ask_there()
            .await
            .is_some_and(|feed| !feed.revocations.is_empty())
    })
    .await;
    // 100 ms, and what a busy machine takes.
    assert!(
        ended.elapsed() < Duration::from_secs(1),
        "{:?}",
        ended.elapsed()
    );
    let feed = ask_there().await.expect("a feed");
    assert!(feed.age_millis < 1_000, "{feed:?}");
}

/// As an operator does with the one that signs.
async fn revoke_the_key(origin: &Origin, db: &PgPool) {
    let kid = origin.get("/api/v1/auth/jwks", "").await.body["keys"][0]["kid"].clone();
    let kid = kid.as_str().expect("a kid");
    keys::revoke(&mut connect(db).await, &sealing(), kid, rim::now())
        .await
        .expect("revoked");
}

/// No replica goes on believing a stolen key until it looks at the keys by itself.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_replica_that_hears_of_a_revoked_key_drops_it_and_signs_with_another(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    revoke_the_key(&origin, &db).await;
    feed(&origin, &db, 0).await;
    until("the key is dropped", async || {
        let session = origin.get("/api/v1/auth/session", &ada.access).await;
        session.status == 401
    })
    .await;
    let refreshed = origin.refresh(&ada.refresh).await.body;
    let token = refreshed["accessToken"].as_str().expect("a token");
    let session = origin.get("/api/v1/auth/session", token).await;
    assert_eq!(session.status, 200, "nobody is signed out");
}

/// It is looked for again until the database has the keys, though the feed has long gone on.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_revoked_key_is_dropped_by_a_later_look_if_not_at_once(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    revoke_the_key(&origin, &db).await;
    let mut slow = db.begin().await.expect("a transaction");
    sqlx::query("LOCK auth.signing_keys")
        .execute(&mut *slow)
        .await
        .expect("a lock");
    feed(&origin, &db, 0).await;
    let status = async || {
        let session = origin.get("/api/v1/auth/session", &ada.access).await;
        session.status.as_u16()
    };
    assert_eq!(status().await, 200, "it is here still");

    let fails = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert_eq!(count(&db, fails).await, 1);
    slow.rollback().await.expect("an end");
    until("the key is dropped", async || {
        feed(&origin, &db, 0).await;
        status().await == 401
    })
    .await;
}

/// A change of the account that withdraws tokens: a refresh that comes meanwhile waits, and its
/// token says what is true afterwards.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn no_refresh_slips_past_a_change_of_the_account(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join_as_admin(&db, "ada@example.org").await;
    let mut change = db.begin().await.expect("a transaction");
    for statement in [
        "SELECT set_config('tollgate.user', $1, true)",
        "UPDATE auth.users SET role = 'user' WHERE id = $1::uuid",
    ] {
        sqlx::query(statement)
            .bind(&ada.id)
            .execute(&mut *change)
            .await
            .expect("a change");
    }
    let id = ada.id.parse().expect("an id");
    revocations::append_user(&mut change, id)
        .await
        .expect("a row");
    let refresh = origin.refresh(&ada.refresh);
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')";
    let (refreshed, ()) = tokio::join!(refresh, async {
        until("the refresh waits", async || count(&db, waits).await > 0).await;
        change.commit().await.expect("a commit");
    });
    assert_eq!(refreshed.status, 200, "the session lives on");
    let token = claims(refreshed.body["accessToken"].as_str().expect("a token"));
    assert_eq!(token["role"], "user");
    let told = feed(&origin, &db, 0).await.revocations;
    let [Revocation::User { not_before, .. }] = told.as_slice() else {
        panic!("one of the user's: {told:?}");
    };
    assert!(token["iat"].as_i64() >= Some(*not_before));
    assert!(claims(&ada.access)["iat"].as_i64() < Some(*not_before));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_concerns_no_token_any_more_is_dropped(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    origin
        .post("/api/v1/auth/logout-all", Some(&ada.access), &json!({}))
        .await;
    sqlx::query(
        "INSERT INTO auth.revocations (kid, until) VALUES ('gone', now() - interval '1 second')",
    )
    .execute(&db)
    .await
    .expect("a row that is over");
    sqlx::query("SELECT auth.sweep_revocations()")
        .execute(origin.app.db.pool())
        .await
        .expect("a sweep");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.revocations").await, 1);
}

/// Under row-level security nobody ends a session of somebody else's by naming it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_runtime_role_appends_for_its_user_alone(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (ada, eve) = (
        origin.join("ada@example.org").await,
        origin.join("eve@example.org").await,
    );
    let id = |text: &str| text.parse::<shared::ids::UserId>().expect("an id");
    for (user, of, allowed) in [(&ada, &ada, true), (&ada, &eve, false), (&eve, &eve, false)] {
        let mut as_ada = origin
            .app
            .db
            .as_user(id(&ada.id))
            .await
            .expect("a transaction");
        let appended = sqlx::query(
            "INSERT INTO auth.revocations (user_id, session_id) VALUES ($1::uuid, $2::uuid)",
        )
        .bind(&user.id)
        .bind(session_of(of).as_str())
        .execute(&mut *as_ada)
        .await;
        assert_eq!(appended.is_ok(), allowed, "{appended:?}");
    }
    let mut as_ada = origin
        .app
        .db
        .as_user(id(&ada.id))
        .await
        .expect("a transaction");
    let forged =
        sqlx::query("INSERT INTO auth.revocations (user_id, session_id, until) VALUES ($1::uuid, $2::uuid, now())")
            .bind(&ada.id)
            .bind(session_of(&ada).as_str())
            .execute(&mut *as_ada)
            .await;
    assert!(forged.is_err(), "times are the table's own");
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let holds = async {
        while !condition().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(Duration::from_secs(10), holds).await;
    assert!(waited.is_ok(), "never happened: {what}");
}
