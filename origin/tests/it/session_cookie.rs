//! How far the cookie of a session goes, as the operator says it.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    outside_settings::start,
    support::{Answer, Origin, PASSWORD},
};

#[test]
fn a_cookie_goes_no_further_than_its_host_can_send_it() {
    let tls = "--public-url=https://auth.app.example.org";
    for domain in ["auth.app.example.org", "app.example.org", "example.org"] {
        let domain = format!("--session-cookie-domain={domain}");
        assert_eq!(start(&[tls, &domain]), Ok(()));
    }
    for domain in ["org", "ample.org", "other.example.org", ".example.org", ""] {
        let domain = format!("--session-cookie-domain={domain}");
        let why = start(&[tls, &domain]).expect_err(&domain);
        assert!(why.contains("SESSION_COOKIE_DOMAIN"), "{why}");
    }
    let why = start(&["--session-cookie-domain=0.0.1"]).expect_err("an address");
    assert!(why.contains("SESSION_COOKIE_DOMAIN"), "{why}");
    assert_eq!(start(&[tls, "--session-cookie-same-site=none"]), Ok(()));
    let why = start(&["--session-cookie-same-site=none"]).expect_err("plain HTTP");
    assert!(why.contains("SESSION_COOKIE_SAME_SITE"), "{why}");
}

/// The attributes of the cookie that an answer sets, by its whole name, and its value.
fn cookie(answer: &Answer, name: &str) -> (String, Vec<String>) {
    let mut cookies = answer.headers.get_all(header::SET_COOKIE).iter();
    let cookie = cookies.find_map(|cookie| {
        let cookie = cookie.to_str().expect("text").strip_prefix(name)?;
        cookie.strip_prefix('=')
    });
    let mut parts = cookie.expect(name).split("; ").map(str::to_owned);
    (parts.next().expect("a value"), parts.collect())
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_session_is_known_on_every_host_of_its_domain_and_a_device_on_ours_alone(db: PgPool) {
    let flags = [
        "--public-url=https://auth.example.org",
        "--session-cookie-domain=example.org",
        "--session-cookie-same-site=none",
        "--limit-scale=1",
    ];
    let origin = Origin::start_with(&db, &flags).await;
    origin.register("ada@example.org").await;
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let answer = origin.post("/api/v1/auth/login", None, &body).await;
    let (secret, attributes) = cookie(&answer, "__Secure-tollgate");
    for attribute in ["Domain=example.org", "SameSite=None", "Secure", "HttpOnly"] {
        assert!(attributes.contains(&attribute.to_owned()), "{attributes:?}");
    }
    let (_, of_device) = cookie(&answer, "__Host-tollgate-device");
    assert!(of_device.contains(&"SameSite=Lax".to_owned()));
    assert!(!of_device.contains(&"Domain=example.org".to_owned()));

    for (name, is_known) in [("__Secure-tollgate", true), ("__Host-tollgate", false)] {
        let request = Request::get("/api/auth/get-session")
            .header(header::COOKIE, format!("{name}={secret}"))
            .body(Body::empty());
        let session = origin.send(request.expect("a request")).await;
        assert_eq!(session.body != Value::Null, is_known, "{name}");
    }

    let token = answer.body["accessToken"].as_str().expect("a token");
    let answer = origin
        .post("/api/v1/auth/logout", Some(token), &json!({}))
        .await;
    let (nothing, attributes) = cookie(&answer, "__Secure-tollgate");
    assert_eq!(nothing, "");
    for attribute in ["Domain=example.org", "Max-Age=0"] {
        assert!(attributes.contains(&attribute.to_owned()), "{attributes:?}");
    }
}
