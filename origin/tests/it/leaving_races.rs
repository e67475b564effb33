//! Whoever leaves while a request of theirs is under way leaves nothing behind.

use std::time::Duration;

use axum::http::{Request, header};
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::time::timeout;

use crate::{
    leaving::{WORDS, clear_words, leave, rows_with},
    support::{Answer, Origin, PASSWORD, count, waiting},
};

const AGENT: &str = "Difference Engine";

/// A call from a browser whose name would stay in whatever is written of it.
async fn call(
    origin: &Origin,
    (method, path): (&str, &str),
    token: Option<&str>,
    body: &Value,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, AGENT);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(body.to_string().into()).expect("a request");
    origin.send(request).await
}

/// A deletion that has the account, and nothing else of its owner's yet.
async fn begin_to_leave(origin: &Origin, user: &str) -> Transaction<'static, Postgres> {
    let mut leaving = origin.app.db.pool().begin().await.expect("a transaction");
    for statement in [
        format!("SELECT set_config('tollgate.user', '{user}', true)"),
        "SELECT FROM auth.users FOR UPDATE".to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut *leaving)
            .await
            .expect("a deletion begins");
    }
    leaving
}

/// The deletion's end.
async fn gone(mut leaving: Transaction<'static, Postgres>) {
    sqlx::query("SELECT auth.delete_account()")
        .execute(&mut *leaving)
        .await
        .expect("neither waits for the other");
    leaving.commit().await.expect("gone");
}

/// The account of somebody is deleted while they ask for something: the request has passed every
/// look at the account, and waits where it first meets the deletion, which then does its work.
pub async fn overtaken(
    db: &PgPool,
    origin: &Origin,
    user: &str,
    request: impl Future<Output = Answer>,
) -> Answer {
    let leaving = begin_to_leave(origin, user).await;
    let gone = async {
        waiting(db, 1).await;
        gone(leaving).await;
    };
    let both = async { tokio::join!(request, gone).0 };
    let answer = timeout(Duration::from_secs(20), both).await;
    answer.expect("the request waits for the deletion")
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_request_that_a_deletion_overtakes_writes_nothing(db: PgPool) {
    let origin = Origin::start(&db).await;
    let [profile, factor, events] = [
        ("PATCH", "/api/v1/auth/profile"),
        ("POST", "/api/v1/auth/mfa/totp"),
        ("POST", "/api/v1/auth/sessions/revoke-others"),
    ];
    for (at, (asked, body)) in [
        (profile, json!({"name": "Ada L"})),
        (factor, json!({})),
        (events, json!({})),
    ]
    .into_iter()
    .enumerate()
    {
        let ada = origin.join(&format!("ada{at}@example.org")).await;
        let request = call(&origin, asked, Some(&ada.access), &body);
        overtaken(&db, &origin, &ada.id, request)
            .await
            .is_problem(403, "ACCOUNT_DISABLED");
        for left in [AGENT, "Ada L"] {
            assert_eq!(rows_with(&db, left).await, [], "{asked:?}");
        }
        assert_eq!(count(&db, "SELECT count(*) FROM auth.totp").await, 0);
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sign_in_that_a_deletion_overtakes_opens_nothing(db: PgPool) {
    let origin = Origin::start(&db).await;
    let user = origin.register("ada@example.org").await;
    let login = json!({"email": "ada@example.org", "password": PASSWORD});
    let request = call(&origin, ("POST", "/api/v1/auth/login"), None, &login);
    overtaken(&db, &origin, &user, request)
        .await
        .is_problem(403, "ACCOUNT_DISABLED");
    assert_eq!(rows_with(&db, AGENT).await, []);
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_failure_that_a_deletion_overtakes_is_nobodys(db: PgPool) {
    let origin = Origin::start(&db).await;
    let user = origin.register("ada@example.org").await;
    let login = json!({"email": "ada@example.org", "password": "wrong horse"});
    let request = call(&origin, ("POST", "/api/v1/auth/login"), None, &login);
    overtaken(&db, &origin, &user, request)
        .await
        .is_problem(401, "INVALID_CREDENTIALS");
    let theirs = "SELECT count(*) FROM auth.security_events WHERE user_id IS NOT NULL AND type <> 'account_deleted'";
    assert_eq!(count(&db, theirs).await, 0);
}

/// A charge that was let in before holds the wallet: what clears the words waits for it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_words_of_a_charge_that_a_deletion_overtakes_go_too(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let mut hold_up = db.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE credits.grants IN EXCLUSIVE MODE")
        .execute(&mut *hold_up)
        .await
        .expect("a lock");
    let clear = async { while clear_words(&db, 1_000).await {} };
    let rest = async {
        waiting(&db, 1).await;
        assert_eq!(leave(&origin, &ada).await.status, 200);
        tokio::join!(clear, async {
            waiting(&db, 2).await;
            hold_up.commit().await.expect("an end");
        });
    };
    let both = async { tokio::join!(origin.spend(&ada, 1.0, None), rest).0 };
    let charged = timeout(Duration::from_secs(20), both).await;
    let charged = charged.expect("what clears waits for the charge");
    assert_eq!(charged.status, 200, "{charged:?}");
    assert_eq!(count(&db, WORDS).await, 0);
}

/// A stolen refresh token that is noticed at that moment: it is written down before, or not at all.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_refresh_and_a_deletion_do_not_wait_for_each_other(db: PgPool) {
    let origin = Origin::start_with(&db, &["--refresh-grace=0s"]).await;
    let ada = origin.join("ada@example.org").await;
    let mut latest = ada.refresh.clone();
    for _ in 0..2 {
        let answer = origin.refresh(&latest).await;
        latest = crate::support::text(&answer.body["refreshToken"]);
    }
    let leaving = begin_to_leave(&origin, &ada.id).await;
    let stolen = timeout(Duration::from_secs(5), origin.refresh(&ada.refresh)).await;
    stolen
        .expect("it does not wait")
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    gone(leaving).await;
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.security_events WHERE type = 'refresh_reuse'"
        )
        .await,
        0
    );
}
