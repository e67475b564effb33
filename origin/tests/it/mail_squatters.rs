//! Who registers somebody else's address gains nothing by it.

use axum::http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    post_office::{
        Browser, FORGOT, HOME, LOGIN, MAGIC, MAGIC_VERIFY, NEW_PASSWORD, PostOffice, RESET, VERIFY,
    },
    second_factor::join_guarded,
    support::{PASSWORD, count, waiting},
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

/// Whoever reads somebody's mail is not past their second factor by it, verified or not.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sign_in_by_mail_leaves_an_unverified_account_its_second_factor(db: PgPool) {
    let office = PostOffice::open_with(&db, LAX).await;
    let ada = join_guarded(&office.origin, &db, "ada@example.org").await;
    let token = office.link(MAGIC, "ada@example.org").await;
    let form = format!("token={token}");
    let answer = office
        .press(&mut Browser::default(), MAGIC_VERIFY, HOME, &form)
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(
        answer
            .body
            .as_str()
            .is_some_and(|page| page.contains("One more step"))
    );
    let live = "SELECT count(*) FROM auth.sessions WHERE revoked_at IS NULL";
    assert_eq!(count(&db, live).await, 0, "and whoever was in is out");
    let told = "SELECT count(*) FROM auth.revocations WHERE session_id IS NOT NULL";
    assert_eq!(count(&db, told).await, 1, "at the edge too");
    // Its owner has both.
    let token = office.link(FORGOT, "ada@example.org").await;
    let body = json!({"token": token, "newPassword": NEW_PASSWORD});
    office.origin.post(RESET, None, &body).await;
    let login = json!({"email": "ada@example.org", "password": NEW_PASSWORD});
    let half = office.origin.post(LOGIN, None, &login).await;
    let second = json!({"mfaToken": half.body["mfaToken"], "code": ada.app.good()});
    let signed_in = office
        .origin
        .post("/api/v1/auth/login/mfa", None, &second)
        .await;
    assert_eq!(signed_in.status, StatusCode::OK, "{signed_in:?}");
}

/// The feed lets one append at a time: nobody may wait for anything else while they hold it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sign_in_by_mail_tells_the_feed_last_whom_it_ended(db: PgPool) {
    let office = PostOffice::open_with(&db, LAX).await;
    office.origin.join("ada@example.org").await;
    let token = office.link(MAGIC, "ada@example.org").await;
    let mut busy = db.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE auth.security_events IN SHARE MODE")
        .execute(&mut *busy)
        .await
        .expect("a lock");
    let form = format!("token={token}");
    let mut browser = Browser::default();
    let sign_in = office.press(&mut browser, MAGIC_VERIFY, HOME, &form);
    let look = async {
        waiting(&db, 1).await;
        let feed = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE l.locktype = 'advisory' AND d.datname = current_database()";
        let held = count(&db, feed).await;
        busy.commit().await.expect("a commit");
        held
    };
    let both = async { tokio::join!(sign_in, look) };
    let (answer, held) = tokio::time::timeout(std::time::Duration::from_secs(20), both)
        .await
        .expect("it waits for the events");
    assert_eq!((answer.status, held), (StatusCode::OK, 0));
    let told = "SELECT count(*) FROM auth.revocations";
    assert_eq!(count(&db, told).await, 1, "the squatter's session");
}
