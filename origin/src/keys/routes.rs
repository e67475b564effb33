//! The key set, at each of the places where verifiers look for it.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, error::Error, openapi};

use super::Document;

/// Fresh for five minutes, and better stale than none: keys are published for longer than this
/// before they sign.
const CACHE: &str = "public, max-age=300, stale-while-revalidate=3600, stale-if-error=86400";

/// `GET` of the key set.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(jwks))
        .route("/api/auth/jwks", get(jwks))
        .route("/.well-known/jwks.json", get(jwks))
}

#[utoipa::path(
    get,
    path = "/api/v1/auth/jwks",
    tag = "Keys",
    summary = "The keys that tokens verify with",
    description = "RFC 7517; fresh for five minutes. Also at `/api/auth/jwks` and `/.well-known/jwks.json`.",
    responses(
        (status = 200, description = "The key set", body = openapi::JwkSet),
        (status = 304, description = "As the client has it, by `If-None-Match`"),
        (status = 503, description = "KEYS_UNAVAILABLE"),
    )
)]
async fn jwks(State(app): State<App>, headers: HeaderMap) -> Result<Response, Error> {
    Ok(serve(&app.keys.ring()?.published, &headers))
}

/// A key set, unless the client has it.
pub fn serve(document: &Document, headers: &HeaderMap) -> Response {
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| {
            matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == document.etag
        });
    let caching = [
        (header::CACHE_CONTROL, CACHE.to_owned()),
        (header::ETAG, document.etag.clone()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (caching, content_type, document.jwks.clone()).into_response()
}
