//! Somebody comes with a client's request, and goes back with a code or an error, to the client's own
//! address and nowhere else.

use axum::http::{StatusCode, header};
use serde_json::json;
use sqlx::PgPool;
use url::Url;

use crate::{
    oidc_flow::{
        ADA, CALLBACK, CHALLENGE, HOME, Party, Spec, authorize, encode, get, is_sent_back,
        is_told_here, location, param, post, press, token, with,
    },
    revocations::claims,
    session_to_token::Tab,
    support::{Origin, count, text},
};

async fn start(db: &PgPool) -> (Origin, Tab) {
    let origin = Origin::start(db).await;
    origin.register(ADA).await;
    let tab = Tab::sign_in(&origin, ADA).await;
    (origin, tab)
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_client_learns_who_somebody_is(db: PgPool) {
    let (origin, tab) = start(&db).await;
    let party = Party::add(&db, "rp", Spec::default()).await;
    let answer = authorize(&origin, Some(&tab), &party.request()).await;
    assert_eq!(answer.headers[header::REFERRER_POLICY], "no-referrer");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    let url = location(&answer);
    assert_eq!(&url.as_str()[..CALLBACK.len()], CALLBACK);
    assert_eq!(param(&url, "state").as_deref(), Some("a state"));
    assert_eq!(param(&url, "iss").as_deref(), Some(HOME));
    let code = param(&url, "code").expect("a code");

    let answer = token(&origin, &party.exchange(&code)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["expires_in"], 900);
    assert_eq!(answer.body["scope"], "openid profile email");
    let identity = claims(&text(&answer.body["id_token"]));
    assert_eq!(identity["iss"], HOME);
    assert_eq!(identity["aud"], "rp");
    assert_eq!(identity["sub"], json!(tab.person.id));
    assert_eq!(identity["nonce"], "a nonce");
    assert_eq!(identity["amr"], json!(["pwd"]));
    assert_eq!(identity["acr"], "urn:tollgate:acr:1");
    let seconds = |name: &str| identity[name].as_i64().expect("a time");
    assert_eq!(seconds("exp") - seconds("iat"), 900);
    assert!(seconds("auth_time") <= seconds("iat"));
    assert!(identity["sid"].is_string() && identity["at_hash"].is_string());

    let access = text(&answer.body["access_token"]);
    let told = origin.get("/oauth2/userinfo", &access).await;
    assert_eq!(
        told.body,
        json!({"sub": tab.person.id, "email": ADA, "email_verified": false})
    );
    for base in ["/api/auth/oauth2", "/api/oidc"] {
        let again = origin.get(&format!("{base}/userinfo"), &access).await;
        assert_eq!(again.body, told.body);
        let path = format!("{base}/authorize?{}", encode(&party.request()));
        let answer = get(&origin, Some(&tab), &path).await;
        assert!(param(&location(&answer), "code").is_some());
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_leads_elsewhere_is_told_here_and_leads_nowhere(db: PgPool) {
    let (origin, tab) = start(&db).await;
    let party = Party::add(&db, "rp", Spec::default()).await;
    let request = || party.request();
    for uri in [
        "https://rp.example/cb/",
        "https://rp.example/cb/../evil",
        "https://rp.example/cb?x=1",
        "https://rp.example/cb#",
        "https://rp.example/cb#x",
        "https://rp.example/%63b",
        "https://rp.example/CB",
        "https://RP.example/cb",
        "https://rp.example:443/cb",
        "https://rp.example:8443/cb",
        "https://user@rp.example/cb",
        "https://rp.example@evil.test/cb",
        "https://rp.example.evil.test/cb",
        "http://rp.example/cb",
        "https://evil.test/cb",
        "//rp.example/cb",
        "javascript:alert(1)",
        "https://rp.example/cb\r\nLocation: https://evil.test",
    ] {
        let fields = with(request(), "redirect_uri", Some(uri));
        is_told_here(&authorize(&origin, Some(&tab), &fields).await);
        // An error does not lead there either.
        let fields = with(fields, "response_type", Some("token"));
        is_told_here(&authorize(&origin, Some(&tab), &fields).await);
    }
    for (name, value) in [
        ("client_id", None),
        ("client_id", Some("nobody")),
        ("client_id", Some("RP")),
        ("client_id", Some("\0")),
        ("redirect_uri", None),
    ] {
        is_told_here(&authorize(&origin, Some(&tab), &with(request(), name, value)).await);
    }
    for name in ["client_id", "redirect_uri"] {
        let mut fields = request();
        let twice = fields.iter().find(|(known, _)| known == name).cloned();
        fields.extend(twice);
        is_told_here(&authorize(&origin, Some(&tab), &fields).await);
    }
    sqlx::query("UPDATE auth.clients SET disabled_at = now()")
        .execute(&db)
        .await
        .expect("disabled");
    is_told_here(&authorize(&origin, Some(&tab), &request()).await);
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.client_grants").await,
        0
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn whatever_else_is_wrong_the_client_is_told(db: PgPool) {
    let (origin, tab) = start(&db).await;
    let party = Party::add(&db, "rp", Spec::default()).await;
    for (name, value, error) in [
        ("response_type", None, "invalid_request"),
        ("response_type", Some("token"), "unsupported_response_type"),
        (
            "response_type",
            Some("id_token"),
            "unsupported_response_type",
        ),
        (
            "response_type",
            Some("code token"),
            "unsupported_response_type",
        ),
        (
            "response_type",
            Some("code id_token"),
            "unsupported_response_type",
        ),
        ("response_mode", Some("fragment"), "invalid_request"),
        ("request", Some("e30.e30."), "request_not_supported"),
        (
            "request_uri",
            Some("https://evil.test/"),
            "request_uri_not_supported",
        ),
        ("code_challenge", None, "invalid_request"),
        ("code_challenge", Some("short"), "invalid_request"),
        ("code_challenge_method", None, "invalid_request"),
        ("code_challenge_method", Some("plain"), "invalid_request"),
        ("scope", None, "invalid_scope"),
        ("scope", Some("admin"), "invalid_scope"),
        ("prompt", Some("none login"), "invalid_request"),
        ("prompt", Some("dance"), "invalid_request"),
        ("max_age", Some("-1"), "invalid_request"),
        ("max_age", Some("soon"), "invalid_request"),
    ] {
        let fields = with(party.request(), name, value);
        is_sent_back(&authorize(&origin, Some(&tab), &fields).await, error);
    }
    let unbound = with(party.request(), "code_challenge", None);
    let unbound = with(unbound, "code_challenge_method", None);
    is_sent_back(
        &authorize(&origin, Some(&tab), &unbound).await,
        "invalid_request",
    );
    let mut twice = party.request();
    twice.push(("nonce".to_owned(), "another".to_owned()));
    is_sent_back(
        &authorize(&origin, Some(&tab), &twice).await,
        "invalid_request",
    );
    let silent = with(party.request(), "prompt", Some("none"));
    is_sent_back(&authorize(&origin, None, &silent).await, "login_required");
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.client_grants").await,
        0
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_native_app_chooses_its_port_and_is_let_through_by_a_page_alone(db: PgPool) {
    let (origin, tab) = start(&db).await;
    let spec = Spec {
        public: true,
        trusted: false,
        redirect_uris: vec![
            "http://127.0.0.1/cb".to_owned(),
            "org.example.app:/cb".to_owned(),
        ],
        ..Spec::default()
    };
    let native = Party::add(&db, "native", spec).await;
    for uri in ["http://127.0.0.1:49152/cb", "org.example.app:/cb"] {
        let fields = with(native.request(), "redirect_uri", Some(uri));
        // Each time: any program here could be the one that asks (RFC 8252 §8.6).
        for _ in 0..2 {
            let silent = with(fields.clone(), "prompt", Some("none"));
            let refused = location(&authorize(&origin, Some(&tab), &silent).await);
            let error = param(&refused, "error");
            assert_eq!(error.as_deref(), Some("consent_required"));
            let page = authorize(&origin, Some(&tab), &fields).await;
            let url = location(&press(&origin, &tab, &page, "yes").await);
            let code = param(&url, "code").expect("a code");
            let exchange = with(native.exchange(&code), "client_secret", None);
            let exchange = with(exchange, "redirect_uri", Some(uri));
            let answer = token(&origin, &exchange).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_confidential_client_may_do_without_pkce(db: PgPool) {
    let (origin, tab) = start(&db).await;
    let spec = Spec {
        without_pkce: true,
        ..Spec::default()
    };
    let plain = Party::add(&db, "plain", spec).await;
    let fields = with(plain.request(), "code_challenge", None);
    is_sent_back(
        &authorize(&origin, Some(&tab), &fields).await,
        "invalid_request",
    );
    let fields = with(fields, "code_challenge_method", None);
    let code = plain.code_for(&origin, &tab, &fields).await;
    // Somebody has taken the challenge away on the way here (RFC 9700 §4.8.2).
    let answer = token(&origin, &plain.exchange(&code)).await;
    assert_eq!(answer.body["error"], "invalid_grant", "{answer:?}");
    let exchange = with(plain.exchange(&code), "code_verifier", None);
    assert_eq!(token(&origin, &exchange).await.status, StatusCode::OK);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_is_not_signed_in_signs_in_and_comes_back(db: PgPool) {
    let (origin, tab) = start(&db).await;
    let party = Party::add(&db, "rp", Spec::default()).await;
    let fields = with(party.request(), "login_hint", Some(ADA));
    let url = location(&authorize(&origin, None, &fields).await);
    assert_eq!(url.path(), "/sign-in");
    assert_eq!(param(&url, "login_hint").as_deref(), Some(ADA));
    assert_eq!(param(&url, "again"), None);
    let back = param(&url, "returnUrl").expect("a way back");
    assert_eq!(back, format!("/oauth2/authorize?{}", encode(&fields)));
    let answer = get(&origin, Some(&tab), &back).await;
    assert!(param(&location(&answer), "code").is_some());

    // A form of the client's page brings no cookie; the GET that it leads to does.
    let answer = post(
        &origin,
        "/oauth2/authorize",
        &[("origin", "https://rp.example")],
        &fields,
    )
    .await;
    let url = location(&answer);
    let path = format!("{}?{}", url.path(), url.query().expect("a query"));
    assert_eq!(path, back);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_stale_session_does_not_pass_for_a_new_sign_in(db: PgPool) {
    let (origin, tab) = start(&db).await;
    let party = Party::add(&db, "rp", Spec::default()).await;
    for (name, value) in [
        ("prompt", "login"),
        ("prompt", "select_account"),
        ("max_age", "0"),
    ] {
        let fields = with(party.request(), name, Some(value));
        let url = location(&authorize(&origin, Some(&tab), &fields).await);
        assert_eq!(
            (url.path(), param(&url, "again").as_deref()),
            ("/sign-in", Some("1"))
        );
        let back = param(&url, "returnUrl").expect("a way back");
        // Who only comes back is asked again, and so is who makes up the time or takes another request's.
        let elsewhere = back.replace("a+nonce", "another");
        let made_up = format!("/oauth2/authorize?{}&asked=AAAA", encode(&fields));
        for path in [&back, &elsewhere, &made_up] {
            let url = location(&get(&origin, Some(&tab), path).await);
            assert_eq!(url.path(), "/sign-in", "{path}");
        }
        let fresh = Tab::sign_in(&origin, ADA).await;
        let url = location(&get(&origin, Some(&fresh), &elsewhere).await);
        assert_eq!(url.path(), "/sign-in");
        let answer = get(&origin, Some(&fresh), &back).await;
        assert!(param(&location(&answer), "code").is_some(), "{answer:?}");
        let silent = with(fields, "prompt", Some("none"));
        let silent = with(silent, "max_age", Some("0"));
        is_sent_back(
            &authorize(&origin, Some(&tab), &silent).await,
            "login_required",
        );
    }
    let fields = with(party.request(), "max_age", Some("600"));
    assert!(
        param(
            &location(&authorize(&origin, Some(&tab), &fields).await),
            "code"
        )
        .is_some()
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn somebody_is_asked_once_and_again_for_more(db: PgPool) {
    let (origin, tab) = start(&db).await;
    let spec = Spec {
        trusted: false,
        ..Spec::default()
    };
    let party = Party::add(&db, "rp", spec).await;
    let less = with(party.request(), "scope", Some("openid"));
    let silent = with(less.clone(), "prompt", Some("none"));
    is_sent_back(
        &authorize(&origin, Some(&tab), &silent).await,
        "consent_required",
    );

    let page = authorize(&origin, Some(&tab), &less).await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    let policy = page.headers[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .expect("text");
    assert!(
        policy.contains("frame-ancestors 'none'") && !policy.contains("script-src"),
        "{policy}"
    );
    assert!(
        policy.contains("form-action 'self' https://rp.example;"),
        "{policy}"
    );
    assert_eq!(page.headers["x-frame-options"], "DENY");
    is_sent_back(&press(&origin, &tab, &page, "no").await, "access_denied");
    let answer = press(&origin, &tab, &page, "yes").await;
    assert!(param(&location(&answer), "code").is_some());
    assert!(
        param(
            &location(&authorize(&origin, Some(&tab), &silent).await),
            "code"
        )
        .is_some()
    );

    for more in ["openid email", "openid offline_access"] {
        let more = with(party.request(), "scope", Some(more));
        let page = authorize(&origin, Some(&tab), &more).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        press(&origin, &tab, &page, "yes").await;
        assert!(
            param(
                &location(&authorize(&origin, Some(&tab), &more).await),
                "code"
            )
            .is_some()
        );
    }
    // What was given before is not forgotten, and may be asked for once more.
    assert!(
        param(
            &location(&authorize(&origin, Some(&tab), &silent).await),
            "code"
        )
        .is_some()
    );
    let again = with(party.request(), "prompt", Some("consent"));
    assert_eq!(
        authorize(&origin, Some(&tab), &again).await.status,
        StatusCode::OK
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_says_yes_for_somebody_else(db: PgPool) {
    let (origin, tab) = start(&db).await;
    origin.register("eve@example.org").await;
    let eve = Tab::sign_in(&origin, "eve@example.org").await;
    let spec = Spec {
        trusted: false,
        ..Spec::default()
    };
    let party = Party::add(&db, "rp", spec).await;
    let page = authorize(&origin, Some(&eve), &party.request()).await;
    // Eve's form in Ada's browser asks Ada.
    let answer = press(&origin, &tab, &page, "yes").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(text(&answer.body).contains(ADA));
    // So does one of another request.
    let mut own = authorize(&origin, Some(&tab), &party.request()).await;
    own.body = text(&own.body)
        .replace("scope=openid", "scope=openid+offline_access")
        .into();
    assert_eq!(
        press(&origin, &tab, &own, "yes").await.status,
        StatusCode::OK
    );
    let fields = with(Vec::new(), "answer", Some("yes"));
    for headers in [
        &[("cookie", &*tab.cookie), ("origin", "https://rp.example")][..],
        &[("cookie", &*tab.cookie)],
    ] {
        let answer = post(&origin, "/oauth2/consent", headers, &fields).await;
        answer.is_problem(403, "FOREIGN_PAGE");
    }
    assert_eq!(count(&db, "SELECT count(*) FROM auth.consents").await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_answer_may_go_back_in_a_form(db: PgPool) {
    let (origin, tab) = start(&db).await;
    let party = Party::add(&db, "rp", Spec::default()).await;
    let fields = with(party.request(), "response_mode", Some("form_post"));
    let fields = with(fields, "state", Some("\"><script>alert(1)</script>"));
    let page = authorize(&origin, Some(&tab), &fields).await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    let html = text(&page.body);
    assert!(html.contains(&format!("action=\"{CALLBACK}\"")), "{html}");
    assert!(
        html.contains("name=\"code\"") && html.contains("name=\"iss\""),
        "{html}"
    );
    assert!(!html.contains("<script>alert"), "{html}");
    let policy = page.headers[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .expect("text");
    assert!(
        policy.contains("script-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    let bad = with(fields, "code_challenge", Some(&CHALLENGE[1..]));
    let page = authorize(&origin, Some(&tab), &bad).await;
    assert!(text(&page.body).contains("invalid_request"), "{page:?}");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn discovery_names_what_is_there(db: PgPool) {
    let origin = Origin::start(&db).await;
    let answer = origin.get("/.well-known/openid-configuration", "").await;
    assert_eq!(answer.body["issuer"], HOME);
    assert_eq!(
        answer.body["code_challenge_methods_supported"],
        json!(["S256"])
    );
    assert_eq!(answer.body["response_types_supported"], json!(["code"]));
    let document = answer.body.as_object().expect("an object");
    for (name, url) in document
        .iter()
        .filter(|(name, _)| name.ends_with("_endpoint"))
    {
        let url = Url::parse(&text(url)).expect("a URL");
        let found = origin.get(url.path(), "").await;
        assert_ne!(found.status, StatusCode::NOT_FOUND, "{name}");
    }
    let again = origin
        .get("/.well-known/oauth-authorization-server", "")
        .await;
    assert_eq!(again.body, answer.body);
    let rsa = origin
        .get("/oauth2/rs256/openid-configuration", "")
        .await
        .body;
    assert_eq!(
        rsa["id_token_signing_alg_values_supported"],
        json!(["RS256"])
    );
    assert_eq!(rsa["issuer"], HOME);
}
