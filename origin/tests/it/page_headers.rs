//! What a browser is told of our pages besides what is on them.

use axum::{
    body::Body,
    http::{Request, header},
};
use sqlx::PgPool;

use crate::support::{Answer, Origin};

/// Helmet's names, and what our pages say.
const EVERY: [(&str, &str); 11] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("origin-agent-cluster", "?1"),
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-dns-prefetch-control", "off"),
    ("x-download-options", "noopen"),
    ("x-frame-options", "DENY"),
    ("x-permitted-cross-domain-policies", "none"),
    ("x-xss-protection", "0"),
    ("cache-control", "no-store"),
];
const HSTS: &str = "strict-transport-security";

/// Each kind of page: where a link leads, and where a provider sends people back to.
const PAGES: [&str; 4] = [
    "/api/v1/auth/verify-email?token=x",
    "/api/v1/auth/reset-password?token=x",
    "/api/v1/auth/magic-link/verify?token=x",
    "/api/v1/auth/oauth/google/callback?state=x",
];

async fn look(origin: &Origin, path: &str) -> Answer {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    origin.send(request).await
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn our_pages_have_every_header_that_helmet_sends(db: PgPool) {
    let by_tls = Origin::start_with(&db, &["--public-url=https://localhost:8787"]).await;
    let plain = Origin::start(&db).await;
    for path in PAGES {
        for (origin, hsts) in [(&by_tls, Some("max-age=31536000")), (&plain, None)] {
            let answer = look(origin, path).await;
            let said = |name: &str| {
                let value = answer.headers.get(name)?;
                Some(value.to_str().expect("text").to_owned())
            };
            assert_eq!(
                said("content-type").as_deref(),
                Some("text/html; charset=utf-8")
            );
            for (name, value) in EVERY {
                assert_eq!(said(name).as_deref(), Some(value), "{name} of {path}");
            }
            assert_eq!(said(HSTS).as_deref(), hsts, "{path}");
            let policy = said("content-security-policy").expect("a policy");
            for part in [
                "default-src 'none'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
                "form-action 'self'",
            ] {
                assert!(policy.contains(part), "{policy}");
            }
        }
    }
    let data = look(&by_tls, "/api/auth/get-session").await;
    assert!(!data.headers.contains_key(header::CONTENT_SECURITY_POLICY));
}
