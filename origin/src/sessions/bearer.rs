//! Access tokens at the origin, which verifies each again and asks after its session.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    claims::{AccessClaims, FIRST_PARTY, Role},
    ids::{SessionId, UserId},
    jwks::Key,
    jwt,
    tokens::Verified,
};

use crate::{app::App, error::Error as Failure, rim};

use super::{Error, store};

/// How long a sign-in is recent.
const RECENT: TimeDelta = TimeDelta::minutes(10);

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
    /// What they may do, as of now.
    pub role: Role,
}

/// A signed-in person who has proved who they are in the last ten minutes, which a refresh does
/// not: for what a token that was left lying about must not do. An app's token never proves it: nobody has
/// shown a password to the app, and what concerns the account is none of its business.
pub struct Recent(pub Caller);

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

impl FromRequestParts<App> for Recent {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let Bearer(claims) = Bearer::from_request_parts(parts, app).await?;
        let caller = check(app, &claims).await?;
        let is_apps = claims.client_id != FIRST_PARTY;
        if is_apps || !is_recent(claims.auth_time, rim::now()) {
            return Err(Error::NotRecent.into());
        }
        Ok(Self(caller))
    }
}

/// Whether a sign-in of then is recent.
pub fn is_recent(authenticated_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - authenticated_at <= RECENT
}

/// Verifies a token by itself, by memory where its signature was verified before.
pub fn verify(app: &App, token: &str) -> Result<AccessClaims, Error> {
    let (ring, now) = (app.keys.ring()?, rim::now());
    let known = app.tokens().find(token);
    if let Some(known) = known {
        known.check(&ring.set, now)?;
        return Ok(known.claims.clone());
    }
    let verified = jwt::verify_with(token, &ring.set, &app.expect, now, Key::has_signed)?;
    let verified = Verified::new(token, verified);
    let claims = verified.claims.clone();
    app.tokens().keep(Arc::new(verified));
    Ok(claims)
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
            role: state.role,
        }),
    }
}
