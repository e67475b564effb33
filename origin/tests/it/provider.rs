//! A provider of the test's own, which says whatever the test wants, and a browser that goes there.

use std::sync::{Arc, Mutex, MutexGuard, atomic::AtomicU32, atomic::Ordering};

use axum::{
    Form, Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64ct::{Base64UrlUnpadded, Encoding};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use origin::rim;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use tokio::net::TcpListener;
use url::Url;

use crate::{
    post_office::Browser,
    support::{Answer, Origin},
};

pub const ACCOUNTS: &str = "/api/v1/auth/accounts";
pub const ACME: &str = "/api/v1/auth/oauth/acme";
pub const CLIENT: &str = "tollgate at acme";
pub const CLIENT_SECRET: &str = "a secret: of acme/s";
pub const NATIVE: &str = "org.example.app";

/// P-256 keys in PKCS #8, base64: the provider's, and a stranger's.
pub const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg2WeGArnmY8JNIJmjqsDnQeJdgXodJraO7SX/RsvKrJChRANCAAS0ZI8vCtVSOZ9LFj98TMoyaUiDsJ3QU9kmYyLXX0BAVQMz5DkrleamDRxOlgBNYv5qs17CSsGzKEkPpcLP2F3B";
pub const OTHER_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgiaJPQkRjHzXw9DBEan5JhRFflxKERRacpk9CJCKpGbGhRANCAAR6jzv4eZvdOZ22GoRxdLibMmzRcMeOiU6fQBA7RQfU7drX7ngWaB9wca/yZhJ4nOE/t58lXwP23VVfV//Aixia";
const X: &str = "tGSPLwrVUjmfSxY_fEzKMmlIg7Cd0FPZJmMi119AQFU";
const Y: &str = "AzPkOSuV5qYNHE6WAE1i_mqzXsJKwbMoSQ-lws_YXcE";

/// Somebody's account at the provider.
#[derive(Clone)]
pub struct Somebody {
    pub sub: &'static str,
    pub email: &'static str,
    pub email_verified: Value,
}

/// What the provider does; a test changes it.
pub struct Acme {
    pub url: String,
    /// Who is at its page.
    pub somebody: Option<Somebody>,
    /// Claims that replace the good ones; null takes one away.
    pub claims: Value,
    pub algorithm: Algorithm,
    pub signing: EncodingKey,
    pub kid: Option<&'static str>,
    /// A token in place of one that is signed.
    pub token: Option<String>,
    /// The issuer that its metadata names.
    pub issuer: Option<String>,
    /// Whether it says no e-mail address in the token, but at its userinfo endpoint.
    pub is_terse: bool,
    /// What it answers to everything.
    pub fails: Option<u16>,
    /// The subject at the userinfo endpoint.
    pub userinfo_sub: Option<&'static str>,
    nonce: Option<String>,
    challenge: Option<String>,
    redirect: Option<String>,
}

/// A provider that runs.
#[derive(Clone)]
pub struct Provider {
    acme: Arc<Mutex<Acme>>,
    pub key_sets_fetched: Arc<AtomicU32>,
}

pub const ADA: Somebody = Somebody {
    sub: "ada at acme",
    email: "Ada@example.org",
    email_verified: Value::Bool(true),
};

pub fn key(text: &str) -> EncodingKey {
    let der = base64ct::Base64::decode_vec(text).expect("base64");
    EncodingKey::from_ec_der(&der)
}

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let provider = Self {
            acme: Arc::new(Mutex::new(Acme {
                url,
                somebody: Some(ADA),
                claims: json!({}),
                algorithm: Algorithm::ES256,
                signing: key(KEY),
                kid: Some("1"),
                token: None,
                issuer: None,
                is_terse: false,
                fails: None,
                userinfo_sub: None,
                nonce: None,
                challenge: None,
                redirect: None,
            })),
            key_sets_fetched: Arc::default(),
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .route("/login/oauth/access_token", post(github_token))
            .route("/user", get(github_user))
            .route("/user/emails", get(github_emails))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    pub fn acme(&self) -> MutexGuard<'_, Acme> {
        self.acme.lock().expect("no test has panicked")
    }

    /// An origin that knows it, by every name that there is.
    pub async fn origin(&self, db: &PgPool, flags: &[&str]) -> Origin {
        let url = self.acme().url.clone();
        let listed = json!([{"id": "acme", "issuer": url, "clientId": CLIENT, "clientSecret": CLIENT_SECRET}]);
        let pem = format!("-----BEGIN PRIVATE KEY-----\\n{KEY}\\n-----END PRIVATE KEY-----");
        let known = [
            format!("--oidc-providers={listed}"),
            format!("--google-client-id={CLIENT}"),
            format!("--google-client-secret={CLIENT_SECRET}"),
            format!("--google-native-audiences={NATIVE},other"),
            format!("--google-issuer={url}"),
            format!("--apple-client-id={CLIENT}"),
            format!("--apple-native-audiences={NATIVE}"),
            "--apple-team-id=TEAM".to_owned(),
            "--apple-key-id=KEYID".to_owned(),
            format!("--apple-private-key={pem}"),
            format!("--apple-issuer={url}"),
            format!("--github-client-id={CLIENT}"),
            format!("--github-client-secret={CLIENT_SECRET}"),
            format!("--github-base={url}"),
            format!("--github-api-base={url}"),
        ];
        let all: Vec<&str> = known
            .iter()
            .map(String::as_str)
            .chain(flags.iter().copied())
            .collect();
        Origin::start_with(db, &all).await
    }

    /// Somebody says who they are at the page: where the browser is sent from there.
    pub fn say_yes(&self, page: &str) -> String {
        let page = Url::parse(page).expect("a page");
        let parameter = |name: &str| {
            let mut pairs = page.query_pairs();
            let found = pairs.find(|(known, _)| known == name);
            found.map(|(_, value)| value.into_owned())
        };
        let state = parameter("state").expect("a state");
        let redirect = parameter("redirect_uri").expect("a redirect");
        assert_eq!(parameter("code_challenge_method").as_deref(), Some("S256"));
        assert_eq!(parameter("response_type").as_deref(), Some("code"));
        assert_eq!(parameter("client_id").as_deref(), Some(CLIENT));
        let mut acme = self.acme();
        acme.nonce = parameter("nonce");
        acme.challenge = parameter("code_challenge");
        acme.redirect = Some(redirect.clone());
        let path = redirect
            .strip_prefix("http://127.0.0.1:8787")
            .expect("at home");
        format!("{path}?code=the-code&state={state}")
    }

    /// An `id_token` with these claims besides the good ones.
    pub fn id_token(&self, nonce: Option<&str>) -> String {
        let acme = self.acme();
        acme.id_token(nonce)
    }
}

