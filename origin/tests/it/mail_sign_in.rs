//! Signing in by mail, where links lead, and notices of devices that are new.

use axum::http::StatusCode;
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    post_office::{
        Browser, FORGOT, HOME, LOGIN, MAGIC, MAGIC_VERIFY, NEW_PASSWORD, PostOffice, REGISTER,
        RESET, VERIFY,
    },
    support::{PASSWORD, Service, count, text},
};

fn claims(access_token: &Value) -> Value {
    let token = text(access_token);
    let payload = token.split('.').nth(1).expect("a payload");
    let bytes = Base64UrlUnpadded::decode_vec(payload).expect("base64url");
    serde_json::from_slice(&bytes).expect("claims")
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_browser_that_asked_signs_in_by_mail(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join("ada@example.org").await;
    let mut asker = Browser::default();
    let answer = office
        .post(&mut asker, MAGIC, &json!({"email": "Ada@example.org"}))
        .await;
    assert_eq!(answer.body, json!({"success": true}));
    let token = office.letter().await.token();

    let mut other = Browser::default();
    office
        .post(&mut other, MAGIC, &json!({"email": "eve@example.org"}))
        .await;
    for browser in [&mut other, &mut Browser::default()] {
        let answer = office
            .post(browser, MAGIC_VERIFY, &json!({"token": token}))
            .await;
        answer.is_problem(403, "OTHER_BROWSER");
    }
    let body = json!({"token": token, "deviceName": "Ada's phone", "rememberMe": true});
    let answer = office.post(&mut asker, MAGIC_VERIFY, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.body["user"]["email"], "ada@example.org");
    assert_eq!(claims(&answer.body["accessToken"])["amr"], json!(["mca"]));
    assert!(asker.0.iter().any(|(name, _)| name == "tollgate"));
    let session = office
        .origin
        .get("/api/v1/auth/session", &text(&answer.body["accessToken"]))
        .await;
    assert_eq!(session.body["session"]["deviceName"], "Ada's phone");
    let answer = office
        .post(&mut asker, MAGIC_VERIFY, &json!({"token": token}))
        .await;
    answer.is_problem(400, "INVALID_LINK");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_button_of_our_page_signs_in_and_no_other_sites_does(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join("ada@example.org").await;
    let token = office.link(MAGIC, "ada@example.org").await;
    let form = format!("token={token}");
    let mut browser = Browser::default();
    let foreign = office
        .press(&mut browser, MAGIC_VERIFY, "https://evil.test", &form)
        .await;
    foreign.is_problem(403, "FOREIGN_PAGE");
    assert!(browser.0.is_empty());
    let answer = office.press(&mut browser, MAGIC_VERIFY, HOME, &form).await;
    assert_eq!(answer.status, StatusCode::OK);
    let html = answer.body.as_str().expect("HTML");
    assert!(
        html.contains("You are signed in") && !html.contains("eyJ"),
        "no tokens on a page"
    );
    assert!(browser.0.iter().any(|(name, _)| name == "tollgate"));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn links_lead_to_pages_of_registered_apps_alone(db: PgPool) {
    let office = PostOffice::open(&db).await;
    let app = Service::add(&db, "app", &[], 0).await;
    sqlx::query("UPDATE auth.apps SET origins = '{https://app.example.com}'")
        .execute(&db)
        .await
        .expect("an origin");
    for evil in [
        "https://app.example.com.evil.test/",
        "https://app.example.com@evil.test/",
        "https://app.example.com:444/",
        "http://app.example.com/",
        "https://evil.test/https://app.example.com",
        "//evil.test",
        "javascript:alert(1)",
        "https://app.example.com\\@evil.test",
    ] {
        for path in [FORGOT, MAGIC] {
            let body = json!({"email": "ada@example.org", "redirectTo": evil});
            let answer = office.origin.post(path, None, &body).await;
            assert_eq!(
                answer.is_problem(400, "VALIDATION_FAILED").pointers(),
                ["/redirectTo"],
                "{evil}"
            );
        }
        // What existing clients send when they register is followed only where it may be.
        let body = json!({"email": "eve@example.org", "password": PASSWORD, "sourceAppUrl": evil});
        office.origin.post(REGISTER, None, &body).await;
        assert_eq!(
            count(
                &db,
                "SELECT count(*) FROM auth.outbox WHERE redirect_to IS NOT NULL"
            )
            .await,
            0
        );
    }
    office.letters().await;

    let page = "https://app.example.com/welcome?a=b";
    let body = json!({"email": "ada@example.org", "password": PASSWORD, "sourceAppUrl": page});
    let mut browser = Browser::default();
    office.post(&mut browser, REGISTER, &body).await;
    let token = office.letter().await.token();
    let look = office
        .look(&browser, &format!("{VERIFY}?token={token}"))
        .await;
    let policy = look.headers["content-security-policy"]
        .to_str()
        .expect("text");
    assert!(
        policy.contains("form-action 'self' https://app.example.com;"),
        "{policy}"
    );
    let answer = office
        .press(&mut browser, VERIFY, HOME, &format!("token={token}"))
        .await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.headers["location"], page);

    // An app that is no more is not led to, even by a link from before.
    let body = json!({"email": "ada@example.org", "redirectTo": page});
    office.origin.post(FORGOT, None, &body).await;
    let token = office.letter().await.token();
    sqlx::query("UPDATE auth.apps SET disabled_at = now() WHERE id = $1")
        .bind(&app.id)
        .execute(&db)
        .await
        .expect("disabled");
    let body = json!({"token": token, "newPassword": NEW_PASSWORD});
    let answer = office.origin.post(RESET, None, &body).await;
    assert_eq!(
        (answer.status, answer.headers.get("location")),
        (StatusCode::OK, None)
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sign_in_from_a_new_device_is_told(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join("ada@example.org").await;
    assert!(
        office.letters().await.is_empty(),
        "the first one is no news"
    );
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let mut browser = Browser::default();
    office.post(&mut browser, LOGIN, &body).await;
    let letter = office.letter().await;
    assert_eq!(letter.header("Subject"), "New sign-in to your account");
    assert_eq!(letter.header("To"), "ada@example.org");
    office.post(&mut browser, LOGIN, &body).await;
    assert!(office.letters().await.is_empty(), "it is known now");
    let forged = browser
        .0
        .iter_mut()
        .find(|(name, _)| name == "tollgate-device");
    forged.expect("its cookie").1.replace_range(..4, "AAAA");
    office.post(&mut browser, LOGIN, &body).await;
    assert_eq!(office.letters().await.len(), 1);
    // One device is known to each of its people apart.
    office.join("eve@example.org").await;
    office.letters().await;
    let body = json!({"email": "eve@example.org", "password": PASSWORD});
    office.post(&mut browser, LOGIN, &body).await;
    assert_eq!(office.letter().await.header("To"), "eve@example.org");
}

/// Whoever registers with somebody else's address does not write to them by signing in.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_address_that_nobody_has_verified_gets_no_notices(db: PgPool) {
    let office = PostOffice::open_with(&db, &["--require-email-verification=false"]).await;
    let squatter = office.origin.join("ada@example.org").await;
    office.origin.login("ada@example.org").await;
    let change = json!({"currentPassword": PASSWORD, "newPassword": "battery staple"});
    let changed = office
        .origin
        .post(
            "/api/v1/auth/change-password",
            Some(&squatter.access),
            &change,
        )
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert!(office.letters().await.is_empty());
}
