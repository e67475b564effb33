//! Access tokens at the origin, which verifies each again and asks after its session.

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use shared::{
    claims::AccessClaims,
    ids::{SessionId, UserId},
    jwt,
};

use crate::{app::App, error::Error as Failure, rim};

use super::{Error, store};

/// A token that verifies. Whether its session still lives, the ledger asks in the same round
/// trip in which it spends; everybody else takes [`Caller`].
pub struct Bearer(pub AccessClaims);

/// A signed-in person: the token verifies, and its session lives.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// On which device.
    pub session: SessionId,
}

impl FromRequestParts<App> for Bearer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let token = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(Error::NoToken)?;
        Ok(Self(verify(app, token)?))
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let Bearer(claims) = Bearer::from_request_parts(parts, app).await?;
        Ok(check(app, &claims).await?)
    }
}

/// Verifies a token by itself.
pub fn verify(app: &App, token: &str) -> Result<AccessClaims, Error> {
    Ok(jwt::verify(
        token,
        &app.keys.ring()?.set,
        &app.expect,
        rim::now(),
    )?)
}

/// Asks after the session of a token.
pub async fn check(app: &App, claims: &AccessClaims) -> Result<Caller, Error> {
    let state = store::state(app.db.pool(), claims.sid, claims.sub)
        .await?
        .ok_or(Error::Ended)?;
    match state {
        store::Standing { live: false, .. } => Err(Error::Ended),
        store::Standing { active: false, .. } => Err(Error::Disabled),
        _ => Ok(Caller {
            user: claims.sub,
            session: claims.sid,
        }),
    }
}
