//! The key set, at each of the places where verifiers look for it.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{app::App, error::Error};

use super::Document;

/// Fresh for five minutes, and better stale than none: keys are published for longer than this
/// before they sign.
const CACHE: &str = "public, max-age=300, stale-while-revalidate=3600, stale-if-error=86400";

/// `GET` of the key set.
pub fn router() -> Router<App> {
    Router::new()
        .route("/api/v1/auth/jwks", get(jwks))
        .route("/api/auth/jwks", get(jwks))
        .route("/.well-known/jwks.json", get(jwks))
}

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
    let content_type = [(header::CONTENT_TYPE, "application/jwk-set+json")];
    (caching, content_type, document.jwks.clone()).into_response()
}
