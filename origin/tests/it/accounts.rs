use axum::http::StatusCode;
use futures_util::future::join_all;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Origin, PASSWORD, count};

const LOGIN: &str = "/api/v1/auth/login";
const REGISTER: &str = "/api/v1/auth/register";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_registers_can_sign_in_and_has_the_bonus(db: PgPool) {
    let origin = Origin::start(&db).await;
    let body = json!({"email": "Ada@Example.org", "password": PASSWORD, "name": "Ada", "referralCode": "x"});
    let answer = origin.post(REGISTER, None, &body).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.body["user"]["email"], "Ada@Example.org");
    assert_eq!(answer.body["user"]["role"], "user");

    let answer = origin
        .post(
            LOGIN,
            None,
            &json!({"email": "ada@example.ORG", "password": PASSWORD}),
        )
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        (&answer.body["expiresIn"], &answer.body["tokenType"]),
        (&json!(900), &json!("Bearer"))
    );
    let cookie = answer.headers["set-cookie"].to_str().expect("text");
    assert!(
        cookie.starts_with("tollgate=")
            && cookie.contains("HttpOnly")
            && cookie.contains("SameSite=Lax")
    );

    let person = origin.login("ada@example.org").await;
    assert!((origin.spendable(&person).await - 155.0).abs() < f64::EPSILON);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_address_is_taken_whatever_its_case(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    let again = json!({"email": "ADA@example.org", "password": PASSWORD});
    origin
        .post(REGISTER, None, &again)
        .await
        .is_problem(409, "EMAIL_TAKEN");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 1);
    assert_eq!(count(&db, "SELECT count(*) FROM credits.balances").await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn registering_at_once_makes_one_account_and_one_bonus(db: PgPool) {
    let origin = Origin::start(&db).await;
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let answers = join_all((0..8).map(|_| origin.post(REGISTER, None, &body))).await;
    let made = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::CREATED)
        .count();
    assert_eq!(made, 1);
    assert_eq!(count(&db, "SELECT count(*) FROM credits.grants").await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_unknown_address_and_a_wrong_password_get_the_same_answer(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    let wrong = json!({"email": "ada@example.org", "password": "wrong horse"});
    let unknown = json!({"email": "eve@example.org", "password": "wrong horse"});
    let mut wrong = origin.post(LOGIN, None, &wrong).await;
    let mut unknown = origin.post(LOGIN, None, &unknown).await;
    wrong.is_problem(401, "INVALID_CREDENTIALS");
    for answer in [&mut wrong, &mut unknown] {
        answer.body["instance"].take();
        answer.headers.remove("tollgate-request-id");
    }
    assert_eq!(
        (wrong.status, wrong.headers, wrong.body),
        (unknown.status, unknown.headers, unknown.body)
    );
    let failures =
        "SELECT count(*) FROM auth.security_events WHERE type = 'sign_in' AND outcome = 'failure'";
    assert_eq!(count(&db, failures).await, 2);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_unverified_address_is_told_after_the_right_password_alone(db: PgPool) {
    let flags = ["--require-email-verification=true", "--mail-dir=unused"];
    let origin = Origin::start_with(&db, &flags).await;
    origin.register("ada@example.org").await;
    assert_eq!(
        count(&db, "SELECT count(*) FROM credits.grants").await,
        0,
        "no bonus before it is usable"
    );
    let wrong = json!({"email": "ada@example.org", "password": "wrong horse"});
    origin
        .post(LOGIN, None, &wrong)
        .await
        .is_problem(401, "INVALID_CREDENTIALS");
    let right = json!({"email": "ada@example.org", "password": PASSWORD});
    origin
        .post(LOGIN, None, &right)
        .await
        .is_problem(403, "EMAIL_NOT_VERIFIED");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_banned_account_is_told_after_the_right_password_alone(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    sqlx::query("UPDATE auth.users SET status = 'banned'")
        .execute(&db)
        .await
        .expect("banned");
    let right = json!({"email": "ada@example.org", "password": PASSWORD});
    origin
        .post(LOGIN, None, &right)
        .await
        .is_problem(403, "ACCOUNT_DISABLED");
    origin
        .get("/api/v1/auth/session", &person.access)
        .await
        .is_problem(403, "ACCOUNT_DISABLED");
    origin
        .refresh(&person.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_password_is_hashed_again_when_the_parameters_changed(db: PgPool) {
    Origin::start(&db).await.register("ada@example.org").await;
    let phc = "SELECT count(*) FROM auth.passwords WHERE phc LIKE '$argon2id$v=19$m=128,t=2,p=1$%'";
    assert_eq!(count(&db, phc).await, 0);
    let stronger = Origin::start_with(&db, &["--argon2-memory-kib=128", "--argon2-passes=2"]).await;
    stronger.login("ada@example.org").await;
    assert_eq!(count(&db, phc).await, 1);
    stronger.login("ada@example.org").await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_full_password_queue_says_when_to_come_back(db: PgPool) {
    let flags = [
        "--password-workers=1",
        "--password-queue=0",
        "--argon2-memory-kib=4096",
    ];
    let origin = Origin::start_with(&db, &flags).await;
    origin.register("ada@example.org").await;
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let answers = join_all((0..8).map(|_| origin.post(LOGIN, None, &body))).await;
    let (served, refused): (Vec<_>, Vec<_>) = answers
        .iter()
        .partition(|answer| answer.status == StatusCode::OK);
    assert!(!served.is_empty() && !refused.is_empty(), "{answers:?}");
    for answer in refused {
        answer.is_problem(503, "OVERLOADED");
        assert_eq!(answer.headers["retry-after"], "2");
    }
    origin.login("ada@example.org").await;
}

/// What is remembered of an address that had its bonus outlives the account.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_address_has_its_bonus_once(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    sqlx::query("UPDATE auth.users SET email = '', email_normalised = '', status = 'deleted'")
        .execute(&db)
        .await
        .expect("deleted");
    let person = origin.join("Ada@example.org").await;
    assert!(
        (origin.spendable(&person).await - 5.0).abs() < f64::EPSILON,
        "only the day's"
    );
}
