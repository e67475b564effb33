//! The headers that every page has: the set that Helmet sends by default, each at least as strict. What
//! a page may load and where its form may go is its own (`Content-Security-Policy`).

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

use crate::app::App;

const EVERY: [(HeaderName, &str); 11] = [
    // The address of the page has the secret in it: nobody else learns where a reader comes from. Not
    // `no-referrer`, which would make the form's own `Origin` be `null`.
    (header::REFERRER_POLICY, "same-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // What it did where browsers had it could be turned against the page.
    (header::X_XSS_PROTECTION, "0"),
    (header::X_DNS_PREFETCH_CONTROL, "off"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (HeaderName::from_static("origin-agent-cluster"), "?1"),
    (HeaderName::from_static("x-download-options"), "noopen"),
    (
        HeaderName::from_static("x-permitted-cross-domain-policies"),
        "none",
    ),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
];

/// A year. Other hosts below ours are their operators' to decide about.
const BY_TLS_ALONE: &str = "max-age=31536000";

/// Puts them on an answer, if it is a page.
pub fn put_on(app: &App, response: &mut Response) {
    let headers = response.headers_mut();
    let is_page = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page {
        for (name, value) in EVERY {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // Not by plain HTTP (RFC 6797 §7.2).
        if app.config.public_url.is_https() {
            let value = HeaderValue::from_static(BY_TLS_ALONE);
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
        }
    }
}
