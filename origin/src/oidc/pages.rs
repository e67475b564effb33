//! The pages that a browser shows on its way, and the ways back to a client.

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};
use url::{Url, form_urlencoded};

use crate::pages::{Note, show};

use super::{
    request::{Mode, Return},
    scopes::{Scope, Scopes},
};

/// Presses the button of a page that only passes something on. Its hash is in the page's policy.
const PRESS: &str = "document.forms[0].submit()";

/// Whether somebody lets a client know who they are.
#[derive(Template)]
#[template(path = "pages/consent.html")]
pub struct Consent<'a> {
    /// What it is.
    pub title: &'a str,
    /// What there is to know.
    pub says: &'a str,
    /// What the client learns.
    pub learns: Vec<&'static str>,
    /// Where the form goes.
    pub action: &'a str,
    /// The request, as it came.
    pub request: &'a str,
    /// That the form is this browser's.
    pub csrf: &'a str,
    /// What the button says that allows it.
    pub allow: &'a str,
    /// What the other one says.
    pub deny: &'a str,
}

/// The form of an answer that a browser carries to a client.
#[derive(Template)]
#[template(path = "pages/carry.html")]
struct Carry<'a> {
    title: &'a str,
    says: &'a str,
    action: &'a str,
    fields: &'a [(&'a str, &'a str)],
    button: &'a str,
    press: &'a str,
}

/// What a scope lets a client know.
const fn learns(scope: Scope) -> &'static str {
    match scope {
        Scope::OpenId => "that it is you, each time that you sign in",
        Scope::Profile => "your name and your picture",
        Scope::Email => "your e-mail address",
        Scope::Offline => "all of this when you are not here, too, until you sign out everywhere",
    }
}

/// Asks somebody whether they let a client know who they are.
pub fn consent(
    (client, email): (&str, &str),
    scopes: &Scopes,
    (request, csrf): (&str, &str),
    leads_to: &str,
) -> Response {
    let title = format!("Sign in to {client}?");
    let says = format!("You are signed in as {email}. {client} would learn:");
    let page = Consent {
        title: &title,
        says: &says,
        learns: scopes.iter().map(learns).collect(),
        action: "/oauth2/consent",
        request,
        csrf,
        allow: "Allow",
        deny: "Cancel",
    };
    let response = show(StatusCode::OK, &page, None);
    let_form_lead_to(response, leads_to, None)
}

/// Asks somebody whether they want to sign out, since who has sent them here may not say so.
pub fn sign_out(request: &str, csrf: &str, leads_to: Option<&str>) -> Response {
    let page = Consent {
        title: "Sign out?",
        says: "You will be signed out here, and of the apps that you opened from here.",
        learns: Vec::new(),
        action: "/oauth2/logout/confirm",
        request,
        csrf,
        allow: "Sign out",
        deny: "Stay signed in",
    };
    let response = show(StatusCode::OK, &page, None);
    match leads_to {
        Some(uri) => let_form_lead_to(response, uri, None),
        None => response,
    }
}

/// Tells the person alone that something is wrong: there is no client to tell, or no way to it that is
/// known to be its own.
pub fn mistake(says: &str) -> Response {
    let note = Note {
        title: "This request is not right",
        says,
    };
    show(StatusCode::BAD_REQUEST, &note, None)
}

/// Tells somebody something.
pub fn note(title: &str, says: &str) -> Response {
    show(StatusCode::OK, &Note { title, says }, None)
}

impl Return {
    /// Brings an answer to the client. It says from whom it is (RFC 9207).
    pub fn answer(&self, issuer: &str, answer: &[(&str, &str)]) -> Response {
        let mut fields = answer.to_vec();
        fields.extend(self.state.as_deref().map(|state| ("state", state)));
        fields.push(("iss", issuer));
        match self.mode {
            Mode::Query => go(&with_query(&self.uri, &fields)),
            Mode::FormPost => {
                let page = Carry {
                    title: "One more step",
                    says: "Go on to the app that has sent you here.",
                    action: &self.uri,
                    fields: &fields,
                    button: "Go on",
                    press: PRESS,
                };
                let_form_lead_to(show(StatusCode::OK, &page, None), &self.uri, Some(PRESS))
            }
        }
    }
}

/// A URI with these parameters behind its own.
pub fn with_query(uri: &str, fields: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    let joint = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{joint}{query}")
}

/// Sends a browser there; nobody there learns where from.
pub fn go(to: &str) -> Response {
    let there = [
        (header::LOCATION, to),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (StatusCode::SEE_OTHER, there).into_response()
}

/// Lets the form of a page lead to a client, and perhaps a script run: browsers hold the redirect that
/// answers a form to the policy of the form's page.
fn let_form_lead_to(mut response: Response, uri: &str, script: Option<&str>) -> Response {
    let source = match Url::parse(uri) {
        Ok(url) if url.origin().is_tuple() => url.origin().ascii_serialization(),
        Ok(url) => format!("{}:", url.scheme()),
        Err(_) => return response,
    };
    let headers = response.headers_mut();
    let policy = headers.get(header::CONTENT_SECURITY_POLICY);
    let policy = policy
        .and_then(|policy| policy.to_str().ok())
        .unwrap_or_default();
    let mut policy = policy.replacen(
        "form-action 'self'",
        &format!("form-action 'self' {source}"),
        1,
    );
    if let Some(script) = script {
        let hash = Base64::encode_string(&Sha256::digest(script));
        policy = format!("{policy}; script-src 'sha256-{hash}'");
    }
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}
