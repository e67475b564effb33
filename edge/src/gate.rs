//! Who is asking: the judgement of a request by its head alone. Pure: keys, memory and clock
//! are the caller's.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use shared::{
    jwks::{Key, KeySet},
    jwt::{self, Expect, Rejected},
    problem::{Code, Problem},
    tokens::{Tokens, Verified},
};

use crate::policy::{Auth, Route};

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotBelieved {
    /// It does not verify.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Its session was ended.
    #[error("the session has ended")]
    Ended,
    /// It verifies, and its session may live; but another one has to be asked for.
    #[error("the token was withdrawn")]
    Withdrawn,
}

/// The token that a route wants verified, out of an `Authorization` header. RFC 6750 §2.1.
pub fn wanted_token(auth: Auth, authorization: Option<&str>) -> Result<Option<&str>, Problem> {
    match (auth, authorization) {
        (Auth::None, _) | (Auth::Optional, None) => Ok(None),
        (Auth::Required, None) => Err(Problem::new(
            Code::Unauthenticated,
            "send an access token as a bearer",
        )),
        (Auth::Optional | Auth::Required, Some(value)) => match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Ok(Some(token.trim()))
            }
            _ => Err(Problem::new(
                Code::Unauthenticated,
                "Authorization must be `Bearer <token>`",
            )),
        },
    }
}

/// Verifies a token as of `now`, by memory where its signature was verified before. All else
/// is asked every time: whether it is over, and whether its key is still in the set.
pub fn verify(
    token: &str,
    keys: &KeySet,
    expect: &Expect,
    now: DateTime<Utc>,
    tokens: &mut Tokens,
    has_signed: impl Fn(&Key, &[u8], &[u8; 64]) -> bool,
) -> Result<Arc<Verified>, Rejected> {
    if let Some(verified) = tokens.find(token) {
        verified.check(keys, now)?;
        return Ok(verified);
    }
    let verified = jwt::verify_with(token, keys, expect, now, has_signed)?;
    let verified = Arc::new(Verified::new(token, verified));
    tokens.keep(verified.clone());
    Ok(verified)
}

/// Whether a route lets this caller pass.
pub fn allow(route: &Route, caller: &Verified) -> Result<(), Problem> {
    match route.role {
        Some(role) if role != caller.claims.role => Err(Problem::new(
            Code::Forbidden,
            format!("this needs the role {}", role.as_str()),
        )),
        _ => Ok(()),
    }
}

/// The problem for a token that is not believed.
#[must_use]
pub fn not_believed(why: NotBelieved) -> Problem {
    match why {
        NotBelieved::Ended => Problem::new(Code::SessionRevoked, Code::SessionRevoked.title()),
        NotBelieved::Rejected(_) | NotBelieved::Withdrawn => {
            Problem::new(Code::InvalidToken, why.to_string())
        }
    }
}
