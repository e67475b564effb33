//! Signing in and out by the pages, as a browser does.

use axum::http::header;
use serde_json::json;
use sqlx::PgPool;
use url::form_urlencoded;

use crate::{
    post_office::{HOME, PostOffice},
    second_factor::join_guarded,
    support::{Origin, PASSWORD, Service, count},
    surfer::Surfer,
};

const ADA: &str = "ada@example.org";

fn sign_in_for(back: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("returnUrl", back)
        .finish();
    format!("/sign-in?{query}")
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn somebody_signs_in_and_out_by_the_pages(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register(ADA).await;
    let mut ada = Surfer::at(&origin);
    let asked = ada.look("/account").await;
    assert_eq!(asked.leads_to(), "/sign-in?returnUrl=%2Faccount");

    let wrong = ada.sign_in(ADA, "wrong horse battery").await;
    wrong
        .is(401)
        .says("e-mail address or the password is wrong")
        .says("role=\"alert\"");
    assert_eq!(wrong.form("/sign-in").value("email"), ADA);
    assert!(
        !wrong.html.contains("wrong horse"),
        "a password is never repeated"
    );
    let unknown = ada.sign_in("eve@example.org", "wrong horse battery").await;
    unknown
        .is(401)
        .says("e-mail address or the password is wrong");
    let bad = ada.sign_in("none", "short").await;
    bad.is(400)
        .says("aria-describedby=\"email-mistake\"")
        .says("id=\"password-mistake\"");
    assert!(ada.cookie("tollgate").is_none());

    let seen = ada.sign_in(ADA, PASSWORD).await;
    assert_eq!(seen.leads_to(), format!("{HOME}/account"));
    assert!(!seen.html.contains("eyJ"), "no token on a page");
    ada.look("/account").await.is(200).says(ADA);
    assert_eq!(
        ada.look("/sign-in").await.leads_to(),
        format!("{HOME}/account")
    );

    ada.look("/sign-out").await.is(200).says(ADA);
    ada.look("/account").await.is(200);
    let secret = ada.cookie("tollgate").expect("a session").to_owned();
    ada.fill("/sign-out", "/sign-out", &[])
        .await
        .is(200)
        .says("signed out");
    assert!(ada.cookie("tollgate").is_none());
    ada.browser.0.push(("tollgate".to_owned(), secret));
    ada.look("/account").await.is(303);
    let events = "SELECT count(*) FROM auth.security_events WHERE type = 'sign_out'";
    assert_eq!(count(&db, events).await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sign_in_has_a_cookie_that_nobody_knew_before(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register(ADA).await;
    let mut ada = Surfer::at(&origin);
    ada.browser
        .0
        .push(("tollgate".to_owned(), "planted".to_owned()));
    ada.sign_in(ADA, PASSWORD).await;
    let first = ada.cookie("tollgate").expect("a session").to_owned();
    assert_ne!(first, "planted");

    let page = "/sign-in?again=1&returnUrl=/account/security";
    let again = ada.look(page).await;
    again.is(200).says("Confirm that it is you");
    let form = again.form("/sign-in");
    assert_eq!(form.value("email"), ADA);
    let wrong = ada
        .press(&form.clone().with(&[("password", "wrong horse battery")]))
        .await;
    wrong.is(401).says("Confirm that it is you");
    let seen = ada.press(&form.with(&[("password", PASSWORD)])).await;
    assert_eq!(seen.leads_to(), format!("{HOME}/account/security"));
    assert_ne!(ada.cookie("tollgate"), Some(first.as_str()));
    let hint = ada
        .look("/sign-in?again=1&login_hint=eve%40example.org%22%3E")
        .await;
    assert_eq!(hint.form("/sign-in").value("email"), "eve@example.org\">");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_form_is_taken_from_the_browser_alone_that_it_was_made_for(db: PgPool) {
    let origin = Origin::start(&db).await;
    for email in [ADA, "eve@example.org"] {
        origin.register(email).await;
    }
    let (mut ada, mut eve) = (Surfer::at(&origin), Surfer::at(&origin));
    let fields = [("email", ADA), ("password", PASSWORD)];
    let form = ada.look("/sign-in").await.form("/sign-in").with(&fields);
    let foreign = eve.look("/sign-in").await.form("/sign-in").with(&fields);
    let mut mangled = form.value("csrf").to_owned();
    mangled.pop();
    for bad in [
        form.clone().without("csrf"),
        form.clone().with(&[("csrf", "")]),
        form.clone().with(&[("csrf", &mangled)]),
        foreign.clone(),
    ] {
        let refused = ada.press(&bad).await;
        refused
            .is(403)
            .says("Please try again")
            .says("href=\"/sign-in\"");
        assert!(ada.cookie("tollgate").is_none());
    }
    ada.press_at("https://evil.test", &form)
        .await
        .is(403)
        .says("Please try again");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 0);
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.security_events WHERE type = 'sign_in'"
        )
        .await,
        0
    );

    // Who is signed in has forms of that session.
    ada.press(&form).await.is(303);
    let before = form.with(&[("again", "1")]);
    ada.press(&before).await.is(403);
    eve.sign_in("eve@example.org", PASSWORD).await;
    let of_eve = eve.look("/sign-out").await.form("/sign-out");
    ada.press(&of_eve).await.is(403).says("Please try again");
    let own = ada.look("/sign-out").await.form("/sign-out");
    ada.press(&own.clone().without("csrf")).await.is(403);
    ada.press(&own).await.is(200);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_is_led_anywhere_but_to_us_and_to_apps(db: PgPool) {
    let origin = Origin::start(&db).await;
    Service::with_pages(&db, "app", &["https://app.example.com"]).await;
    origin.register(ADA).await;
    let fields = [("email", ADA), ("password", PASSWORD)];
    for (back, to) in [
        (
            "/account/security?a=b",
            format!("{HOME}/account/security?a=b"),
        ),
        (
            "/oauth2/authorize?client_id=a&state=b",
            format!("{HOME}/oauth2/authorize?client_id=a&state=b"),
        ),
        (
            "https://app.example.com/in?a=b",
            "https://app.example.com/in?a=b".to_owned(),
        ),
    ] {
        let mut ada = Surfer::at(&origin);
        let seen = ada.fill(&sign_in_for(back), "/sign-in", &fields).await;
        assert_eq!(seen.leads_to(), to, "{seen:?}");
        assert_eq!(ada.look(&sign_in_for(back)).await.leads_to(), to);
    }
    for evil in [
        "//evil.test",
        "///evil.test/",
        "/\\evil.test",
        "\\\\evil.test",
        "/.//evil.test",
        "/a/..//evil.test",
        "/%2e/%2e%2e//evil.test",
        "/\t/evil.test",
        "/a\r\nLocation: https://evil.test",
        "https://evil.test",
        "https:evil.test",
        "https://app.example.com.evil.test",
        "https://app.example.com@evil.test",
        "http://app.example.com",
        "https://app.example.com\\@evil.test",
        "javascript:alert(1)//evil.test",
        "data:text/html,evil.test",
        " //evil.test",
        "evil.test",
    ] {
        let mut ada = Surfer::at(&origin);
        let page = ada.look(&sign_in_for(evil)).await;
        page.is(200);
        assert!(!page.html.contains("evil.test"), "{evil:?}: {}", page.html);
        let policy = page.headers[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .expect("text");
        assert!(policy.contains("form-action 'self';"), "{policy}");
        // Nor when a form says so.
        let form = page
            .form("/sign-in")
            .with(&fields)
            .with(&[("returnUrl", evil)]);
        let seen = ada.press(&form).await;
        assert_eq!(seen.leads_to(), format!("{HOME}/account"), "{evil:?}");
        assert_eq!(
            ada.look(&sign_in_for(evil)).await.leads_to(),
            format!("{HOME}/account")
        );
        let out = ada
            .look(&sign_in_for(evil).replace("sign-in", "sign-out"))
            .await;
        assert!(!out.html.contains("evil.test"));
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_second_step_is_a_page_and_its_token_in_no_address(db: PgPool) {
    let origin = Origin::start(&db).await;
    let guarded = join_guarded(&origin, &db, ADA).await;
    let mut ada = Surfer::at(&origin);
    assert_eq!(
        ada.look("/sign-in/code?returnUrl=/account/events")
            .await
            .leads_to(),
        "/sign-in?returnUrl=%2Faccount%2Fevents"
    );
    let fields = [("email", ADA), ("password", PASSWORD)];
    let asked = ada
        .fill("/sign-in?returnUrl=/account/events", "/sign-in", &fields)
        .await;
    let token = ada.cookie("tollgate-half").expect("half").to_owned();
    assert_eq!(
        asked.leads_to(),
        "/sign-in/code?returnUrl=%2Faccount%2Fevents"
    );
    assert!(!asked.html.contains(&token) && ada.cookie("tollgate").is_none());
    let page = ada.look(&asked.leads_to()).await;
    assert!(!page.html.contains(&token));
    let form = page.form("/sign-in/code");
    let bad = ada.press(&form.clone().with(&[("code", "12345")])).await;
    bad.is(400).says("id=\"code-mistake\"");
    let wrong = ada.press(&form.clone().with(&[("code", "000000")])).await;
    wrong.is(401).says("This code is wrong");
    assert!(ada.cookie("tollgate").is_none());
    let seen = ada
        .press(&form.clone().with(&[("code", &guarded.app.good())]))
        .await;
    assert_eq!(seen.leads_to(), format!("{HOME}/account/events"));
    assert!(ada.cookie("tollgate").is_some() && ada.cookie("tollgate-half").is_none());
    // The form of before was for nobody who is signed in.
    ada.press(&form).await.is(403);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn guessing_is_as_slow_by_the_page_as_by_the_call(db: PgPool) {
    let origin = Origin::start_with(&db, &["--limit-scale=1"]).await;
    origin.register(ADA).await;
    let mut eve = Surfer::at(&origin);
    // Five are free, and the sixth brings the first wait.
    for _ in 0..6 {
        eve.sign_in(ADA, "wrong horse battery").await.is(401);
    }
    let slow = eve.sign_in(ADA, PASSWORD).await;
    slow.is(429).says("wait a while");
    assert!(slow.headers.contains_key(header::RETRY_AFTER));
    let login = json!({"email": ADA, "password": PASSWORD});
    origin
        .post("/api/v1/auth/login", None, &login)
        .await
        .is_problem(429, "RATE_LIMITED");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn somebody_registers_verifies_and_signs_in(db: PgPool) {
    let office = PostOffice::open(&db).await;
    let mut ada = Surfer::at(&office.origin);
    let fields = [("email", ADA), ("password", PASSWORD), ("name", "Ada <b>")];
    for (change, text) in [
        (("email", "none"), "id=\"email-mistake\""),
        (("password", "password1"), "guessed first"),
    ] {
        let form = ada.look("/register").await.form("/register").with(&fields);
        let seen = ada.press(&form.with(&[change])).await;
        seen.says(text).says("aria-invalid");
        assert!(seen.status.is_client_error());
    }
    let seen = ada
        .fill("/register?returnUrl=/account/devices", "/register", &fields)
        .await;
    ada.look(&seen.leads_to())
        .await
        .is(200)
        .says("Check your mail");
    ada.fill("/register", "/register", &fields)
        .await
        .is(409)
        .says("already");

    let early = ada.sign_in(ADA, PASSWORD).await;
    early.is(403).says("not verified yet");
    let _ = office.letter().await;
    let again = early.form("/sign-in/resend");
    let seen = ada.press(&again).await;
    assert_eq!(seen.leads_to(), "/check-your-mail?for=verify");
    let token = office.letter().await.token();
    let page = ada
        .look(&format!("/api/v1/auth/verify-email?token={token}"))
        .await;
    let form = page.form("/api/v1/auth/verify-email");
    ada.press(&form)
        .await
        .is(200)
        .says("is verified")
        .says("href=\"/sign-in\"");
    assert_eq!(
        ada.sign_in(ADA, PASSWORD).await.leads_to(),
        format!("{HOME}/account")
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_mail_sets_another_password_or_signs_in(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join(ADA).await;
    let _ = office.letters().await;
    let mut ada = Surfer::at(&office.origin);
    let mut pages = Vec::new();
    for email in [ADA, "nobody@example.org"] {
        let seen = ada
            .fill("/sign-in/forgot", "/sign-in/forgot", &[("email", email)])
            .await;
        pages.push((
            seen.status,
            seen.leads_to(),
            ada.look(&seen.leads_to()).await.html,
        ));
    }
    assert_eq!(pages[0], pages[1], "nobody learns whose address is known");
    let token = office.letter().await.token();
    let page = ada
        .look(&format!("/api/v1/auth/reset-password?token={token}"))
        .await;
    let form = page.form("/api/v1/auth/reset-password");
    let common = ada
        .press(&form.clone().with(&[("newPassword", "password1")]))
        .await;
    common.is(422).says("guessed first");
    ada.press(&form.with(&[("newPassword", "battery staple")]))
        .await
        .is(200)
        .says("new password is set");
    ada.sign_in(ADA, PASSWORD).await.is(401);
    ada.sign_in(ADA, "battery staple").await.is(303);

    let _ = office.letters().await;
    let mut phone = Surfer::at(&office.origin);
    let page = "/sign-in/mail?returnUrl=/account/devices";
    let seen = phone.fill(page, "/sign-in/mail", &[("email", ADA)]).await;
    assert_eq!(
        seen.leads_to(),
        "/check-your-mail?for=magic&returnUrl=%2Faccount%2Fdevices"
    );
    let token = office.letter().await.token();
    let page = phone
        .look(&format!("/api/v1/auth/magic-link/verify?token={token}"))
        .await;
    let form = page.form("/api/v1/auth/magic-link/verify");
    assert_eq!(
        phone.press(&form).await.leads_to(),
        format!("{HOME}/account/devices")
    );
    phone.look("/account").await.is(200);
}
