//! What the page of a stranger makes a browser send is refused before anything is done.

use axum::{
    body::Body,
    http::{HeaderValue, Request, StatusCode, header},
};
use serde_json::json;
use shared::{
    api::{PAGES, Pages},
    proof::Purpose,
};
use sqlx::PgPool;
use tokio::time::{Duration, sleep, timeout};

use crate::{
    edge,
    support::{Answer, Origin, PASSWORD, Service, count},
};

pub const HOME: &str = "http://127.0.0.1:8787";
pub const APP: &str = "https://app.example";
const LOGIN: &str = "/api/v1/auth/login";
const REGISTER: &str = "/api/v1/auth/register";
const ADA: &str = "ada@example.org";

/// What looks like `https://app.example` or like us, and is neither.
pub const STRANGERS: &[&str] = &[
    "",
    "null",
    "https://evil.test",
    "http://app.example",
    "https://app.example:8443",
    "https://app.example:443",
    "https://sub.app.example",
    "https://app.example.evil.test",
    "https://app.example.",
    "https://app.example/",
    "https://APP.example",
    "HTTPS://app.example",
    "https://app.example ",
    "https://app.example https://app.example",
    "https://app.example, https://evil.test",
    "https://app.example,https://app.example",
    "https://user@app.example",
    "app.example",
    "*",
    "http://127.0.0.1",
    "http://127.0.0.1:8788",
    "https://127.0.0.1:8787",
    "http://localhost:8787",
];

async fn scene(db: &PgPool) -> Origin {
    Service::with_pages(db, "app", &[APP, "https://www.app.example"]).await;
    let origin = Origin::start(db).await;
    origin.register(ADA).await;
    origin
}

async fn send(origin: &Origin, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::post(path);
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    origin
        .send(request.body(body.to_owned().into()).expect("a request"))
        .await
}

fn login() -> String {
    json!({"email": ADA, "password": PASSWORD}).to_string()
}

async fn sign_in(origin: &Origin, headers: &[(&str, &str)]) -> Answer {
    send(origin, LOGIN, headers, &login()).await
}

