//! Going to a provider and coming back: who gets in, and everything that could be wrong with it.

use axum::http::{Request, StatusCode, header};
use jsonwebtoken::{Algorithm, EncodingKey};
use origin::rim;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    post_office::Browser,
    provider::{ACME, ADA, CLIENT, OTHER_KEY, Provider, Somebody, follow, go, key, sign_in},
    support::{Answer, Origin, Service, count},
};

const CALLBACK: &str = "/api/v1/auth/oauth/acme/callback";

async fn people(db: &PgPool) -> i64 {
    count(db, "SELECT count(*) FROM auth.users").await
        + count(db, "SELECT count(*) FROM auth.outside_accounts").await
        + count(db, "SELECT count(*) FROM auth.sessions").await
        + count(db, "SELECT count(*) FROM auth.security_events").await
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_newcomer_gets_an_account_by_a_providers_word_and_the_same_one_again(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme
        .origin(
            &db,
            &["--require-email-verification=true", "--mail-dir=/tmp"],
        )
        .await;
    for _ in 0..2 {
        let mut browser = Browser::default();
        let answer = sign_in(&origin, &acme, &mut browser, ACME).await;
        answer.is_page(200, "You are signed in");
        assert!(browser.is_signed_in());
    }
    let account =
        "SELECT count(*) FROM auth.users WHERE email = 'Ada@example.org' AND email_verified
                     AND NOT EXISTS (SELECT FROM auth.passwords)";
    assert_eq!(count(&db, account).await, 1);
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 1);
    let bonus = "SELECT sum(free)::bigint FROM credits.balances";
    assert_eq!(count(&db, bonus).await, 150_000);
    let fed = "SELECT count(*) FROM auth.sessions WHERE amr = '{fed}'";
    assert_eq!(count(&db, fed).await, 2);
    let events: Vec<String> =
        sqlx::query_scalar("SELECT type FROM auth.security_events ORDER BY id")
            .fetch_all(&db)
            .await
            .expect("events");
    assert_eq!(
        events,
        ["registered", "outside_linked", "sign_in", "sign_in"]
    );
    // Nothing of the provider's is kept, nor what would open a trip.
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.outside_sign_ins").await,
        0
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sign_in_leads_to_pages_of_registered_apps_alone(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    Service::add(&db, "app", &[], 0).await;
    sqlx::query("UPDATE auth.apps SET origins = '{https://app.example.com}'")
        .execute(&db)
        .await
        .expect("an origin");
    let mut browser = Browser::default();
    for evil in [
        "https://app.example.com.evil.test",
        "//evil",
        "javascript:alert(1)",
        "https://app.example.com@evil.test/",
        "https://evil.test\\@app.example.com",
        "/relative",
    ] {
        let answer = go(&origin, &mut browser, ACME, &json!({"redirectTo": evil})).await;
        let pointers = answer.is_problem(400, "VALIDATION_FAILED").pointers();
        assert_eq!(pointers, ["/redirectTo"], "{evil}");
    }
    assert!(browser.0.is_empty());
    let page = "https://app.example.com/welcome?a=b";
    let gone = go(&origin, &mut browser, ACME, &json!({"redirectTo": page})).await;
    let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
    let answer = follow(&origin, &mut browser, &back).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.headers["location"], page);
    assert!(browser.is_signed_in());

    // An app that is no more is not led to.
    let gone = go(&origin, &mut browser, ACME, &json!({"redirectTo": page})).await;
    sqlx::query("UPDATE auth.apps SET disabled_at = now()")
        .execute(&db)
        .await
        .expect("disabled");
    let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
    let answer = follow(&origin, &mut browser, &back).await;
    answer.is_page(200, "You are signed in");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_state_is_good_once_and_in_the_browser_that_went(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let before = people(&db).await;
    let (mut victim, mut attacker) = (Browser::default(), Browser::default());
    let gone = go(&origin, &mut attacker, ACME, &json!({})).await;
    let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
    // Somebody else's browser, without and with a trip of its own; another provider's callback;
    // and states that nobody was given.
    follow(&origin, &mut victim, &back)
        .await
        .is_page(400, "not begun here");
    go(&origin, &mut victim, ACME, &json!({})).await;
    follow(&origin, &mut victim, &back)
        .await
        .is_page(400, "not begun here");
    for path in [
        back.replace("acme", "google"),
        back.replace("state=", "state=x"),
        CALLBACK.to_owned(),
        format!("{CALLBACK}?code=the-code"),
        format!("{back}&state=twice"),
    ] {
        follow(&origin, &mut attacker, &path)
            .await
            .is_page(400, "not begun here");
    }
    assert!(!attacker.is_signed_in() && !victim.is_signed_in());
    assert_eq!(people(&db).await, before);
    follow(&origin, &mut attacker, &back)
        .await
        .is_page(200, "You are signed in");
    follow(&origin, &mut attacker, &back)
        .await
        .is_page(400, "not begun here");

    // Over after ten minutes; and two tabs of one browser do not disturb each other.
    let mut pages = Vec::new();
    for _ in 0..2 {
        let gone = go(&origin, &mut victim, ACME, &json!({})).await;
        pages.push(gone.body["url"].as_str().expect("a page").to_owned());
    }
    for page in &pages {
        let back = acme.say_yes(page);
        follow(&origin, &mut victim, &back)
            .await
            .is_page(200, "You are signed in");
    }
    let gone = go(&origin, &mut victim, ACME, &json!({})).await;
    let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
    sqlx::query("UPDATE auth.outside_sign_ins SET expires_at = expires_at - interval '10 minutes'")
        .execute(&db)
        .await
        .expect("time passes");
    follow(&origin, &mut victim, &back)
        .await
        .is_page(400, "not begun here");
    go(&origin, &mut victim, ACME, &json!({})).await;
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.outside_sign_ins WHERE expires_at < now()"
        )
        .await,
        0
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn whoever_is_sent_back_with_a_no_is_told_so(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let mut browser = Browser::default();
    let back = async |change: fn(&str) -> String| {
        let mut browser = Browser::default();
        let gone = go(&origin, &mut browser, ACME, &json!({})).await;
        let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
        follow(&origin, &mut browser, &change(&back)).await
    };
    back(|back| back.replace("code=the-code", "error=access_denied"))
        .await
        .is_page(403, "did not sign you in");
    back(|back| format!("{back}&error=access_denied"))
        .await
        .is_page(403, "did not sign you in");
    back(|back| back.replace("the-code", "another"))
        .await
        .is_page(403, "did not sign you in");
    // RFC 9207: an answer that another provider gave.
    back(|back| format!("{back}&iss=https://evil.test"))
        .await
        .is_page(400, "not begun here");
    assert_eq!(people(&db).await, 0);
    let unknown = go(
        &origin,
        &mut browser,
        "/api/v1/auth/oauth/nobody",
        &json!({}),
    )
    .await;
    unknown.is_problem(404, "NOT_FOUND");
    follow(
        &origin,
        &mut browser,
        "/api/v1/auth/oauth/nobody/callback?state=a&code=b",
    )
    .await
    .is_page(404, "no such provider");
}

/// Everything that could be wrong with an `id_token`, and what is said of it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_token_that_is_not_the_providers_word_for_this_sign_in_is_worth_nothing(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let now = rim::now().timestamp();
    let refused = async |says: &str| {
        let mut browser = Browser::default();
        let answer = sign_in(&origin, &acme, &mut browser, ACME).await;
        answer.is_page(401, says);
        assert!(!browser.is_signed_in());
        assert_eq!(people(&db).await, 0, "{says}");
    };
    for (claims, says) in [
        (json!({"aud": "somebody else"}), "for another client"),
        (
            json!({"aud": [CLIENT, "somebody else"]}),
            "for another client",
        ),
        (
            json!({"aud": [CLIENT, "other"], "azp": "other"}),
            "for another client",
        ),
        (json!({"azp": "somebody else"}), "for another client"),
        (json!({"nonce": "an old one"}), "another nonce"),
        (json!({"nonce": null}), "another nonce"),
        (json!({"iss": "https://evil.test"}), "from another provider"),
        (json!({"exp": now - 31}), "not good now"),
        (json!({"iat": now + 60}), "not good now"),
        (json!({"nbf": now + 60}), "not good now"),
        (json!({"exp": null}), "cannot be read"),
        (json!({"iat": null}), "cannot be read"),
        (json!({"sub": null}), "cannot be read"),
        (json!({"sub": ""}), "cannot be read"),
        (json!({"sub": "x".repeat(256)}), "cannot be read"),
        (json!({"sub": "x\u{0}y"}), "cannot be read"),
    ] {
        acme.acme().claims = claims;
        refused(says).await;
    }
    acme.acme().claims = json!({});
    acme.acme().signing = key(OTHER_KEY);
    refused("signature of the provider").await;
    for kid in ["unknown", "odd", "hmac", "for encryption"] {
        acme.acme().kid = Some(kid);
        refused("unknown key").await;
    }
    // With the public key, or the published secret, as a secret.
    acme.acme().kid = Some("1");
    acme.acme().algorithm = Algorithm::HS256;
    acme.acme().signing = EncodingKey::from_secret(b"public");
    refused("not signed as it must be").await;
    // {"alg":"none"} . {} .
    for token in ["eyJhbGciOiJub25lIn0.e30.", "", "a.b.c", "a", "...."] {
        acme.acme().token = Some(token.to_owned());
        refused("cannot be read").await;
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_address_counts_only_if_the_provider_has_verified_it(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    for email_verified in [
        json!(false),
        json!("false"),
        json!(1),
        json!("yes"),
        Value::Null,
    ] {
        acme.acme().somebody = Some(Somebody {
            email_verified,
            ..ADA
        });
        let mut browser = Browser::default();
        let answer = sign_in(&origin, &acme, &mut browser, ACME).await;
        answer.is_page(403, "has not verified your e-mail");
        assert_eq!(people(&db).await, 0);
    }
    acme.acme().somebody = Some(Somebody {
        email: "ada@\u{0}",
        ..ADA
    });
    let answer = sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    answer.is_page(403, "has not verified your e-mail");
    // As Apple writes it.
    acme.acme().somebody = Some(Somebody {
        email_verified: json!("true"),
        ..ADA
    });
    let answer = sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    answer.is_page(200, "You are signed in");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_address_may_be_told_at_the_userinfo_endpoint_about_the_same_person(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    acme.acme().is_terse = true;
    acme.acme().userinfo_sub = Some("eve");
    let answer = sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    answer.is_page(401, "speaks of two people");
    assert_eq!(people(&db).await, 0);
    acme.acme().userinfo_sub = None;
    let answer = sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    answer.is_page(200, "You are signed in");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_provider_that_is_away_is_never_wrong_credentials(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let mut browser = Browser::default();
    let ask = async |browser: &mut Browser| go(&origin, browser, ACME, &json!({})).await;
    acme.acme().fails = Some(503);
    let answer = ask(&mut browser).await;
    answer.is_problem(502, "SIGN_IN_PROVIDER_FAILED");
    assert!(!answer.body.to_string().contains("secret words"));
    acme.acme().fails = None;
    acme.acme().issuer = Some("https://evil.test".to_owned());
    ask(&mut browser)
        .await
        .is_problem(502, "SIGN_IN_PROVIDER_FAILED");
    acme.acme().issuer = None;
    let gone = ask(&mut browser).await;
    let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
    acme.acme().fails = Some(500);
    follow(&origin, &mut browser, &back)
        .await
        .is_page(502, "does not answer");
    assert_eq!(people(&db).await, 0);
    // What was fetched before serves meanwhile.
    assert_eq!(ask(&mut browser).await.status, StatusCode::OK);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_made_up_key_does_not_make_us_ask_the_provider_again_and_again(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
    acme.acme().kid = Some("made up");
    for _ in 0..4 {
        let answer = sign_in(&origin, &acme, &mut Browser::default(), ACME).await;
        answer.is_page(401, "unknown key");
    }
    let fetched = acme
        .key_sets_fetched
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(fetched, 2, "once, and once to look again");
}

/// Apple's way back: a form of another site, with which no cookie comes.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_form_of_the_provider_is_sent_on_to_where_the_cookie_comes_along(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let mut browser = Browser::default();
    let apple = "/api/v1/auth/oauth/apple";
    let gone = go(&origin, &mut browser, apple, &json!({})).await;
    let page = gone.body["url"].as_str().expect("a page");
    assert!(page.contains("response_mode=form_post"), "{page}");
    let back = acme.say_yes(page);
    let (path, form) = back.split_once('?').expect("a query");
    let post = async |path: &str, form: String| {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ORIGIN, "https://appleid.apple.com");
        origin
            .send(request.body(form.into()).expect("a request"))
            .await
    };
    let sent_on = post(path, format!("{form}&user=%7B%22name%22%3A1%7D&id_token=x")).await;
    assert_eq!(sent_on.status, StatusCode::SEE_OTHER);
    assert!(!sent_on.headers.contains_key(header::SET_COOKIE));
    let there = sent_on.headers["location"].to_str().expect("text");
    assert_eq!(
        there,
        format!("http://127.0.0.1:8787{back}"),
        "and nothing of the rest"
    );
    assert_eq!(people(&db).await, 0);
    post("/api/v1/auth/oauth/nobody/callback", String::new())
        .await
        .is_page(404, "no such provider");
    // Somebody else's browser that is sent there has no such cookie.
    follow(&origin, &mut Browser::default(), &back)
        .await
        .is_page(400, "not begun here");
    // The provider takes the client secret that the developer's key has signed.
    follow(&origin, &mut browser, &back)
        .await
        .is_page(200, "You are signed in");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn github_says_who_somebody_is_by_its_api(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let github = "/api/v1/auth/oauth/github";
    let answer = sign_in(&origin, &acme, &mut Browser::default(), github).await;
    answer.is_page(200, "You are signed in");
    let linked: (String, String, Option<String>) =
        sqlx::query_as("SELECT provider, subject, email FROM auth.outside_accounts")
            .fetch_one(&db)
            .await
            .expect("a link");
    assert_eq!(
        linked,
        (
            "github".to_owned(),
            "583231".to_owned(),
            Some("Ada@example.org".to_owned())
        )
    );
    let mut browser = Browser::default();
    let gone = go(&origin, &mut browser, github, &json!({})).await;
    let back = acme.say_yes(gone.body["url"].as_str().expect("a page"));
    let answer = follow(&origin, &mut browser, &back.replace("the-code", "another")).await;
    answer.is_page(403, "did not sign you in");
    sqlx::query("DELETE FROM auth.outside_accounts")
        .execute(&db)
        .await
        .expect("unlinked");
    acme.acme().somebody = Some(Somebody {
        email_verified: json!(false),
        ..ADA
    });
    let answer = sign_in(&origin, &acme, &mut Browser::default(), github).await;
    answer.is_page(403, "has not verified your e-mail");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn two_who_come_for_the_first_time_at_once_get_one_account(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let tokens = [acme.id_token(Some("1")), acme.id_token(Some("2"))];
    let shown = |number: usize| {
        let body = json!({"token": tokens[number], "nonce": (number + 1).to_string()});
        let origin: &Origin = &origin;
        async move { origin.post("/api/v1/auth/google-signin", None, &body).await }
    };
    let (first, second): (Answer, Answer) = tokio::join!(shown(0), shown(1));
    assert_eq!(
        (first.status, second.status),
        (StatusCode::OK, StatusCode::OK),
        "{first:?} {second:?}"
    );
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 1);
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.outside_accounts").await,
        1
    );
}
