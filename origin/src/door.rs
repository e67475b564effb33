//! The door: bodies come in through [`Body`], as values that are valid or not at all.

use axum::{
    extract::{FromRequest, Request},
    http::header,
};
use http_body_util::BodyExt;
use shared::api;

use crate::{app::App, error::Error};

/// How many times the limit is read of a body that is too large.
const PATIENCE: usize = 64;

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
        let is_json = essence.trim().eq_ignore_ascii_case("application/json");
        let is_absent = T::MAY_BE_ABSENT && content_type.is_none();
        if !is_json && !is_absent {
            return Err(Error::NotJson);
        }
        let bytes = read(request.into_body(), app.config.max_body_bytes).await?;
        if !is_json && !bytes.is_empty() {
            return Err(Error::NotJson);
        }
        Ok(Self(api::parse(&bytes)?))
    }
}

/// The bytes of a body. Of one that is too large the rest is read and forgotten, within reason:
/// a client that is still sending when the connection closes never sees why.
pub async fn read(mut body: axum::body::Body, limit: usize) -> Result<Vec<u8>, Error> {
    let (mut bytes, mut seen) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Error::BrokenOff)?.into_data() else {
            continue;
        };
        seen += data.len();
        if seen > PATIENCE * limit {
            break;
        }
        if seen <= limit {
            bytes.extend_from_slice(&data);
        }
    }
    if seen > limit {
        return Err(Error::TooLarge { limit });
    }
    Ok(bytes)
}