impl Acme {
    fn id_token(&self, nonce: Option<&str>) -> String {
        if let Some(token) = &self.token {
            return token.clone();
        }
        let somebody = self.somebody.as_ref().expect("somebody");
        let now = rim::now().timestamp();
        let mut claims = json!({
            "iss": self.url, "aud": CLIENT, "sub": somebody.sub, "iat": now, "exp": now + 600,
        });
        if !self.is_terse {
            claims["email"] = somebody.email.into();
            claims["email_verified"] = somebody.email_verified.clone();
        }
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        for (name, value) in self.claims.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
            .as_object_mut()
            .expect("an object")
            .retain(|_, value| !value.is_null());
        let mut header = Header::new(self.algorithm);
        header.kid = self.kid.map(str::to_owned);
        jsonwebtoken::encode(&header, &claims, &self.signing).expect("a token")
    }
}

impl Acme {
    /// Whether a client secret is what Apple takes for one: signed with the developer's key, for at
    /// most six months.
    fn is_signed(&self, secret: &str) -> bool {
        #[derive(Deserialize)]
        struct Claims {
            iat: i64,
            exp: i64,
        }

        let mut wanted = Validation::new(Algorithm::ES256);
        wanted.set_issuer(&["TEAM"]);
        wanted.set_audience(&[&self.url]);
        wanted.sub = Some(CLIENT.to_owned());
        let key = DecodingKey::from_ec_components(X, Y).expect("a key");
        jsonwebtoken::decode::<Claims>(secret, &key, &wanted).is_ok_and(|token| {
            let Claims { iat, exp } = token.claims;
            token.header.kid.as_deref() == Some("KEYID")
                && (iat - rim::now().timestamp()).abs() < 60
                && exp - iat <= 15_777_000
        })
    }
}

