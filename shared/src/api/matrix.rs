//! Answers about Matrix ids.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::User;

/// A Matrix id that is the caller's.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MatrixLink {
    /// `@localpart:server`.
    pub matrix_user_id: String,
    /// Since when.
    pub linked_at: DateTime<Utc>,
    /// When its server last asked who they are.
    pub last_used_at: DateTime<Utc>,
}

/// The answer to `GET /auth/matrix-user-links`.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MatrixLinks {
    /// The eldest first.
    pub links: Vec<MatrixLink>,
}

/// The answer to `GET /auth/matrix-session/{mxid}`: whose a Matrix id is.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MatrixSession {
    /// Whose.
    pub user: User,
    /// `@localpart:server`.
    pub matrix_user_id: String,
    /// Since when.
    pub linked_at: DateTime<Utc>,
    /// When its server last asked who they are.
    pub last_used_at: DateTime<Utc>,
}

/// The answer to `GET /auth/matrix-session/check/{mxid}`.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MatrixCheck {
    /// Whether it is somebody's.
    pub linked: bool,
}
