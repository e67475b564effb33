//! Who registers somebody else's address gains nothing by it.

use axum::http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    post_office::{
        Browser, FORGOT, HOME, LOGIN, MAGIC, MAGIC_VERIFY, NEW_PASSWORD, PostOffice, RESET, VERIFY,
    },
    support::{PASSWORD, count},
};

const LAX: &[&str] = &["--require-email-verification=false"];

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_reset_takes_the_account_from_who_squats_on_the_address(db: PgPool) {
    let office = PostOffice::open(&db).await;
    let mut squatter = Browser::default();
    office.register(&mut squatter, "ada@example.org").await;
    let verify = office.letter().await.token();
    let token = office.link(FORGOT, "ada@example.org").await;
    let body = json!({"token": token, "newPassword": NEW_PASSWORD});
    assert_eq!(
        office.origin.post(RESET, None, &body).await.status,
        StatusCode::OK
    );
    // Whatever the squatter could still have is worth nothing.
    let old = json!({"email": "ada@example.org", "password": PASSWORD});
    office
        .post(&mut squatter, LOGIN, &old)
        .await
        .is_problem(401, "INVALID_CREDENTIALS");
    let answer = office
        .post(&mut squatter, VERIFY, &json!({"token": verify}))
        .await;
    answer.is_problem(400, "INVALID_LINK");
    let new = json!({"email": "ada@example.org", "password": NEW_PASSWORD});
    let answer = office.origin.post(LOGIN, None, &new).await;
    assert_eq!(answer.status, StatusCode::OK, "and the address is verified");
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM credits.grants WHERE source = 'signup'"
        )
        .await,
        1
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sign_in_by_mail_takes_the_account_from_who_squats_on_the_address(db: PgPool) {
    let office = PostOffice::open_with(&db, LAX).await;
    let mut squatter = Browser::default();
    office.register(&mut squatter, "ada@example.org").await;
    let theirs = office.origin.login("ada@example.org").await;
    let token = office.link(MAGIC, "ada@example.org").await;
    let reset = office.link(FORGOT, "ada@example.org").await;
    let form = format!("token={token}");
    let answer = office
        .press(&mut Browser::default(), MAGIC_VERIFY, HOME, &form)
        .await;
    assert_eq!(answer.status, StatusCode::OK);

    office
        .origin
        .refresh(&theirs.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    let session = office
        .origin
        .get("/api/v1/auth/session", &theirs.access)
        .await;
    session.is_problem(401, "SESSION_REVOKED");
    let old = json!({"email": "ada@example.org", "password": PASSWORD});
    office
        .post(&mut squatter, LOGIN, &old)
        .await
        .is_problem(401, "INVALID_CREDENTIALS");
    let body = json!({"token": reset, "newPassword": NEW_PASSWORD});
    office
        .origin
        .post(RESET, None, &body)
        .await
        .is_problem(400, "INVALID_LINK");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.passwords").await, 0);
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.sessions WHERE revoked_at IS NULL"
        )
        .await,
        1
    );
    // The owner sets a password of their own by mail.
    let token = office.link(FORGOT, "ada@example.org").await;
    let body = json!({"token": token, "newPassword": NEW_PASSWORD});
    assert_eq!(
        office.origin.post(RESET, None, &body).await.status,
        StatusCode::OK
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sign_in_by_mail_leaves_a_verified_account_as_it_is(db: PgPool) {
    let office = PostOffice::open(&db).await;
    let ada = office.join("ada@example.org").await;
    let token = office.link(MAGIC, "ada@example.org").await;
    let form = format!("token={token}");
    let answer = office
        .press(&mut Browser::default(), MAGIC_VERIFY, HOME, &form)
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        office.origin.refresh(&ada.refresh).await.status,
        StatusCode::OK
    );
    office.origin.login("ada@example.org").await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_takes_over_an_account_that_was_disabled(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join("ada@example.org").await;
    let reset = office.link(FORGOT, "ada@example.org").await;
    sqlx::query("UPDATE auth.users SET status = 'banned'")
        .execute(&db)
        .await
        .expect("banned");
    let body = json!({"token": reset, "newPassword": NEW_PASSWORD});
    office
        .origin
        .post(RESET, None, &body)
        .await
        .is_problem(400, "INVALID_LINK");
    office
        .origin
        .post(MAGIC, None, &json!({"email": "ada@example.org"}))
        .await;
    assert!(office.letters().await.is_empty());
}