fn failing(provider: &Provider) -> Option<Response> {
    let status = provider.acme().fails?;
    let status = StatusCode::from_u16(status).expect("a status");
    Some((status, "secret words of a provider").into_response())
}

async fn metadata(State(provider): State<Provider>) -> Response {
    if let Some(failure) = failing(&provider) {
        return failure;
    }
    let acme = provider.acme();
    let url = &acme.url;
    Json(json!({
        "issuer": acme.issuer.as_ref().unwrap_or(url), "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"), "jwks_uri": format!("{url}/keys"),
        "userinfo_endpoint": format!("{url}/userinfo"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
    }))
    .into_response()
}

async fn keys(State(provider): State<Provider>) -> Response {
    provider.key_sets_fetched.fetch_add(1, Ordering::Relaxed);
    if let Some(failure) = failing(&provider) {
        return failure;
    }
    Json(json!({"keys": [
        {"kty": "oct", "kid": "hmac", "k": Base64UrlUnpadded::encode_string(b"public")},
        {"kty": "of a kind that nobody knows", "kid": "odd"},
        {"kty": "EC", "crv": "P-256", "kid": "1", "alg": "ES256", "use": "sig", "x": X, "y": Y},
        {"kty": "EC", "crv": "P-256", "kid": "for encryption", "use": "enc", "x": X, "y": Y},
    ]}))
    .into_response()
}

type Fields = Form<std::collections::HashMap<String, String>>;

/// Whether it is what the page was asked for, as RFC 7636 has it.
fn is_bound(acme: &Acme, fields: &Fields) -> bool {
    let verifier = fields.get("code_verifier").cloned().unwrap_or_default();
    let challenge = Base64UrlUnpadded::encode_string(&Sha256::digest(verifier));
    Some(challenge) == acme.challenge
        && fields.get("redirect_uri") == acme.redirect.as_ref()
        && fields.get("code").is_some_and(|code| code == "the-code")
}

/// Whether it shows its secret, or one that it has signed. RFC 6749 §2.3.1: each half is form-encoded
/// before both are joined.
fn is_client(acme: &Acme, headers: &HeaderMap) -> bool {
    let shown = || {
        let basic = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let halves = base64ct::Base64::decode_vec(basic.strip_prefix("Basic ")?).ok()?;
        let signed = halves.strip_prefix(b"tollgate+at+acme:")?;
        Some(signed == b"a+secret%3A+of+acme%2Fs" || acme.is_signed(str::from_utf8(signed).ok()?))
    };
    shown() == Some(true)
}

async fn token(State(provider): State<Provider>, headers: HeaderMap, fields: Fields) -> Response {
    if let Some(failure) = failing(&provider) {
        return failure;
    }
    let mut acme = provider.acme();
    if !is_client(&acme, &headers) {
        return (
            StatusCode::UNAUTHORIZED,
            Json(json!({"error": "invalid_client"})),
        )
            .into_response();
    }
    if !is_bound(&acme, &fields) {
        return (
            StatusCode::BAD_REQUEST,
            Json(json!({"error": "invalid_grant"})),
        )
            .into_response();
    }
    // A code is good once.
    acme.challenge = None;
    let id_token = acme.id_token(acme.nonce.as_deref());
    Json(json!({"access_token": "upstream-access", "token_type": "Bearer", "refresh_token": "upstream-refresh",
                "id_token": id_token}))
    .into_response()
}

