//! A relying party for the tests of the OpenID provider, and a browser that it sends there.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use base64ct::{Base64, Encoding};
use origin::oidc::{self, Alg, GrantType, NewClient, Secret};
use serde_json::Value;
use shared::api::AppId;
use sqlx::PgPool;
use url::{Url, form_urlencoded};

use crate::{
    session_to_token::Tab,
    support::{Answer, Origin, text},
};

pub const ADA: &str = "ada@example.org";
pub const HOME: &str = "http://127.0.0.1:8787";
pub const CALLBACK: &str = "https://rp.example/cb";
pub const GOODBYE: &str = "https://rp.example/bye";
/// RFC 7636, appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A relying party as an operator registers it.
pub struct Spec {
    pub public: bool,
    pub trusted: bool,
    pub jwks: Option<Value>,
    pub grant_types: Vec<GrantType>,
    pub redirect_uris: Vec<String>,
    pub backchannel: Option<String>,
    pub alg: Alg,
    pub without_pkce: bool,
    pub matrix_server: Option<&'static str>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            public: false,
            trusted: true,
            jwks: None,
            grant_types: vec![GrantType::Code, GrantType::Refresh],
            redirect_uris: vec![CALLBACK.to_owned()],
            backchannel: None,
            alg: Alg::EdDsa,
            without_pkce: false,
            matrix_server: None,
        }
    }
}

/// A relying party.
pub struct Party {
    pub id: String,
    pub secret: String,
}

pub type Fields = Vec<(String, String)>;

/// The fields with this one in place of what was there; without it where there is no value.
pub fn with(mut fields: Fields, name: &str, value: Option<&str>) -> Fields {
    fields.retain(|(known, _)| known != name);
    fields.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    fields
}

pub fn encode(fields: &Fields) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

impl Party {
    pub async fn add(db: &PgPool, id: &str, spec: Spec) -> Self {
        let secret = Secret::new();
        let client = NewClient {
            id: &AppId::parse(id.to_owned()).expect("an id"),
            name: id,
            public: spec.public,
            jwks: spec.jwks,
            grant_types: &spec.grant_types,
            redirect_uris: &spec.redirect_uris,
            post_logout_redirect_uris: &[GOODBYE.to_owned()],
            backchannel_logout_uri: spec.backchannel.as_deref(),
            alg: spec.alg,
            trusted: spec.trusted,
            without_pkce: spec.without_pkce,
            matrix_server: spec.matrix_server,
        };
        let mut connection = db.acquire().await.expect("a connection");
        oidc::add(&mut connection, &client, secret.hash())
            .await
            .expect("a new client");
        Self {
            id: id.to_owned(),
            secret: secret.reveal().to_owned(),
        }
    }

    /// What it sends a browser to the provider with.
    pub fn request(&self) -> Fields {
        fields(&[
            ("client_id", &self.id),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid profile email"),
            ("state", "a state"),
            ("nonce", "a nonce"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ])
    }

    /// What it asks for tokens with.
    pub fn exchange(&self, code: &str) -> Fields {
        fields(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
            ("client_id", &self.id),
            ("client_secret", &self.secret),
        ])
    }

    pub fn refreshing(&self, token: &str) -> Fields {
        fields(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("client_id", &self.id),
            ("client_secret", &self.secret),
        ])
    }

    /// A token, to be introspected or given up.
    pub fn showing(&self, token: &str) -> Fields {
        fields(&[
            ("token", token),
            ("client_id", &self.id),
            ("client_secret", &self.secret),
        ])
    }

    pub fn basic(&self) -> String {
        let pair = format!("{}:{}", self.id, self.secret);
        format!("Basic {}", Base64::encode_string(pair.as_bytes()))
    }

    /// A code for whoever is signed in there.
    pub async fn code(&self, origin: &Origin, tab: &Tab) -> String {
        self.code_for(origin, tab, &self.request()).await
    }

    pub async fn code_for(&self, origin: &Origin, tab: &Tab, request: &Fields) -> String {
        let answer = authorize(origin, Some(tab), request).await;
        param(&location(&answer), "code").unwrap_or_else(|| panic!("{answer:?}"))
    }

    /// Tokens for whoever is signed in there.
    pub async fn tokens(&self, origin: &Origin, tab: &Tab, scope: &str) -> Tokens {
        let request = with(self.request(), "scope", Some(scope));
        let code = self.code_for(origin, tab, &request).await;
        let answer = token(origin, &self.exchange(&code)).await;
        Tokens::of(&answer)
    }
}

