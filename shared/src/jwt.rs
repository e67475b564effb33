//! Access tokens: made by [`sign`], verified by [`verify`].
//!
//! A token is a JWS in compact form (RFC 7515 §7.1) with `typ` `at+jwt` (RFC 9068 §2.1). The
//! algorithm comes from the key and never from the token (RFC 8725 §3.1); keys come from our own
//! set by `kid` and never from the token either.

use std::{borrow::Cow, num::NonZeroUsize};

use chrono::{DateTime, Utc};
use jwt_compact::{
    Algorithm, AlgorithmExt, AlgorithmSignature, Claims, Header, TimeOptions, UntrustedToken,
    ValidationError,
};
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

use crate::{
    claims::{AccessClaims, LEEWAY_SECS, Role},
    ids::{SessionId, TokenId, UserId},
    jwks::{Key, KeySet, SigningKey},
};

/// Longer texts are not looked at. Ours are about 600 bytes.
pub const MAX_TOKEN_BYTES: usize = 4_096;

/// What this verifier stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expect {
    /// The only issuer it believes.
    pub issuer: String,
    /// The audience it is.
    pub audience: String,
}

/// Why a token is not believed. None of them tells a stranger more than he knew.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejected {
    /// Not three parts of base64url with JSON in two of them, or too long.
    #[error("the token is malformed")]
    Malformed,
    /// An `alg` that is neither `EdDSA` nor `Ed25519`.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// A `typ` other than `at+jwt`.
    #[error("the token is not an access token")]
    Type,
    /// A `crit` header: extensions that we must understand and don't. RFC 7515 §4.1.11.
    #[error("the token demands extensions")]
    Critical,
    /// No `kid`.
    #[error("the token names no key")]
    NoKey,
    /// A `kid` that the key set does not have; perhaps it is newer than the set.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the token's signature does not match")]
    Signature,
    /// Another issuer.
    #[error("the token is of another issuer")]
    Issuer,
    /// Another audience.
    #[error("the token is for another audience")]
    Audience,
    /// Its `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// Its `nbf` is to come.
    #[error("the token is not valid yet")]
    NotYet,
}

/// Verifies `token` as of `now`. Pure: the caller supplies keys and clock.
pub fn verify(
    token: &str,
    keys: &KeySet,
    expect: &Expect,
    now: DateTime<Utc>,
) -> Result<AccessClaims, Rejected> {
    verify_with(token, keys, expect, now, Key::has_signed).map(|(claims, _)| claims)
}

/// As [`verify`], with the host's own Ed25519 in place of ours: `has_signed` says whether the
/// key has made the signature over the message. Also tells which key it was.
pub fn verify_with<'k>(
    token: &str,
    keys: &'k KeySet,
    expect: &Expect,
    now: DateTime<Utc>,
    has_signed: impl Fn(&Key, &[u8], &[u8; 64]) -> bool,
) -> Result<(AccessClaims, &'k Key), Rejected> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Rejected::Malformed);
    }
    let token = UntrustedToken::<Extensions>::try_from(token).map_err(|_| Rejected::Malformed)?;
    let name = ["EdDSA", "Ed25519"]
        .into_iter()
        .find(|name| *name == token.algorithm())
        .ok_or(Rejected::Algorithm)?;
    let header = token.header();
    if !header.token_type.as_deref().is_some_and(is_access_token) {
        return Err(Rejected::Type);
    }
    if header.other_fields.crit {
        return Err(Rejected::Critical);
    }
    let kid = header.key_id.as_deref().ok_or(Rejected::NoKey)?;
    let key = keys.find(kid).ok_or(Rejected::UnknownKey)?;
    let verified = Ed25519 { name, has_signed }
        .validator::<Wire>(key)
        .validate(&token)
        .map_err(|why| match why {
            ValidationError::MalformedClaims(_) => Rejected::Malformed,
            _ => Rejected::Signature,
        })?;
    let claims = access_claims(verified.claims(), now)?;
    if claims.iss != expect.issuer {
        return Err(Rejected::Issuer);
    }
    if claims.aud != expect.audience {
        return Err(Rejected::Audience);
    }
    if claims.is_expired(now) {
        return Err(Rejected::Expired);
    }
    Ok((claims, key))
}

