//! The pages that a browser shows on its way, and the ways back to a client.

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};
use url::{Url, form_urlencoded};

use crate::pages::{Clients, Reader, go};

use super::{
    request::{Mode, Return},
    scopes::{Scope, Scopes},
};

/// Presses the button of a page that only passes something on. Its hash is in the page's policy.
const PRESS: &str = "document.forms[0].submit()";

/// Whether somebody lets a client know who they are.
#[derive(Template)]
#[template(path = "pages/consent.html")]
struct Consent<'a> {
    reader: &'a Reader,
    title: &'a str,
    says: &'a str,
    /// What the client learns.
    learns: Vec<&'static str>,
    /// Where the form goes.
    action: &'a str,
    /// The request, as it came.
    request: &'a str,
    /// That the form is this browser's.
    csrf: &'a str,
    /// What the button says that allows it.
    allow: &'a str,
    /// What the other one says.
    deny: &'a str,
}

/// The form of an answer that a browser carries to a client.
#[derive(Template)]
#[template(path = "pages/carry.html")]
struct Carry<'a> {
    reader: &'a Reader,
    title: &'a str,
    action: &'a str,
    fields: &'a [(&'a str, &'a str)],
    press: &'a str,
}

/// Asks somebody whether they let a client know who they are.
pub fn consent(
    reader: &Reader,
    (client, email): (&str, &str),
    scopes: &Scopes,
    (request, csrf): (&str, &str),
    leads_to: &str,
) -> Response {
    let words = &reader.words.clients;
    let page = Consent {
        reader,
        title: &(words.title)(client),
        says: &(words.says)(email, client),
        learns: learns(words, scopes).collect(),
        action: "/oauth2/consent",
        request,
        csrf,
        allow: words.allow,
        deny: words.deny,
    };
    let response = reader.show(StatusCode::OK, &page, None);
    let_form_lead_to(response, leads_to, None)
}

/// What a client learns by these scopes, in words.
pub fn learns(words: &'static Clients, scopes: &Scopes) -> impl Iterator<Item = &'static str> {
    scopes.iter().map(|scope| match scope {
        Scope::OpenId => words.learns_openid,
        Scope::Profile => words.learns_profile,
        Scope::Email => words.learns_email,
        Scope::Offline => words.learns_offline,
    })
}

/// Asks somebody whether they want to sign out, since who has sent them here may not say so.
pub fn sign_out(
    reader: &Reader,
    email: &str,
    (request, csrf): (&str, &str),
    leads_to: Option<&str>,
) -> Response {
    let words = &reader.words.sign_in;
    let page = Consent {
        reader,
        title: words.out_title,
        says: &(words.out_says)(email),
        learns: Vec::new(),
        action: "/oauth2/logout/confirm",
        request,
        csrf,
        allow: words.out_button,
        deny: words.out_stay,
    };
    let response = reader.show(StatusCode::OK, &page, None);
    match leads_to {
        Some(uri) => let_form_lead_to(response, uri, None),
        None => response,
    }
}

/// Tells the person alone that something is wrong: there is no client to tell, or no way to it that is
/// known to be its own.
pub fn mistake(reader: &Reader, says: &str) -> Response {
    let title = reader.words.clients.mistake;
    reader.note(StatusCode::BAD_REQUEST, title, says)
}

impl Return {
    /// Brings an answer to the client. It says from whom it is (RFC 9207).
    pub fn answer(&self, reader: &Reader, issuer: &str, answer: &[(&str, &str)]) -> Response {
        let mut fields = answer.to_vec();
        fields.extend(self.state.as_deref().map(|state| ("state", state)));
        fields.push(("iss", issuer));
        match self.mode {
            Mode::Query => go(&with_query(&self.uri, &fields)),
            Mode::FormPost => {
                let page = Carry {
                    reader,
                    title: reader.words.common.on,
                    action: &self.uri,
                    fields: &fields,
                    press: PRESS,
                };
                let response = reader.show(StatusCode::OK, &page, None);
                let_form_lead_to(response, &self.uri, Some(PRESS))
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