#[track_caller]
fn is_refused(answer: &Answer, what: &str) {
    assert!(!answer.headers.contains_key(header::SET_COOKIE), "{what}");
    assert_eq!(answer.body["code"], "FOREIGN_PAGE", "{what}: {answer:?}");
    answer.is_problem(403, "FOREIGN_PAGE");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn no_strangers_page_signs_anybody_in_or_out(db: PgPool) {
    let origin = scene(&db).await;
    let ada = origin.login(ADA).await;
    let sign_out = json!({"refreshToken": ada.refresh}).to_string();
    let register = json!({"email": "eve@example.org", "password": PASSWORD}).to_string();
    for stranger in STRANGERS {
        for (path, body) in [
            (LOGIN, login()),
            (REGISTER, register.clone()),
            ("/api/v1/auth/logout", sign_out.clone()),
            ("/api/v1/auth/refresh", sign_out.clone()),
        ] {
            // A browser that says both is believed in what is worse.
            let headers = [("origin", *stranger), ("sec-fetch-site", "same-origin")];
            let answer = send(&origin, path, &headers, &body).await;
            is_refused(&answer, stranger);
        }
    }
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 1);
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 1);
    let untouched =
        "SELECT count(*) FROM auth.sessions WHERE refresh_current = 0 AND revoked_at IS NULL";
    assert_eq!(count(&db, untouched).await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn our_pages_and_those_of_apps_may_ask(db: PgPool) {
    let origin = scene(&db).await;
    for page in [HOME, APP, "https://www.app.example"] {
        let headers = [("origin", page), ("sec-fetch-site", "cross-site")];
        let answer = sign_in(&origin, &headers).await;
        assert_eq!(answer.status, StatusCode::OK, "{page}: {answer:?}");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn two_origins_and_no_text_are_strangers(db: PgPool) {
    let origin = scene(&db).await;
    for two in [[APP, APP], [APP, "https://evil.test"], [HOME, HOME]] {
        let answer = sign_in(&origin, &two.map(|page| ("origin", page))).await;
        is_refused(&answer, &two.concat());
    }
    let bytes = HeaderValue::from_bytes(b"https://app.example\xff").expect("a value");
    let request = Request::post(LOGIN)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ORIGIN, bytes);
    let request = request.body(Body::from(login())).expect("a request");
    is_refused(&origin.send(request).await, "bytes");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn without_an_origin_the_site_counts(db: PgPool) {
    let origin = scene(&db).await;
    for site in ["cross-site", "same-site", "another-word", ""] {
        let answer = sign_in(&origin, &[("sec-fetch-site", site)]).await;
        is_refused(&answer, site);
    }
    let both = [
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "cross-site"),
    ];
    is_refused(&sign_in(&origin, &both).await, "both");
    for passes in [
        &[("sec-fetch-site", "same-origin")][..],
        &[("sec-fetch-site", "none")],
        // A server, a native app, curl.
        &[],
    ] {
        let answer = sign_in(&origin, passes).await;
        assert_eq!(answer.status, StatusCode::OK, "{passes:?}: {answer:?}");
    }
}

/// Another site's page adds neither without being let by what answers its preflight.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_token_or_a_service_key_needs_no_page(db: PgPool) {
    let origin = scene(&db).await;
    let service = Service::add(&db, "two", &[], 0).await;
    let ada = origin.login(ADA).await;
    let evil = ("origin", "https://evil.test");
    let path = "/api/v1/auth/logout";
    for value in ["Basic YTpi", "Bearer", "", "Bear x"] {
        let answer = send(&origin, path, &[evil, ("authorization", value)], "{}").await;
        is_refused(&answer, value);
    }
    let bearer = format!("bearer {}", ada.access);
    let answer = send(&origin, path, &[evil, ("authorization", &bearer)], "{}").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let headers = [evil, ("x-app-id", "two"), ("x-service-key", &service.key)];
    let charge = json!({"userId": ada.id, "amount": 1, "appId": "two", "description": "d"});
    let path = "/api/v1/credits/use";
    let answer = send(&origin, path, &headers, &charge.to_string()).await;
    answer.is_problem(403, "FORBIDDEN");
}

/// What a form of another site can send without being asked about it beforehand.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_is_not_json_signs_nobody_in(db: PgPool) {
    let origin = scene(&db).await;
    let form = "email=ada%40example.org&password=correct+horse";
    for (kind, body) in [
        ("text/plain", login()),
        ("text/plain; charset=application/json", login()),
        ("application/x-www-form-urlencoded", form.to_owned()),
        ("multipart/form-data; boundary=x", login()),
        ("", login()),
    ] {
        for page in [&[][..], &[("origin", HOME)], &[("origin", APP)]] {
            let headers = [&[("content-type", kind)], page].concat();
            let answer = send(&origin, LOGIN, &headers, &body).await;
            answer.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
            assert!(!answer.headers.contains_key(header::SET_COOKIE), "{kind}");
        }
    }
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 0);
}

/// The buttons of our pages are pressed on our pages alone.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_apps_page_sends_no_form_of_ours(db: PgPool) {
    let origin = scene(&db).await;
    let path = "/api/v1/auth/reset-password";
    let form = ("content-type", "application/x-www-form-urlencoded");
    let body = "token=x&newPassword=battery+staple";
    let by_app = send(&origin, path, &[form, ("origin", APP)], body).await;
    is_refused(&by_app, APP);
    let by_us = send(&origin, path, &[form, ("origin", HOME)], body).await;
    assert_eq!(by_us.status, StatusCode::BAD_REQUEST, "{by_us:?}");
}