/// Makes a token that says `claims`. Times are written in whole seconds.
///
/// # Panics
/// Never: claims are strings, numbers and lists, which JSON can write.
#[must_use]
pub fn sign(claims: &AccessClaims, key: &SigningKey) -> String {
    let header = Header::empty()
        .with_token_type("at+jwt")
        .with_key_id(key.kid());
    let wire = wire(claims);
    let has_signed = Key::has_signed;
    Ed25519 {
        name: "EdDSA",
        has_signed,
    }
    .token(&header, &wire, key)
    .expect("claims are plain JSON")
}

/// What a token says, as its JSON; for answers that show it.
///
/// # Panics
/// Never: claims are strings, numbers and lists, which JSON can write.
#[must_use]
pub fn payload(claims: &AccessClaims) -> String {
    serde_json::to_string(&wire(claims)).expect("claims are plain JSON")
}

fn wire(claims: &AccessClaims) -> Claims<Wire> {
    let mut wire = Claims::new(Wire::from(claims));
    wire.issued_at = Some(claims.iat);
    wire.expiration = Some(claims.exp);
    wire
}

/// RFC 9068 §4: `at+jwt`, with or without `application/`, in any case.
fn is_access_token(typ: &str) -> bool {
    let short = typ
        .get(..12)
        .filter(|start| start.eq_ignore_ascii_case("application/"))
        .map_or(typ, |_| &typ[12..]);
    short.eq_ignore_ascii_case("at+jwt")
}

fn access_claims(claims: &Claims<Wire>, now: DateTime<Utc>) -> Result<AccessClaims, Rejected> {
    let leeway = TimeOptions::new(chrono::TimeDelta::seconds(LEEWAY_SECS.into()), || now);
    if claims.not_before.is_some() && claims.validate_maturity(&leeway).is_err() {
        return Err(Rejected::NotYet);
    }
    let wire = claims.custom.clone();
    Ok(AccessClaims {
        iss: wire.iss,
        aud: wire.aud,
        sub: wire.sub,
        client_id: wire.client_id,
        sid: wire.sid,
        jti: wire.jti,
        iat: claims.issued_at.ok_or(Rejected::Malformed)?,
        exp: claims.expiration.ok_or(Rejected::Malformed)?,
        auth_time: DateTime::from_timestamp(wire.auth_time, 0).ok_or(Rejected::Malformed)?,
        email: wire.email,
        role: wire.role,
        amr: wire.amr,
    })
}

/// Every claim but `iat`, `exp` and `nbf`, which jwt-compact reads itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Wire {
    iss: String,
    aud: String,
    sub: UserId,
    client_id: String,
    sid: SessionId,
    jti: TokenId,
    auth_time: i64,
    email: String,
    role: Role,
    amr: Vec<String>,
}

impl From<&AccessClaims> for Wire {
    fn from(claims: &AccessClaims) -> Self {
        Self {
            iss: claims.iss.clone(),
            aud: claims.aud.clone(),
            sub: claims.sub,
            client_id: claims.client_id.clone(),
            sid: claims.sid,
            jti: claims.jti,
            auth_time: claims.auth_time.timestamp(),
            email: claims.email.clone(),
            role: claims.role,
            amr: claims.amr.clone(),
        }
    }
}

/// The one further header that matters: whether `crit` is there at all, even as `null`.
#[derive(Clone, Debug, Default, Deserialize)]
struct Extensions {
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Ed25519 under the name that the token has for it (RFC 8037 §3.1, RFC 9864 §2.2).
struct Ed25519<C> {
    name: &'static str,
    has_signed: C,
}

struct Signature([u8; 64]);

impl AlgorithmSignature for Signature {
    const LENGTH: Option<NonZeroUsize> = NonZeroUsize::new(64);

    fn try_from_slice(bytes: &[u8]) -> anyhow::Result<Self> {
        Ok(Self(bytes.try_into()?))
    }

    fn as_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.0)
    }
}

impl<C: Fn(&Key, &[u8], &[u8; 64]) -> bool> Algorithm for Ed25519<C> {
    type SigningKey = SigningKey;
    type VerifyingKey = Key;
    type Signature = Signature;

    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(self.name)
    }

    fn sign(&self, key: &SigningKey, message: &[u8]) -> Signature {
        Signature(key.sign(message))
    }

    fn verify_signature(&self, signature: &Signature, key: &Key, message: &[u8]) -> bool {
        (self.has_signed)(key, message, &signature.0)
    }
}

#[cfg(test)]
mod tests;
