//! Sessions: a device that is signed in. Each has short access tokens, which anybody can
//! verify, and a family of refresh tokens, of which one is good at a time. The rule of who may
//! refresh is one SQL function, `auth.refresh`, that decides with the row locked.

mod bearer;
mod browser;
pub mod cookie;
mod refresh_token;
mod routes;
mod salts;
mod store;

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    api::{SignedIn, User},
    claims::{ACCESS_TOKEN_LIFETIME_SECS, AccessClaims, FIRST_PARTY, Role},
    ids::SessionId,
    jwt,
};
use sqlx::PgConnection;

use crate::{app::App, front::Client, keys, limits, rim};

pub use bearer::{Bearer, Caller, Recent, check};
pub use refresh_token::{Presented, RefreshKeys};
pub use routes::router;
pub use salts::Salts;
pub use store::{NewSession, list, record, record_failure, revoke_all, revoke_others};

/// Why a session could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No access token where one is needed.
    #[error("no access token")]
    NoToken,
    /// No cookie of a session that lives, where one is needed.
    #[error("nobody is signed in in this browser")]
    NotSignedIn,
    /// An access token that is not believed.
    #[error(transparent)]
    BadToken(#[from] jwt::Rejected),
    /// The token's session was revoked or has expired.
    #[error("the session has ended")]
    Ended,
    /// The session's account was disabled.
    #[error("the account is disabled")]
    Disabled,
    /// A refresh token that is not good; which of the reasons, nobody learns.
    #[error("the refresh token is not good")]
    BadRefreshToken,
    /// The session refreshes too often.
    #[error("too many refreshes")]
    TooOften(limits::Verdict),
    /// Signed in too long ago for this.
    #[error("the sign-in is not recent")]
    NotRecent,
    /// Signed in, and not allowed.
    #[error("the account may not")]
    NotPermitted,
    /// None of the caller's sessions.
    #[error("no such session")]
    NoSuchSession,
    /// There is nothing to sign with.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// The database failed.
    #[error("sessions in the database")]
    Database(#[from] sqlx::Error),
}

/// What the tokens of a session say about it.
pub struct Family {
    /// The session.
    pub session: SessionId,
    /// Who was signed in: a direct client, or an app.
    pub client_id: String,
    /// When the person last proved who they are.
    pub authenticated_at: DateTime<Utc>,
    /// How.
    pub amr: Vec<String>,
    /// The `iat` of its tokens: the database's clock, as is all that revokes them, and never
    /// before what was revoked of the user's.
    pub issued_at: DateTime<Utc>,
    /// When the session ends unless it refreshes; no token of it lives longer.
    pub expires_at: DateTime<Utc>,
    /// Which refresh token is the good one.
    pub counter: i32,
    /// What its MAC covers.
    pub salt: [u8; 16],
}

/// A session that was just opened.
pub struct Opened {
    /// What its tokens say.
    pub family: Family,
    /// The `Set-Cookie` of its browser.
    pub cookie: String,
    /// Whether the account has not been signed in to with this device before.
    pub is_new_device: bool,
}

/// Opens a session for the acting user, who has just proved who they are, unless there is a second
/// factor that they have not shown. The last thing that a transaction does: it may append to the feed
/// of revocations.
pub async fn open(
    app: &App,
    db: &mut PgConnection,
    session: NewSession<'_>,
    client: &Client,
) -> sqlx::Result<Option<Opened>> {
    let now = rim::now();
    let (cookie, cookie_hash) = cookie::make(&app.config, session.remember);
    let mut family = Family {
        session: rim::new_id(),
        client_id: FIRST_PARTY.to_owned(),
        authenticated_at: now,
        amr: session
            .proved_by
            .iter()
            .copied()
            .map(str::to_owned)
            .collect(),
        issued_at: now,
        expires_at: now + TimeDelta::days(store::slide_days(session.remember).into()),
        counter: 0,
        salt: *rim::random::<16>(),
    };
    let written = store::open(db, &family, &session, &cookie_hash, client).await?;
    Ok(written.map(|written| {
        family.issued_at = written.issued_at;
        Opened {
            family,
            cookie,
            is_new_device: written.is_new_device,
        }
    }))
}

/// The tokens of a session, for its answer. An app's do for nobody what only an admin may.
pub fn tokens(app: &App, mut user: User, family: &Family) -> Result<SignedIn, keys::Error> {
    if family.client_id != FIRST_PARTY {
        user.role = Role::User;
    }
    let longest = family.issued_at + TimeDelta::seconds(ACCESS_TOKEN_LIFETIME_SECS.into());
    let exp = longest.min(family.expires_at);
    let expires_in = exp.timestamp() - family.issued_at.timestamp();
    let claims = AccessClaims {
        iss: app.expect.issuer.clone(),
        aud: app.expect.audience.clone(),
        sub: user.id,
        client_id: family.client_id.clone(),
        sid: family.session,
        jti: rim::new_id(),
        iat: family.issued_at,
        exp,
        auth_time: family.authenticated_at,
        email: user.email.clone(),
        role: user.role,
        amr: family.amr.clone(),
    };
    Ok(SignedIn {
        access_token: jwt::sign(&claims, &app.keys.ring()?.signing),
        refresh_token: app.config.refresh_token_keys.make(
            family.session,
            family.counter,
            &family.salt,
        ),
        expires_in: u32::try_from(expires_in).unwrap_or_default(),
        token_type: "Bearer",
        user,
    })
}