/// What it has got.
pub struct Tokens {
    pub access: String,
    pub refresh: String,
    pub id: String,
}

impl Tokens {
    pub fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let field = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
        Self {
            access: text(&answer.body["access_token"]),
            refresh: field("refresh_token"),
            id: field("id_token"),
        }
    }
}

/// A browser asks for a path of ours.
pub async fn get(origin: &Origin, tab: Option<&Tab>, path: &str) -> Answer {
    let mut request = Request::get(path);
    if let Some(tab) = tab {
        request = request.header(header::COOKIE, &tab.cookie);
    }
    origin
        .send(request.body(Body::empty()).expect("a request"))
        .await
}

pub async fn authorize(origin: &Origin, tab: Option<&Tab>, request: &Fields) -> Answer {
    get(
        origin,
        tab,
        &format!("/oauth2/authorize?{}", encode(request)),
    )
    .await
}

/// Somebody sends a form.
pub async fn post(
    origin: &Origin,
    path: &str,
    headers: &[(&str, &str)],
    fields: &Fields,
) -> Answer {
    let request =
        Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    origin
        .send(request.body(encode(fields).into()).expect("a request"))
        .await
}

pub async fn token(origin: &Origin, fields: &Fields) -> Answer {
    post(origin, "/oauth2/token", &[], fields).await
}

/// Somebody presses a button of a page that they were shown.
pub async fn press(origin: &Origin, tab: &Tab, page: &Answer, answer: &str) -> Answer {
    let html = text(&page.body);
    let fields = fields(&[
        ("request", &field(&html, "request")),
        ("csrf", &field(&html, "csrf")),
        ("answer", answer),
    ]);
    let path = between(&html, "action=\"", "\"");
    post(
        origin,
        &path,
        &[("cookie", &tab.cookie), ("origin", HOME)],
        &fields,
    )
    .await
}

/// A hidden field of a page.
pub fn field(html: &str, name: &str) -> String {
    let value = between(html, &format!("name=\"{name}\" value=\""), "\"");
    value
        .replace("&#38;", "&")
        .replace("&amp;", "&")
        .replace("&#34;", "\"")
}

fn between(text: &str, before: &str, after: &str) -> String {
    let rest = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no {before} in {text}"))
        .1;
    rest.split_once(after).expect("an end").0.to_owned()
}

pub fn location(answer: &Answer) -> Url {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    let to = answer.headers[header::LOCATION].to_str().expect("text");
    let home = Url::parse(HOME).expect("a URL");
    home.join(to).expect("a URL")
}

pub fn param(url: &Url, name: &str) -> Option<String> {
    let mut pairs = url.query_pairs();
    let (_, value) = pairs.find(|(found, _)| found == name)?;
    Some(value.into_owned())
}

/// Insists on an error of this name that goes back to the client, with its state and from whom it is.
#[track_caller]
pub fn is_sent_back(answer: &Answer, error: &str) {
    let url = location(answer);
    assert!(url.as_str().starts_with(CALLBACK), "{answer:?}");
    let found = |name| param(&url, name);
    assert_eq!(found("error").as_deref(), Some(error), "{answer:?}");
    assert_eq!(found("state").as_deref(), Some("a state"));
    assert_eq!(found("iss").as_deref(), Some(HOME));
    assert_eq!(found("code"), None);
}

/// Insists on a page that tells the person, and no redirect.
#[track_caller]
pub fn is_told_here(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.headers.get(header::LOCATION), None);
    assert!(text(&answer.body).contains("not right"), "{answer:?}");
}

/// Insists on an error of the token endpoint.
#[track_caller]
pub fn is_refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!(
        (answer.status.as_u16(), answer.body["error"].as_str()),
        (status, Some(error)),
        "{answer:?}"
    );
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
    assert!(answer.body["error_description"].is_string());
}
