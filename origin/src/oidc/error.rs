//! What relying parties are told when something is wrong: JSON as RFC 6749 §5.2 and RFC 6750 §3.1 have
//! it, and no problem document.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{db, error, keys};

use super::params::Unclear;

/// An answer that is an error.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    /// As the wire names it.
    pub error: &'static str,
    description: Cow<'static, str>,
    challenge: Option<HeaderValue>,
}

impl Refused {
    /// The request is wrong.
    pub fn new(error: &'static str, description: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description: description.into(),
            challenge: None,
        }
    }

    /// The client is not who it says; nobody learns which of the reasons.
    pub fn client() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            challenge: Some(HeaderValue::from_static("Basic realm=\"tollgate\"")),
            ..Self::new(
                "invalid_client",
                "The client is unknown, or not who it says",
            )
        }
    }

    /// The code or refresh token is not good; nobody learns which of the reasons.
    pub fn grant() -> Self {
        Self::new(
            "invalid_grant",
            "The code or token is unknown, used, over, or for another request",
        )
    }

    /// The grant refreshes too often.
    pub fn too_often(secs: u32) -> Self {
        let description = format!("Too many refreshes; try again in {secs} seconds");
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            ..Self::new("temporarily_unavailable", description)
        }
    }

    /// No access token, or none that is good.
    pub fn token(shown: bool) -> Self {
        let challenge = if shown {
            "Bearer error=\"invalid_token\", error_description=\"the token is not good\""
        } else {
            "Bearer"
        };
        Self {
            status: StatusCode::UNAUTHORIZED,
            challenge: Some(HeaderValue::from_static(challenge)),
            ..Self::new("invalid_token", "The access token is missing or not good")
        }
    }

    /// The token is not for this.
    pub fn scope() -> Self {
        let challenge = "Bearer error=\"insufficient_scope\", scope=\"openid\"";
        Self {
            status: StatusCode::FORBIDDEN,
            challenge: Some(HeaderValue::from_static(challenge)),
            ..Self::new("insufficient_scope", "The token was not issued for openid")
        }
    }
}

impl From<Unclear> for Refused {
    fn from(_: Unclear) -> Self {
        Self::new("invalid_request", "A parameter is there twice")
    }
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        let is_outage = db::is_outage(&error);
        tracing::error!(%error, "a request of a relying party failed");
        let (status, error) = if is_outage {
            (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
        } else {
            (StatusCode::INTERNAL_SERVER_ERROR, "server_error")
        };
        Self {
            status,
            ..Self::new(error, "This is not your fault; try again later")
        }
    }
}

impl From<keys::Error> for Refused {
    fn from(error: keys::Error) -> Self {
        tracing::error!(%error, "there is no key to sign with");
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..Self::new(
                "temporarily_unavailable",
                "There is no key to sign with yet",
            )
        }
    }
}

impl From<error::Error> for Refused {
    fn from(_: error::Error) -> Self {
        Self::new("invalid_request", "The body cannot be read")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.description});
        let mut response = (self.status, NOT_KEPT, Json(body)).into_response();
        if let Some(challenge) = self.challenge {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Of whatever has tokens or somebody's claims in it (RFC 6749 §5.1).
pub const NOT_KEPT: [(header::HeaderName, &str); 2] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::PRAGMA, "no-cache"),
];
