//! Tokens of a key that only tests have.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use shared::{
    claims::{AccessClaims, FIRST_PARTY, Role},
    jwks::{JwkSet, SigningKey},
    jwt,
};
use uuid::Uuid;
use zeroize::Zeroizing;

/// A key, and the issuer that signs with it.
pub struct Issuer {
    key: SigningKey,
    url: String,
}

impl Issuer {
    /// An issuer of tokens with this `iss`. The same seed makes the same key.
    #[must_use]
    pub fn new(url: &str, seed: u8) -> Self {
        Self {
            key: SigningKey::from_seed(&Zeroizing::new([seed; 32])),
            url: url.to_owned(),
        }
    }

    /// Its `iss`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it signs with.
    #[must_use]
    pub const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Its key set, as it is published.
    #[must_use]
    pub fn jwks(&self) -> JwkSet {
        JwkSet {
            keys: vec![self.key.key().jwk()],
        }
    }

    /// Claims of a new user's new session: valid now and for fifteen minutes.
    #[must_use]
    pub fn claims(&self) -> AccessClaims {
        let now = now().trunc_subsecs(0);
        AccessClaims {
            iss: self.url.clone(),
            aud: "tollgate".to_owned(),
            sub: new_id().into(),
            client_id: FIRST_PARTY.to_owned(),
            sid: new_id().into(),
            jti: new_id().into(),
            iat: now,
            exp: now + TimeDelta::minutes(15),
            auth_time: now,
            email: "ada@example.org".to_owned(),
            role: Role::User,
            amr: vec!["pwd".to_owned()],
        }
    }

    /// A token that nobody has seen yet.
    #[must_use]
    pub fn token(&self) -> String {
        jwt::sign(&self.claims(), &self.key)
    }
}

/// This machine's clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "tests are where time comes from")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

#[expect(clippy::disallowed_methods, reason = "tests are where ids come from")]
fn new_id() -> Uuid {
    Uuid::new_v4()
}
