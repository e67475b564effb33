//! The few pages that a browser shows: where the link of a mail leads, and what became of it. Each
//! is self-contained, runs no script, and may be framed by nobody, so that its button is pressed by
//! whoever reads it.

mod form;
mod headers;

use std::sync::LazyLock;

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};
use url::Url;

pub use form::{By, Posted};
pub use headers::dress;

pub(crate) const STYLE: &str = include_str!("../../templates/pages/style.css");

/// A page that tells something.
#[derive(Template)]
#[template(path = "pages/note.html")]
pub struct Note<'a> {
    /// What it is.
    pub title: &'a str,
    /// What there is to know.
    pub says: &'a str,
}

/// A page with one button, and a field for a password perhaps.
#[derive(Template)]
#[template(path = "pages/form.html")]
pub struct Form<'a> {
    /// What it is.
    pub title: &'a str,
    /// What happens when the button is pressed.
    pub says: &'a str,
    /// What went wrong the last time.
    pub mistake: Option<&'a str>,
    /// Where the form goes, below the public URL.
    pub action: &'a str,
    /// The secret of the link.
    pub token: &'a str,
    /// The field, where one is needed.
    pub password: Option<PasswordField>,
    /// What the button says.
    pub button: &'a str,
}

/// A field for a password.
pub struct PasswordField {
    /// As the body of the call names it.
    pub name: &'static str,
    /// What people read.
    pub label: &'static str,
    /// What password managers make of it.
    pub autocomplete: &'static str,
}

/// The page that a link leads to which is good no more.
pub fn gone() -> Response {
    let note = Note {
        title: "This link is not valid any more",
        says: "It was used, its time is over, or a newer one was sent. Ask for another.",
    };
    show(StatusCode::BAD_REQUEST, &note, None)
}

/// A page as an answer. `leads_to` is where its form leads in the end: browsers hold the redirect
/// that answers a form to the policy of the form's page.
pub fn show(status: StatusCode, page: &impl Template, leads_to: Option<&Url>) -> Response {
    static STYLE_HASH: LazyLock<String> =
        LazyLock::new(|| Base64::encode_string(&Sha256::digest(STYLE)));
    let leads_to = leads_to.map_or_else(String::new, |url| {
        format!(" {}", url.origin().ascii_serialization())
    });
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'self'{leads_to}; frame-ancestors 'none'; base-uri 'none'",
        *STYLE_HASH
    );
    let html = page.render().expect("a text takes whatever is written");
    let mut response = (status, html).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = HeaderValue::try_from(policy).expect("an origin is ASCII");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// What answers a form: the page that it leads to, or a note.
pub fn lead(leads_to: Option<&Url>, cookies: Vec<String>, note: &Note<'_>) -> Response {
    let cookies = AppendHeaders(
        cookies
            .into_iter()
            .map(|cookie| (header::SET_COOKIE, cookie)),
    );
    match leads_to {
        Some(url) => {
            let there = [
                (header::LOCATION, url.as_str()),
                (header::CACHE_CONTROL, "no-store"),
                (header::REFERRER_POLICY, "no-referrer"),
            ];
            (StatusCode::SEE_OTHER, there, cookies).into_response()
        }
        None => (cookies, show(StatusCode::OK, note, None)).into_response(),
    }
}
