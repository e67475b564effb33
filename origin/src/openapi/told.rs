//! What is told of where there is no type: answers of two shapes, the forms and answers of the OpenID
//! provider as its standards name them, and what the edge answers by itself.

#![expect(dead_code, reason = "these are described, and nobody makes one")]

use std::collections::HashMap;

use serde::Deserialize;
use shared::api::{AppSignedIn, SecondStepAsked, SignedIn, Validity};
use utoipa::{IntoParams, ToSchema};

/// A session, or a second step before it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[serde(untagged)]
pub enum Entered {
    /// Signed in.
    SignedIn(SignedIn),
    /// Half.
    SecondStep(SecondStepAsked),
}

/// A session of a native app, or a second step before it.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum AppEntered {
    /// Signed in.
    SignedIn(AppSignedIn),
    /// Half.
    SecondStep(SecondStepAsked),
}

/// A key set. RFC 7517 §5.
#[derive(ToSchema)]
pub struct JwkSet {
    /// Public keys: `OKP` with `Ed25519`, and `RSA` where the provider signs with it.
    keys: Vec<HashMap<String, serde_json::Value>>,
}

/// What is wrong, for a client of the OpenID provider. RFC 6749 §5.2.
#[derive(ToSchema)]
pub struct Refusal {
    /// `invalid_request`, `invalid_client`, `invalid_grant`, …
    error: String,
    /// For the person who reads it.
    error_description: String,
}

/// RFC 6749 §4.1.3, §6, §4.4.2; how a client says who it is: RFC 6749 §2.3, RFC 7523 §2.2.
#[derive(ToSchema)]
pub struct TokenRequest {
    grant_type: TokenGrant,
    /// For `authorization_code`.
    #[schema(nullable = false)]
    code: Option<String>,
    /// For `authorization_code`: the same as before.
    #[schema(nullable = false)]
    redirect_uri: Option<String>,
    /// For `authorization_code`. RFC 7636 §4.1.
    #[schema(
        nullable = false,
        min_length = 43,
        max_length = 128,
        pattern = "^[A-Za-z0-9._~-]+$"
    )]
    code_verifier: Option<String>,
    /// For `refresh_token`.
    #[schema(nullable = false)]
    refresh_token: Option<String>,
    /// For `refresh_token`: less than was granted.
    #[schema(nullable = false)]
    scope: Option<String>,
    #[schema(nullable = false)]
    client_id: Option<String>,
    #[schema(nullable = false)]
    client_secret: Option<String>,
    #[schema(nullable = false)]
    client_assertion: Option<String>,
    #[schema(nullable = false)]
    client_assertion_type: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum TokenGrant {
    AuthorizationCode,
    RefreshToken,
    ClientCredentials,
}

/// RFC 7662 §2.1, RFC 7009 §2.1.
#[derive(ToSchema)]
pub struct TokenShown {
    /// An access or a refresh token.
    token: String,
    /// Not needed.
    #[schema(nullable = false)]
    token_type_hint: Option<String>,
    #[schema(nullable = false)]
    client_id: Option<String>,
    #[schema(nullable = false)]
    client_secret: Option<String>,
    #[schema(nullable = false)]
    client_assertion: Option<String>,
    #[schema(nullable = false)]
    client_assertion_type: Option<String>,
}

/// RFC 7662 §2.2. Of a token that is not good, or another client's, `active` is all that is said.
#[derive(ToSchema)]
pub struct Introspected {
    active: bool,
    #[schema(nullable = false)]
    client_id: Option<String>,
    #[schema(nullable = false)]
    exp: Option<i64>,
    #[schema(nullable = false)]
    iat: Option<i64>,
    #[schema(nullable = false)]
    iss: Option<String>,
    #[schema(nullable = false)]
    scope: Option<String>,
    #[schema(nullable = false)]
    sub: Option<String>,
    /// `Bearer`, or `refresh_token`.
    #[schema(nullable = false)]
    token_type: Option<String>,
}

/// RFC 6749 §4.1.1, OpenID Connect Core 1.0 §3.1.2.1, RFC 7636 §4.3.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Authorize {
    client_id: String,
    /// One of the client's, to the letter.
    redirect_uri: String,
    /// `code`.
    response_type: String,
    /// `openid`, `profile`, `email`, `offline_access`.
    scope: String,
    state: Option<String>,
    #[param(max_length = 1000)]
    nonce: Option<String>,
    /// Required of public clients.
    #[param(min_length = 43, max_length = 43)]
    code_challenge: Option<String>,
    /// `S256`.
    code_challenge_method: Option<String>,
    /// `query` or `form_post`.
    response_mode: Option<String>,
    /// `none`, `login`, `consent`, `select_account`.
    prompt: Option<String>,
    /// In seconds.
    max_age: Option<u32>,
    login_hint: Option<String>,
}

/// OpenID Connect RP-Initiated Logout 1.0 §2.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SignOut {
    id_token_hint: Option<String>,
    client_id: Option<String>,
    /// One of the client's, to the letter.
    post_logout_redirect_uri: Option<String>,
    state: Option<String>,
}

/// How old what the edge keeps is, in seconds; null of what it does not have.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct EdgeHealth {
    /// `ok`.
    status: String,
    #[schema(required)]
    keys_age_secs: Option<i64>,
    #[schema(required)]
    revocations_age_secs: Option<i64>,
    #[schema(required)]
    pages_age_secs: Option<i64>,
}

/// Whether the edge is up
#[utoipa::path(get, path = "/health", tag = "Health", description = "At the edge alone.", responses((status = 200, body = EdgeHealth)))]
pub fn edge_health() {}

/// Whether the access token of the request is good
#[utoipa::path(
    get,
    path = "/api/v1/auth/validate",
    tag = "Sessions",
    description = "At the edge alone, for gateways that ask by header.",
    security(("token" = [])),
    responses((status = 200, body = Validity))
)]
pub fn edge_validate() {}
