//! Setting another password.

use axum::http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    post_office::{Browser, FORGOT, HOME, LOGIN, NEW_PASSWORD, PostOffice, RESET},
    support::{PASSWORD, count, waiting},
};

const MAGIC: &str = "/api/v1/auth/magic-link";
const CHANGE: &str = "/api/v1/auth/change-password";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_reset_signs_every_device_out_and_tells_the_owner(db: PgPool) {
    let office = PostOffice::open(&db).await;
    let ada = office.join("ada@example.org").await;
    let eve = office.join("eve@example.org").await;
    let token = office.link(FORGOT, "ada@example.org").await;
    let short = json!({"token": token, "newPassword": "short"});
    let answer = office.origin.post(RESET, None, &short).await;
    assert_eq!(
        answer.is_problem(400, "VALIDATION_FAILED").pointers(),
        ["/newPassword"]
    );
    let body = json!({"token": token, "newPassword": NEW_PASSWORD});
    let answer = office.origin.post(RESET, None, &body).await;
    assert_eq!(
        (answer.status, &answer.body["success"]),
        (StatusCode::OK, &json!(true))
    );

    office
        .origin
        .refresh(&ada.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    assert_eq!(
        office.origin.refresh(&eve.refresh).await.status,
        StatusCode::OK
    );
    let old = json!({"email": "ada@example.org", "password": PASSWORD});
    office
        .origin
        .post(LOGIN, None, &old)
        .await
        .is_problem(401, "INVALID_CREDENTIALS");
    let new = json!({"email": "ada@example.org", "password": NEW_PASSWORD});
    assert_eq!(
        office.origin.post(LOGIN, None, &new).await.status,
        StatusCode::OK
    );
    let letters = office.letters().await;
    let told = letters
        .iter()
        .filter(|letter| letter.header("Subject") == "Your password was changed");
    assert_eq!(told.count(), 1, "{letters:?}");
    let events = "SELECT count(*) FROM auth.security_events WHERE type = 'password_reset'";
    assert_eq!(count(&db, events).await, 1);
}

/// Whoever guesses at an account slows down strangers, and not its owner in the browser that resets,
/// whose own failures from before are forgotten too.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_resets_the_password_gets_in_with_it_whoever_guesses(db: PgPool) {
    let flags = ["--require-email-verification=true", "--limit-scale=1"];
    let office = PostOffice::open_with(&db, &flags).await;
    office.join("ada@example.org").await;
    let mut browser = Browser::default();
    let right = json!({"email": "ada@example.org", "password": PASSWORD});
    office.post(&mut browser, LOGIN, &right).await;
    let token = office.link(FORGOT, "ada@example.org").await;
    let wrong = json!({"email": "ada@example.org", "password": "wrong horse"});
    for _ in 0..20 {
        office.origin.post(LOGIN, None, &wrong).await;
        office.post(&mut browser, LOGIN, &wrong).await;
    }
    let body = json!({"token": token, "newPassword": NEW_PASSWORD});
    let answer = office.post(&mut browser, RESET, &body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let new = json!({"email": "ada@example.org", "password": NEW_PASSWORD});
    let stranger = office.origin.post(LOGIN, None, &new).await;
    stranger.is_problem(429, "RATE_LIMITED");
    let owner = office.post(&mut browser, LOGIN, &new).await;
    assert_eq!(owner.status, StatusCode::OK, "{owner:?}");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_page_of_a_reset_does_it_too(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join("ada@example.org").await;
    let token = office.link(FORGOT, "ada@example.org").await;
    let form = format!("token={token}&newPassword=battery+staple");
    let mut browser = Browser::default();
    for origin in ["https://evil.test", "null", "http://127.0.0.1:8788", ""] {
        let answer = office.press(&mut browser, RESET, origin, &form).await;
        answer.is_problem(403, "FOREIGN_PAGE");
    }
    let answer = office.press(&mut browser, RESET, HOME, &form).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(
        answer
            .body
            .as_str()
            .expect("HTML")
            .contains("The new password is set")
    );
    let answer = office.press(&mut browser, RESET, HOME, &form).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(
        answer
            .body
            .as_str()
            .expect("HTML")
            .contains("not valid any more")
    );
    let new = json!({"email": "ada@example.org", "password": NEW_PASSWORD});
    assert_eq!(
        office.origin.post(LOGIN, None, &new).await.status,
        StatusCode::OK
    );
}

/// Who knew the password and signs in with it at that very moment does not stay.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_password_that_changes_while_it_is_compared_lets_nobody_in(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join("ada@example.org").await;
    let mut change = db.begin().await.expect("a transaction");
    sqlx::query("UPDATE auth.passwords SET changed_at = clock_timestamp()")
        .execute(&mut *change)
        .await
        .expect("another password");
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let sign_in = office.origin.post(LOGIN, None, &body);
    let settled = async {
        waiting(&db, 1).await;
        change.commit().await.expect("changed");
    };
    let both = async { tokio::join!(sign_in, settled).0 };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(20), both).await;
    let answer = answer.expect("it waits for the change");
    answer.is_problem(401, "INVALID_CREDENTIALS");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_password_is_changed_by_who_knows_it(db: PgPool) {
    let office = PostOffice::open(&db).await;
    let ada = office.join("ada@example.org").await;
    let other = office.origin.login("ada@example.org").await;
    office.letters().await;
    let change = async |current: &str, new: &str, revoke_others: bool| {
        let body =
            json!({"currentPassword": current, "newPassword": new, "revokeOthers": revoke_others});
        office.origin.post(CHANGE, Some(&ada.access), &body).await
    };
    let wrong = change("wrong horse", NEW_PASSWORD, true).await;
    wrong.is_problem(401, "INVALID_CREDENTIALS");
    let nobody = json!({"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD});
    office
        .origin
        .post(CHANGE, None, &nobody)
        .await
        .is_problem(401, "UNAUTHENTICATED");

    assert_eq!(
        change(PASSWORD, NEW_PASSWORD, false).await.status,
        StatusCode::OK
    );
    let other = office.origin.refresh(&other.refresh).await;
    assert_eq!(other.status, StatusCode::OK, "others stay signed in");
    assert_eq!(
        office.letter().await.header("Subject"),
        "Your password was changed"
    );

    assert_eq!(
        change(NEW_PASSWORD, PASSWORD, true).await.status,
        StatusCode::OK
    );
    let other = crate::support::text(&other.body["refreshToken"]);
    office
        .origin
        .refresh(&other)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    assert_eq!(
        office.origin.refresh(&ada.refresh).await.status,
        StatusCode::OK
    );
    office.origin.login("ada@example.org").await;
}

/// A thief who knows the password, too, cannot keep its owner from setting another; and a link to
/// sign in by, which may be the thief's, is void once the owner has changed the password.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn changing_the_password_voids_links_to_sign_in_by_and_none_to_reset_it(db: PgPool) {
    let office = PostOffice::open(&db).await;
    let ada = office.join("ada@example.org").await;
    let reset = office.link(FORGOT, "ada@example.org").await;
    let magic = office.link(MAGIC, "ada@example.org").await;
    let body = json!({"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD});
    let changed = office.origin.post(CHANGE, Some(&ada.access), &body).await;
    assert_eq!(changed.status, StatusCode::OK);
    let body = json!({ "token": magic });
    office
        .origin
        .post("/api/v1/auth/magic-link/verify", None, &body)
        .await
        .is_problem(400, "INVALID_LINK");
    let body = json!({"token": reset, "newPassword": "a third one"});
    let done = office.origin.post(RESET, None, &body).await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    let refreshed = office.origin.refresh(&ada.refresh).await;
    refreshed.is_problem(401, "INVALID_REFRESH_TOKEN");
}
