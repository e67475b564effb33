//! What we tell of ourselves (OpenID Connect Discovery 1.0, RFC 8414).

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{app::App, error::Error as Failure, keys, openapi};

use super::{clients::Alg, scopes::Scope, tokens::ACRS};

const CACHE: &str = "public, max-age=300, stale-while-revalidate=3600, stale-if-error=86400";

/// `GET /.well-known/openid-configuration`.
#[utoipa::path(
    get,
    path = "/.well-known/openid-configuration",
    tag = "OpenID provider",
    summary = "What the provider can do",
    description = "OpenID Connect Discovery 1.0 and RFC 8414. Also at `/.well-known/oauth-authorization-server`.",
    responses((status = 200, body = inline(HashMap<String, serde_json::Value>)))
)]
pub async fn describe(State(app): State<App>) -> Response {
    let both = [Alg::EdDsa, Alg::Rs256];
    told(&document(&app, "/.well-known/jwks.json", &both))
}

/// `GET /oauth2/rs256/openid-configuration`: the same, for programs that choke on keys they do not know.
#[utoipa::path(
    get,
    path = "/oauth2/rs256/openid-configuration",
    tag = "OpenID provider",
    summary = "The same, for programs that choke on keys they do not know",
    description = "Names RSA keys and RS256 alone.",
    responses((status = 200, body = inline(HashMap<String, serde_json::Value>)))
)]
pub async fn describe_rs256(State(app): State<App>) -> Response {
    told(&document(&app, "/oauth2/rs256/jwks.json", &[Alg::Rs256]))
}

/// `GET /oauth2/rs256/jwks.json`: the RSA keys alone.
#[utoipa::path(
    get,
    path = "/oauth2/rs256/jwks.json",
    tag = "OpenID provider",
    summary = "The RSA keys alone",
    description = "",
    responses(
        (status = 200, description = "The key set", body = openapi::JwkSet),
        (status = 304, description = "As the client has it, by `If-None-Match`"),
        (status = 503, description = "KEYS_UNAVAILABLE"),
    )
)]
pub async fn keys_rs256(State(app): State<App>, headers: HeaderMap) -> Result<Response, Failure> {
    Ok(keys::serve(&app.keys.ring()?.published_rsa, &headers))
}

fn told(document: &Value) -> Response {
    ([(header::CACHE_CONTROL, CACHE)], Json(document)).into_response()
}

fn document(app: &App, keys: &str, algs: &[Alg]) -> Value {
    let issuer = &app.expect.issuer;
    let at = |path: &str| format!("{issuer}{path}");
    let algs: Vec<String> = algs.iter().map(ToString::to_string).collect();
    let scopes: Vec<&str> = Scope::ALL.into_iter().map(Scope::as_str).collect();
    let methods = [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
    ];
    let with_none = [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    ];
    let signs = ["EdDSA", "ES256", "RS256"];
    json!({
        "issuer": issuer,
        "authorization_endpoint": at("/oauth2/authorize"),
        "token_endpoint": at("/oauth2/token"),
        "userinfo_endpoint": at("/oauth2/userinfo"),
        "introspection_endpoint": at("/oauth2/introspect"),
        "revocation_endpoint": at("/oauth2/revoke"),
        "end_session_endpoint": at("/oauth2/logout"),
        "jwks_uri": at(keys),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algs,
        "scopes_supported": scopes,
        "acr_values_supported": ACRS,
        "claims_supported": [
            "sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "sid",
            "name", "picture", "email", "email_verified"
        ],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "token_endpoint_auth_methods_supported": with_none,
        "token_endpoint_auth_signing_alg_values_supported": signs,
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": signs,
        "revocation_endpoint_auth_methods_supported": with_none,
        "revocation_endpoint_auth_signing_alg_values_supported": signs,
        "authorization_response_iss_parameter_supported": true,
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
    })
}
