//! Whose account it is that a provider speaks of, and what is linked to whose.

use axum::http::{Method, StatusCode};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    leaving_races::overtaken,
    post_office::{Browser, NEW_PASSWORD},
    provider::{ACCOUNTS, ACME, ADA, Provider, Somebody, follow, go_and_link, sign_in},
    second_factor::enrol,
    support::{Answer, Origin, PASSWORD, Person, Service, assert_ledger_adds_up, count, text},
};

const LOGIN: &str = "/api/v1/auth/login";
const LINKED: &str = "SELECT count(*) FROM auth.outside_accounts";
const LIVE: &str = "SELECT count(*) FROM auth.sessions WHERE revoked_at IS NULL";

async fn verify(db: &PgPool) {
    sqlx::query("UPDATE auth.users SET email_verified = true")
        .execute(db)
        .await
        .expect("verified");
}

/// Links the account at the provider to a person's.
async fn link(origin: &Origin, acme: &Provider, browser: &mut Browser, person: &Person) -> Answer {
    let body = json!({"link": true});
    let gone = go_and_link(origin, browser, ACME, &person.access, &body).await;
    assert_eq!(gone.status, StatusCode::OK, "{gone:?}");
    let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
    follow(origin, browser, &back).await
}

async fn unlink(origin: &Origin, person: &Person, id: &str) -> Answer {
    let path = format!("{ACCOUNTS}/{id}");
    origin
        .call(Method::DELETE, &path, &person.access, &json!({}))
        .await
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_account_is_linked_where_both_sides_have_verified_the_address(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let ada = origin.join("ADA@example.org").await;
    verify(&db).await;
    let answer = sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    answer.is_page(200, "You are signed in");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 1);
    assert_eq!(count(&db, LIVE).await, 2, "and nothing of it was touched");
    origin.login("ada@example.org").await;
    let listed = origin.get(ACCOUNTS, &ada.access).await.body;
    assert_eq!(listed[0]["provider"], "acme");
    assert_eq!(listed[0]["email"], "Ada@example.org");
    assert!(listed[0]["linkedAt"].is_string());
    // Whatever the provider says of the address from now on, it is that account.
    acme.acme().somebody = Some(Somebody {
        email: "another@example.org",
        email_verified: json!(false),
        ..ADA
    });
    let answer = sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    answer.is_page(200, "You are signed in");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_squats_on_an_address_gains_nothing_when_its_owner_comes_by_a_provider(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let squatter = origin.join("ada@example.org").await;
    acme.acme().somebody = Some(Somebody {
        sub: "eve at acme",
        email: "eve@example.org",
        ..ADA
    });
    let mut eve = Browser::default();
    link(&origin, &acme, &mut eve, &squatter)
        .await
        .is_page(200, "is linked");
    // A trip that is under way when the owner comes, too.
    let second = "/api/v1/auth/oauth/google";
    let gone = go_and_link(
        &origin,
        &mut eve,
        second,
        &squatter.access,
        &json!({"link": true}),
    )
    .await;
    let under_way = acme.say_yes(gone.body["url"].as_str().expect("a page"));

    acme.acme().somebody = Some(ADA);
    let answer = sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    answer.is_page(200, "You are signed in");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 1);
    assert_eq!(count(&db, "SELECT count(*) FROM auth.passwords").await, 0);
    assert_eq!(count(&db, LIVE).await, 1);
    let subjects: Vec<String> = sqlx::query_scalar("SELECT subject FROM auth.outside_accounts")
        .fetch_all(&db)
        .await
        .expect("links");
    assert_eq!(subjects, ["ada at acme"]);
    let old = json!({"email": "ada@example.org", "password": PASSWORD});
    origin
        .post(LOGIN, None, &old)
        .await
        .is_problem(401, "INVALID_CREDENTIALS");
    origin
        .refresh(&squatter.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    acme.acme().somebody = Some(Somebody {
        sub: "eve at acme",
        email: "eve@example.org",
        ..ADA
    });
    acme.acme().claims = json!({});
    let answer = follow(&origin, &mut eve, &under_way).await;
    assert!(
        answer.status.is_client_error() || answer.status.is_server_error(),
        "{answer:?}"
    );
    assert_eq!(count(&db, LINKED).await, 1);
    // Eve has an account of her own when she comes back.
    let answer = sign_in(&origin, &acme, &mut eve, ACME).await;
    answer.is_page(200, "You are signed in");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 2);
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_mail_to_the_owner_takes_a_squatters_link_away(db: PgPool) {
    let acme = Provider::start().await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let mail = format!("--mail-dir={}", folder.path().display());
    let origin = acme.origin(&db, &[&mail]).await;
    let squatter = origin.join("ada@example.org").await;
    acme.acme().somebody = Some(Somebody {
        email: "eve@example.org",
        ..ADA
    });
    link(&origin, &acme, &mut Browser::default(), &squatter).await;
    // A link to reset the password, as the mail has it.
    let secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    sqlx::query(
        "INSERT INTO auth.links (user_id, purpose, secret_hash, expires_at)
         SELECT id, 'reset', sha256($1::bytea), now() + interval '1 hour' FROM auth.users",
    )
    .bind(secret.as_bytes())
    .execute(&db)
    .await
    .expect("a link");
    let body = json!({"token": secret, "newPassword": NEW_PASSWORD});
    let reset = origin
        .post("/api/v1/auth/reset-password", None, &body)
        .await;
    assert_eq!(reset.status, StatusCode::OK, "{reset:?}");
    assert_eq!(count(&db, LINKED).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_is_signed_in_links_whatever_account_is_theirs_and_nobody_elses(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let (ada, eve) = (
        origin.join("lovelace@example.org").await,
        origin.join("eve@example.org").await,
    );
    let body = json!({"link": true});
    let anonymous = origin.post(ACME, None, &body).await;
    anonymous.is_problem(401, "UNAUTHENTICATED");
    // The address is another one and not even verified: it is she who is signed in.
    acme.acme().somebody = Some(Somebody {
        email_verified: json!(false),
        ..ADA
    });
    for _ in 0..2 {
        link(&origin, &acme, &mut Browser::default(), &ada)
            .await
            .is_page(200, "is linked");
    }
    assert_eq!(count(&db, LINKED).await, 1);
    link(&origin, &acme, &mut Browser::default(), &eve)
        .await
        .is_page(409, "linked to another");
    let events = "SELECT count(*) FROM auth.security_events WHERE type = 'outside_linked'";
    assert_eq!(count(&db, events).await, 1);
    // The way in leads to her, and Eve neither sees nor removes it.
    let answer = sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    answer.is_page(200, "You are signed in");
    let of_ada = format!(
        "SELECT count(*) FROM auth.sessions WHERE user_id = '{}'",
        ada.id
    );
    let sessions: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(of_ada))
        .fetch_one(&db)
        .await
        .expect("a count");
    assert_eq!(sessions, 2);
    assert_eq!(origin.get(ACCOUNTS, &eve.access).await.body, json!([]));
    let id = text(&origin.get(ACCOUNTS, &ada.access).await.body[0]["id"]);
    for (person, id) in [(&eve, id.as_str()), (&ada, "x"), (&ada, ada.id.as_str())] {
        unlink(&origin, person, id)
            .await
            .is_problem(404, "NOT_FOUND");
    }
    let answer = unlink(&origin, &ada, &id).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(count(&db, LINKED).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn linking_needs_a_recent_sign_in_and_a_session_that_lives(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let ada = origin.join("lovelace@example.org").await;
    let mut browser = Browser::default();
    let body = json!({"link": true});
    let gone = go_and_link(&origin, &mut browser, ACME, &ada.access, &body).await;
    let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
    origin
        .post("/api/v1/auth/logout", Some(&ada.access), &json!({}))
        .await;
    follow(&origin, &mut browser, &back)
        .await
        .is_page(401, "session has ended");
    assert_eq!(count(&db, LINKED).await, 0);

    let ada = origin.login("lovelace@example.org").await;
    sqlx::query("UPDATE auth.sessions SET authenticated_at = now() - interval '11 minutes'")
        .execute(&db)
        .await
        .expect("time passes");
    let old = text(&origin.refresh(&ada.refresh).await.body["accessToken"]);
    go_and_link(&origin, &mut browser, ACME, &old, &body)
        .await
        .is_problem(403, "RECENT_SIGN_IN_REQUIRED");
    let path = format!("{ACCOUNTS}/{}", ada.id);
    origin
        .call(Method::DELETE, &path, &old, &json!({}))
        .await
        .is_problem(403, "RECENT_SIGN_IN_REQUIRED");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_last_way_to_sign_in_is_never_removed(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    // As an app has tokens of it.
    let token = acme.id_token(None);
    let shown = origin
        .post("/api/v1/auth/google-signin", None, &json!({"token": token}))
        .await;
    let ada = Person {
        id: String::new(),
        access: text(&shown.body["appToken"]),
        refresh: text(&shown.body["refreshToken"]),
    };
    let id = text(&origin.get(ACCOUNTS, &ada.access).await.body[0]["id"]);
    unlink(&origin, &ada, &id)
        .await
        .is_problem(409, "LAST_SIGN_IN_METHOD");
    assert_eq!(count(&db, LINKED).await, 1);
    // Another one is one.
    acme.acme().somebody = Some(Somebody {
        sub: "ada's other",
        ..ADA
    });
    link(&origin, &acme, &mut Browser::default(), &ada)
        .await
        .is_page(200, "is linked");
    assert_eq!(unlink(&origin, &ada, &id).await.status, StatusCode::OK);
    let id = text(&origin.get(ACCOUNTS, &ada.access).await.body[0]["id"]);
    unlink(&origin, &ada, &id)
        .await
        .is_problem(409, "LAST_SIGN_IN_METHOD");
    // So is mail, where there is any.
    let with_mail = acme.origin(&db, &["--mail-dir=/tmp"]).await;
    assert_eq!(unlink(&with_mail, &ada, &id).await.status, StatusCode::OK);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_second_factor_is_asked_for_after_a_providers_word_too(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let ada = origin.join("ada@example.org").await;
    verify(&db).await;
    enrol(&origin, &ada).await;
    Service::add(&db, "app", &[], 0).await;
    sqlx::query("UPDATE auth.apps SET origins = '{https://app.example.com}'")
        .execute(&db)
        .await
        .expect("an origin");
    let before = count(&db, LIVE).await;
    let mut browser = Browser::default();
    let answer = sign_in(&origin, &acme, &mut browser, ACME).await;
    answer.is_page(200, "One more step");
    let page = json!({"redirectTo": "https://app.example.com/in?a=b"});
    let gone = crate::provider::go(&origin, &mut browser, ACME, &page).await;
    let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
    let answer = follow(&origin, &mut browser, &back).await;
    let there = answer.headers["location"].to_str().expect("text");
    let start = "https://app.example.com/in?a=b#mfaToken=";
    assert!(there.starts_with(start), "{there}");
    let token = acme.id_token(None);
    let shown = origin
        .post("/api/v1/auth/google-signin", None, &json!({"token": token}))
        .await;
    assert_eq!(shown.body["mfaRequired"], true);
    assert!(!browser.is_signed_in());
    assert_eq!(count(&db, LIVE).await, before);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_disabled_account_is_not_signed_in_to_and_not_made_anew(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    origin.register("ada@example.org").await;
    verify(&db).await;
    let ban = "UPDATE auth.users SET status = $1";
    let set = async |status: &str| {
        sqlx::query(ban)
            .bind(status)
            .execute(&db)
            .await
            .expect("set");
    };
    // By the address, and by the link.
    set("banned").await;
    sign_in(&origin, &acme, &mut Browser::default(), ACME)
        .await
        .is_page(403, "account is disabled");
    assert_eq!(count(&db, LINKED).await, 0);
    set("active").await;
    sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    let before = count(&db, LIVE).await;
    set("banned").await;
    sign_in(&origin, &acme, &mut Browser::default(), ACME)
        .await
        .is_page(403, "account is disabled");
    assert_eq!(count(&db, LIVE).await, before);
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn whoever_leaves_meanwhile_is_not_linked_unlinked_or_signed_in(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let wish = json!({"link": true});
    let trips = "SELECT count(*) FROM auth.outside_sign_ins";

    let ada = origin.join("ada1@example.org").await;
    let mut browser = Browser::default();
    let goes = go_and_link(&origin, &mut browser, ACME, &ada.access, &wish);
    overtaken(&db, &origin, &ada.id, goes)
        .await
        .is_problem(403, "ACCOUNT_DISABLED");
    assert_eq!(count(&db, trips).await, 0);

    let ada = origin.join("ada2@example.org").await;
    let gone = go_and_link(&origin, &mut browser, ACME, &ada.access, &wish).await;
    let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
    let returns = follow(&origin, &mut browser, &back);
    overtaken(&db, &origin, &ada.id, returns)
        .await
        .is_page(403, "account is disabled");
    assert_eq!(count(&db, LINKED).await, 0);

    let ada = origin.join("ada3@example.org").await;
    link(&origin, &acme, &mut browser, &ada).await;
    let id = text(&origin.get(ACCOUNTS, &ada.access).await.body[0]["id"]);
    overtaken(&db, &origin, &ada.id, unlink(&origin, &ada, &id))
        .await
        .is_problem(403, "ACCOUNT_DISABLED");

    let ada = origin.join("ada4@example.org").await;
    link(&origin, &acme, &mut browser, &ada).await;
    let mut browser = Browser::default();
    let signs_in = sign_in(&origin, &acme, &mut browser, ACME);
    overtaken(&db, &origin, &ada.id, signs_in)
        .await
        .is_page(403, "account is disabled");
    assert!(!browser.is_signed_in());
    assert_eq!(count(&db, LIVE).await, 0);
}
