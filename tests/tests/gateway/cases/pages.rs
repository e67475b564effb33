//! What pages of other origins may ask and read.

use tests::Stub;

use super::{Case, Token, case, get};

const APP: &str = "https://app.example";
const ALLOWED: &str = "access-control-allow-origin";

pub fn all() -> Vec<Case> {
    let mut all = listed();
    all.extend(registered());
    all
}

/// What a browser asks before it sends a request of a page at this origin.
fn before(
    name: &'static str,
    target: &'static str,
    origin: &'static str,
    method: &'static str,
) -> Case {
    case(name, "OPTIONS", target)
        .header("origin", origin)
        .header("access-control-request-method", method)
}

/// Pages that the policy names.
fn listed() -> Vec<Case> {
    vec![
        before("what a browser asks before", "/pages", APP, "POST")
            .header(
                "access-control-request-headers",
                "authorization,content-type",
            )
            .status(204)
            .with(ALLOWED, APP)
            .with("access-control-allow-methods", "POST")
            .with("access-control-allow-headers", "authorization,content-type")
            .with("access-control-max-age", "600")
            .with("access-control-allow-credentials", "")
            .with("vary", "origin"),
        before("headers that are no names", "/pages", APP, "GET")
            .header("access-control-request-headers", "a: b")
            .status(204)
            .with("access-control-allow-headers", ""),
        before(
            "a page from elsewhere",
            "/pages",
            "https://app.example.evil.test",
            "POST",
        )
        .problem(403, "FORBIDDEN")
        .with(ALLOWED, ""),
        before(
            "the same host without TLS",
            "/pages",
            "http://app.example",
            "POST",
        )
        .problem(403, "FORBIDDEN"),
        before("another port", "/pages", "https://app.example:8443", "POST")
            .problem(403, "FORBIDDEN"),
        before("no origin at all", "/pages", "null", "POST").problem(403, "FORBIDDEN"),
        before("where no page may", "/open", APP, "GET").problem(403, "FORBIDDEN"),
        before("another method", "/pages", APP, "DELETE").problem(405, "METHOD_NOT_ALLOWED"),
        before("an unknown path", "/nothing", APP, "GET").problem(404, "NOT_FOUND"),
        case("no question of a browser", "OPTIONS", "/pages")
            .header("origin", APP)
            .problem(405, "METHOD_NOT_ALLOWED")
            .with(ALLOWED, ""),
        get("a page reads its answer", "/pages")
            .bearer(Token::Good)
            .header("origin", "http://localhost:3000")
            .with(ALLOWED, "http://localhost:3000")
            .with("vary", "origin")
            .forwarded(),
        get("and its problem", "/pages")
            .header("origin", APP)
            .problem(401, "UNAUTHENTICATED")
            .with(ALLOWED, APP),
        get("another page does not", "/pages")
            .bearer(Token::Good)
            .header("origin", "https://evil.test")
            .with(ALLOWED, "")
            .forwarded(),
        get("what all pages may read", "/all-pages")
            .header("origin", "https://any.test")
            .with(ALLOWED, "*")
            .with("vary", ""),
        get("who is no page is told nothing", "/all-pages").with(ALLOWED, ""),
    ]
}

/// Pages of apps that the origin knows.
fn registered() -> Vec<Case> {
    vec![
        before(
            "a registered app's page asks before",
            "/for-apps",
            Stub::PAGE,
            "POST",
        )
        .status(204)
        .with(ALLOWED, Stub::PAGE)
        .with("access-control-allow-credentials", "true")
        .with("vary", "origin"),
        get("a registered app's page reads", "/for-apps")
            .header("origin", Stub::PAGE)
            .with(ALLOWED, Stub::PAGE)
            .with("access-control-allow-credentials", "true")
            .forwarded(),
        before(
            "a page of no app",
            "/for-apps",
            "https://app.example",
            "POST",
        )
        .problem(403, "FORBIDDEN")
        .with(ALLOWED, ""),
        before(
            "an app's page without TLS",
            "/for-apps",
            "http://registered.example",
            "POST",
        )
        .problem(403, "FORBIDDEN"),
        before(
            "an app's page where apps are not meant",
            "/open",
            Stub::PAGE,
            "GET",
        )
        .problem(403, "FORBIDDEN"),
        get("another page reads there without cookies", "/for-apps")
            .header("origin", "https://listed.example")
            .with(ALLOWED, "https://listed.example")
            .with("access-control-allow-credentials", "")
            .forwarded(),
    ]
}
