//! What an access token says about its bearer. Deliberately minimal: no balance, no
//! organisation, nothing that is out of date a second later.

use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{SessionId, TokenId, UserId};

/// How long an access token lives.
pub const ACCESS_TOKEN_LIFETIME_SECS: u32 = 15 * 60;
/// How far two clocks may be apart before a valid token is refused.
pub const LEEWAY_SECS: u32 = 30;
/// The `client_id` of a direct sign-in.
pub const FIRST_PARTY: &str = "first-party";

/// Claims of an access token, RFC 9068 §2.2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessClaims {
    /// Our public URL, no trailing slash. RFC 7519 §4.1.1.
    pub iss: String,
    /// Who may accept it. RFC 7519 §4.1.3.
    pub aud: String,
    /// The account. RFC 7519 §4.1.2.
    pub sub: UserId,
    /// Who was given it: [`FIRST_PARTY`] or an app's id. RFC 8693 §4.3.
    pub client_id: String,
    /// The session that it belongs to; what a revocation names.
    pub sid: SessionId,
    /// This very token. RFC 7519 §4.1.7.
    pub jti: TokenId,
    /// When it was made, in whole seconds. RFC 7519 §4.1.6.
    pub iat: DateTime<Utc>,
    /// When it ends, in whole seconds. RFC 7519 §4.1.4.
    pub exp: DateTime<Utc>,
    /// When the person last proved who they are, in whole seconds. OpenID Connect Core §2.
    pub auth_time: DateTime<Utc>,
    /// The account's e-mail address.
    pub email: String,
    /// What the account may do.
    pub role: Role,
    /// How the person proved who they are. RFC 8176.
    pub amr: Vec<String>,
}

impl AccessClaims {
    /// Whether it has ended as of `now`, a slow clock's [`LEEWAY_SECS`] included.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        // Whoever signs can write an end to which nothing can be added.
        now - TimeDelta::seconds(LEEWAY_SECS.into()) >= self.exp
    }
}

/// What an account may do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// A person.
    User,
    /// A person who may grant, refund, ban and look.
    Admin,
    /// A program.
    Service,
}

impl Role {
    /// As a token and the database write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
            Self::Service => "service",
        }
    }
}

/// A word that names no role.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be user, admin or service")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Self::User, Self::Admin, Self::Service]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(UnknownRole)
    }
}