/// Each call that changes something, as the policy lists them.
fn calls() -> Vec<(String, String)> {
    let policy = include_str!("../../../policy.toml");
    let quoted = |line: &str| -> Vec<String> {
        let mut parts = line.split('"').skip(1).step_by(2);
        parts.by_ref().map(str::to_owned).collect()
    };
    let mut calls = Vec::new();
    let mut path = String::new();
    for line in policy.lines() {
        if line.starts_with("path = ") {
            path.clone_from(&quoted(line)[0]);
        } else if line.starts_with("methods = ") {
            let unsafe_ones = quoted(line).into_iter().filter(|method| method != "GET");
            calls.extend(unsafe_ones.map(|method| (method, path.clone())));
        }
    }
    calls
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn no_call_is_forgotten(db: PgPool) {
    let origin = scene(&db).await;
    let id = "0197a7c2-0000-7000-8000-000000000000";
    let mut open = Vec::new();
    let calls = calls();
    assert!(calls.len() > 30, "{calls:?}");
    for (method, path) in calls {
        let (Some(head), Some(tail)) = (path.split('{').next(), path.rsplit('}').next()) else {
            panic!("{path}")
        };
        let target = if path.contains('{') {
            format!("{head}{id}{tail}")
        } else {
            path.clone()
        };
        let request = Request::builder()
            .method(method.as_str())
            .uri(target)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ORIGIN, "https://evil.test");
        let request = request.body(Body::from("{}")).expect("a request");
        if origin.send(request).await.body["code"] != "FOREIGN_PAGE" {
            open.push(format!("{method} {path}"));
        }
    }
    // What relying parties ask looks at no cookie, or only leads to the GET of the same.
    let asked = [
        "authorize",
        "token",
        "userinfo",
        "introspect",
        "revoke",
        "logout",
    ];
    let bases = ["/oauth2", "/api/auth/oauth2", "/api/oidc"];
    let of = |base: &str| asked.map(|name| format!("POST {base}/{name}"));
    let mut expected = vec!["POST /api/v1/auth/oauth/{provider}/callback".to_owned()];
    expected.extend(bases.into_iter().flat_map(of));
    expected.push("POST /api/v1/webhooks/stripe".to_owned());
    assert_eq!(open, expected);
}

/// Waits until a sign-in from an app's page is answered so.
async fn until(origin: &Origin, status: u16) {
    let answered = async {
        while sign_in(origin, &[("origin", APP)]).await.status != status {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = timeout(Duration::from_secs(15), answered).await;
    waited.unwrap_or_else(|_| panic!("{status} in time"));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_app_that_comes_or_goes_is_heard_of_in_seconds(db: PgPool) {
    let origin = scene(&db).await;
    for (change, status) in [("now()", 403), ("NULL", 200)] {
        let change = format!("UPDATE auth.apps SET disabled_at = {change}");
        sqlx::query(sqlx::AssertSqlSafe(change))
            .execute(&db)
            .await
            .expect("a change");
        until(&origin, status).await;
    }
}

async fn pages(origin: &Origin, purpose: Purpose<'_>) -> Answer {
    edge::ask(origin, ("GET", PAGES), purpose, None, String::new()).await
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_edge_hears_whose_pages_may_ask(db: PgPool) {
    let origin = Origin::start(&db).await;
    let told = async || {
        let answer = pages(&origin, Purpose::Internal(b"")).await;
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
        serde_json::from_value::<Pages>(answer.body).expect("pages")
    };
    assert!(told().await.origins.is_empty());
    Service::with_pages(&db, "one", &["https://b.example", "https://a.example"]).await;
    Service::with_pages(&db, "two", &["https://a.example", "http://localhost:3000"]).await;
    Service::with_pages(&db, "off", &["https://off.example"]).await;
    Service::add(&db, "none", &[], 0).await;
    sqlx::query("UPDATE auth.apps SET disabled_at = now() WHERE id = 'off'")
        .execute(&db)
        .await
        .expect("an end");
    let expected = [
        "http://localhost:3000",
        "https://a.example",
        "https://b.example",
    ];
    assert_eq!(told().await.origins, expected);
    pages(&origin, Purpose::Forward)
        .await
        .is_problem(403, "EDGE_PROOF_INVALID");
    let request = Request::get(PAGES).body(Body::empty()).expect("a request");
    origin
        .send(request)
        .await
        .is_problem(403, "EDGE_PROOF_INVALID");
}
