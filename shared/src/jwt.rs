//! Access tokens: made by [`sign`], verified by [`verify`].
//!
//! A token is a JWS in compact form (RFC 7515 §7.1) with `typ` `at+jwt` (RFC 9068 §2.1). The
//! algorithm comes from the key and never from the token (RFC 8725 §3.1); keys come from our own
//! set by `kid` and never from the token either.
//!
//! Parsed here and not by a library: it is one split, three decodes and two reads, and the
//! edge does it for every token that it has not seen.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use chrono::{DateTime, Utc};
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

/// A token that is believed.
#[derive(Clone, Debug)]
pub struct Verified<'k> {
    /// What it says.
    pub claims: AccessClaims,
    /// The same as its JSON, to the letter; for answers that show it.
    pub payload: String,
    /// The key that has signed it.
    pub key: &'k Key,
}

/// Verifies `token` as of `now`. Pure: the caller supplies keys and clock.
pub fn verify(
    token: &str,
    keys: &KeySet,
    expect: &Expect,
    now: DateTime<Utc>,
) -> Result<AccessClaims, Rejected> {
    verify_with(token, keys, expect, now, Key::has_signed).map(|verified| verified.claims)
}

/// As [`verify`], with the host's own Ed25519 in place of ours: `has_signed` says whether the
/// key has made the signature over the message.
pub fn verify_with<'k>(
    token: &str,
    keys: &'k KeySet,
    expect: &Expect,
    now: DateTime<Utc>,
    has_signed: impl Fn(&Key, &[u8], &[u8; 64]) -> bool,
) -> Result<Verified<'k>, Rejected> {
    let (payload, key) = open_with(token, keys, is_access_token, has_signed)?;
    let claims = read_claims(&payload, expect, now)?;
    Ok(Verified {
        claims,
        payload,
        key,
    })
}

/// What a token of this `typ` says, whatever that is, and which of the keys has signed it. Everything
/// else is the caller's to judge.
pub fn open<'k>(token: &str, keys: &'k KeySet, typ: &str) -> Result<(String, &'k Key), Rejected> {
    let is_typ = |shown: &str| shown.eq_ignore_ascii_case(typ);
    open_with(token, keys, is_typ, Key::has_signed)
}

fn open_with<'k>(
    token: &str,
    keys: &'k KeySet,
    is_typ: impl Fn(&str) -> bool,
    has_signed: impl Fn(&Key, &[u8], &[u8; 64]) -> bool,
) -> Result<(String, &'k Key), Rejected> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Rejected::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Rejected::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(Rejected::Malformed)?;
    let key = select_key(&decode_text(header)?, keys, is_typ)?;
    let signature = decode(signature)?;
    let signature = signature.as_slice().try_into();
    let signature = signature.map_err(|_| Rejected::Signature)?;
    if !has_signed(key, message.as_bytes(), signature) {
        return Err(Rejected::Signature);
    }
    Ok((decode_text(claims)?, key))
}

/// Makes a token that says `claims`. Times are written in whole seconds.
///
/// # Panics
/// Never: claims are strings, numbers and lists, which JSON can write.
#[must_use]
pub fn sign(claims: &AccessClaims, key: &SigningKey) -> String {
    let payload = serde_json::to_string(&Wire::from(claims)).expect("claims are plain JSON");
    sign_text("at+jwt", &payload, key)
}

/// Makes a token of this `typ` with these claims, which are JSON.
#[must_use]
pub fn sign_text(typ: &str, payload: &str, key: &SigningKey) -> String {
    let header = format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"{}"}}"#, key.kid());
    let mut token = BASE64URL.encode(header);
    token.push('.');
    BASE64URL.encode_string(payload, &mut token);
    let signature = key.sign(token.as_bytes());
    token.push('.');
    BASE64URL.encode_string(signature, &mut token);
    token
}

/// Base64url in its one form: no padding, no stray bits. RFC 7515 §2.
fn decode(text: &str) -> Result<Vec<u8>, Rejected> {
    BASE64URL.decode(text).map_err(|_| Rejected::Malformed)
}