async fn userinfo(State(provider): State<Provider>, headers: HeaderMap) -> Response {
    assert_eq!(headers[header::AUTHORIZATION], "Bearer upstream-access");
    let acme = provider.acme();
    let somebody = acme.somebody.as_ref().expect("somebody");
    Json(
        json!({"sub": acme.userinfo_sub.unwrap_or(somebody.sub), "email": somebody.email,
                "email_verified": somebody.email_verified}),
    )
    .into_response()
}

async fn github_token(State(provider): State<Provider>, fields: Fields) -> Response {
    let acme = provider.acme();
    let is_client = fields.get("client_secret").map(String::as_str) == Some(CLIENT_SECRET);
    if !is_client || !is_bound(&acme, &fields) {
        // As GitHub says no.
        return Json(json!({"error": "bad_verification_code", "error_description": "…"}))
            .into_response();
    }
    Json(json!({"access_token": "gho_1", "scope": "read:user,user:email", "token_type": "bearer"}))
        .into_response()
}

async fn github_user(headers: HeaderMap) -> Response {
    assert_eq!(headers[header::AUTHORIZATION], "Bearer gho_1");
    assert!(headers.contains_key(header::USER_AGENT));
    Json(json!({"id": 583_231, "login": "ada", "name": "Ada L"})).into_response()
}

async fn github_emails(State(provider): State<Provider>) -> Response {
    let acme = provider.acme();
    let somebody = acme.somebody.as_ref().expect("somebody");
    Json(json!([
        {"email": "first@example.org", "primary": false, "verified": true},
        {"email": somebody.email, "primary": true, "verified": somebody.email_verified},
    ]))
    .into_response()
}

/// A browser asks to be sent to a provider; gives the provider's page.
pub async fn go(origin: &Origin, browser: &mut Browser, path: &str, body: &Value) -> Answer {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::COOKIE, browser.cookies())
        .body(body.to_string().into())
        .expect("a request");
    let answer = origin.send(request).await;
    browser.keep(&answer.headers);
    answer
}

/// The same, of somebody who is signed in and wants to link.
pub async fn go_and_link(
    origin: &Origin,
    browser: &mut Browser,
    path: &str,
    access: &str,
    body: &Value,
) -> Answer {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::COOKIE, browser.cookies())
        .header(header::AUTHORIZATION, format!("Bearer {access}"))
        .body(body.to_string().into())
        .expect("a request");
    let answer = origin.send(request).await;
    browser.keep(&answer.headers);
    answer
}

/// A browser follows where it is sent.
pub async fn follow(origin: &Origin, browser: &mut Browser, path: &str) -> Answer {
    let request = Request::get(path).header(header::COOKIE, browser.cookies());
    let answer = origin
        .send(request.body(Body::empty()).expect("a request"))
        .await;
    browser.keep(&answer.headers);
    answer
}

/// There and back again: what the callback answers.
pub async fn sign_in(
    origin: &Origin,
    provider: &Provider,
    browser: &mut Browser,
    path: &str,
) -> Answer {
    let gone = go(origin, browser, path, &json!({})).await;
    assert_eq!(gone.status, StatusCode::OK, "{gone:?}");
    let back = provider.say_yes(gone.body["url"].as_str().expect("a page"));
    follow(origin, browser, &back).await
}

impl Answer {
    /// Insists on a page of this status that says this.
    #[track_caller]
    pub fn is_page(&self, status: u16, says: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        let html = self.body.as_str().unwrap_or_default();
        assert!(html.contains(says), "{self:?}");
        assert!(
            !html.contains("eyJ") && !html.contains("upstream"),
            "{self:?}"
        );
    }
}

impl Browser {
    /// Whether it has a session's cookie.
    pub fn is_signed_in(&self) -> bool {
        self.0.iter().any(|(name, _)| name == "tollgate")
    }
}
