//! The door: bodies come in through [`Body`], as values that are valid or not at all.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{StatusCode, header},
    response::IntoResponse,
};
use shared::api;

use crate::{app::App, error::Error};

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: api::Body> FromRequest<App> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        let content_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let essence = content_type
            .and_then(|value| value.split(';').next())
            .unwrap_or_default();
        if !essence.trim().eq_ignore_ascii_case("application/json") {
            return Err(Error::NotJson);
        }
        let bytes = Bytes::from_request(request, app)
            .await
            .map_err(|rejection| match rejection.into_response().status() {
                StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge {
                    limit: app.config.max_body_bytes,
                },
                _ => Error::BrokenOff,
            })?;
        Ok(Self(api::parse(&bytes)?))
    }
}