/// The same of what must be UTF-8, whatever of it is looked at. RFC 7515 §5.2.
fn decode_text(text: &str) -> Result<String, Rejected> {
    String::from_utf8(decode(text)?).map_err(|_| Rejected::Malformed)
}

/// The headers that decide; others change nothing. None may be there twice. RFC 7515 §4.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    typ: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    /// Whether it is there at all, even as `null`.
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The key that a header names, if the header is one of ours.
fn select_key<'k>(
    header: &str,
    keys: &'k KeySet,
    is_typ: impl Fn(&str) -> bool,
) -> Result<&'k Key, Rejected> {
    let header: Header<'_> = serde_json::from_str(header).map_err(|_| Rejected::Malformed)?;
    // RFC 8037 §3.1, RFC 9864 §2.2: two names for what our keys do.
    if !matches!(&*header.alg, "EdDSA" | "Ed25519") {
        return Err(Rejected::Algorithm);
    }
    if !header.typ.as_deref().is_some_and(is_typ) {
        return Err(Rejected::Type);
    }
    if header.crit {
        return Err(Rejected::Critical);
    }
    let kid = header.kid.ok_or(Rejected::NoKey)?;
    keys.find(&kid).ok_or(Rejected::UnknownKey)
}

/// RFC 9068 §4: `at+jwt`, with or without `application/`, in any case.
fn is_access_token(typ: &str) -> bool {
    let prefix = |start: &&str| start.eq_ignore_ascii_case("application/");
    let short = typ.get(..12).filter(prefix).map_or(typ, |_| &typ[12..]);
    short.eq_ignore_ascii_case("at+jwt")
}

/// Reads the claims of a token whose signature is good.
fn read_claims(
    payload: &str,
    expect: &Expect,
    now: DateTime<Utc>,
) -> Result<AccessClaims, Rejected> {
    let wire: Wire<'_> = serde_json::from_str(payload).map_err(|_| Rejected::Malformed)?;
    if wire.iss != expect.issuer {
        return Err(Rejected::Issuer);
    }
    if wire.aud != expect.audience {
        return Err(Rejected::Audience);
    }
    if wire
        .nbf
        .is_some_and(|nbf| nbf > now.timestamp().saturating_add(LEEWAY_SECS.into()))
    {
        return Err(Rejected::NotYet);
    }
    let time = |secs| DateTime::from_timestamp(secs, 0).ok_or(Rejected::Malformed);
    let claims = AccessClaims {
        iss: wire.iss.into_owned(),
        aud: wire.aud.into_owned(),
        sub: wire.sub,
        client_id: wire.client_id.into_owned(),
        sid: wire.sid,
        jti: wire.jti,
        iat: time(wire.iat)?,
        exp: time(wire.exp)?,
        auth_time: time(wire.auth_time)?,
        email: wire.email.into_owned(),
        role: wire.role,
        amr: wire.amr,
    };
    if claims.is_expired(now) {
        return Err(Rejected::Expired);
    }
    Ok(claims)
}

/// The claims as JSON has them. Times are whole seconds: we write no others.
#[derive(Deserialize, Serialize)]
struct Wire<'a> {
    iss: Cow<'a, str>,
    aud: Cow<'a, str>,
    sub: UserId,
    client_id: Cow<'a, str>,
    sid: SessionId,
    jti: TokenId,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    auth_time: i64,
    email: Cow<'a, str>,
    role: Role,
    amr: Vec<String>,
}

impl<'a> From<&'a AccessClaims> for Wire<'a> {
    fn from(claims: &'a AccessClaims) -> Self {
        Self {
            iss: claims.iss.as_str().into(),
            aud: claims.aud.as_str().into(),
            sub: claims.sub,
            client_id: claims.client_id.as_str().into(),
            sid: claims.sid,
            jti: claims.jti,
            iat: claims.iat.timestamp(),
            exp: claims.exp.timestamp(),
            nbf: None,
            auth_time: claims.auth_time.timestamp(),
            email: claims.email.as_str().into(),
            role: claims.role,
            amr: claims.amr.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
