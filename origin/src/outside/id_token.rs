//! Whether an `id_token` is a provider's word about somebody, for us and for this sign-in (OpenID
//! Connect Core 1.0 §3.1.3.7). Pure: keys and clock are the caller's.

use chrono::{DateTime, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How far the provider's clock may be from ours.
const LEEWAY_SECS: i64 = 30;
/// OpenID Connect Core 1.0 §2.
const LONGEST_SUBJECT: usize = 255;

/// Why an `id_token` is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejected {
    /// Not a JWS, or not with the claims of an `id_token`.
    #[error("the provider's token cannot be read")]
    Malformed,
    /// Unsigned, or signed with a secret or in a way that providers do not use.
    #[error("the provider's token is not signed as it must be")]
    Algorithm,
    /// Not by a key that the provider publishes.
    #[error("the provider's token is signed by an unknown key")]
    UnknownKey,
    /// Not by that key.
    #[error("the signature of the provider's token does not hold")]
    Signature,
    /// Another provider's.
    #[error("the token is from another provider")]
    Issuer,
    /// For another client.
    #[error("the provider's token is for another client")]
    Audience,
    /// Its time is over, or has not come.
    #[error("the provider's token is not good now")]
    Time,
    /// Not for this sign-in.
    #[error("the provider's token has another nonce")]
    Nonce,
    /// An app has shown it before.
    #[error("the provider's token was shown before")]
    Replayed,
    /// What is told at the userinfo endpoint is about somebody else.
    #[error("the provider speaks of two people")]
    Subject,
}

/// A key that a provider publishes.
pub struct Key {
    jwk: Jwk,
    key: DecodingKey,
}

impl Key {
    /// A key that verifies signatures, if it is one of a kind that is known here. Secrets are none:
    /// who knows one could sign with it.
    pub fn read(json: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        let is_for_signing = matches!(
            jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        );
        if !is_for_signing || matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { jwk, key })
    }

    /// Whether it signs with this algorithm: by what kind of key it is, and by what it says itself.
    fn signs_with(&self, algorithm: Algorithm) -> bool {
        use Algorithm as A;
        let fits = match (&self.jwk.algorithm, algorithm) {
            (
                AlgorithmParameters::RSA(_),
                A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512,
            ) => true,
            (AlgorithmParameters::EllipticCurve(key), A::ES256) => key.curve == EllipticCurve::P256,
            (AlgorithmParameters::EllipticCurve(key), A::ES384) => key.curve == EllipticCurve::P384,
            (AlgorithmParameters::OctetKeyPair(key), A::EdDSA) => {
                key.curve == EllipticCurve::Ed25519
            }
            _ => false,
        };
        let says = self.jwk.common.key_algorithm.as_ref();
        fits && says.is_none_or(|says| says.to_string() == format!("{algorithm:?}"))
    }
}

/// The key that a token names, among those that are published. `UnknownKey` is a reason to look
/// whether there are new ones.
pub fn key<'a>(token: &str, keys: &'a [Key]) -> Result<(&'a Key, Algorithm), Rejected> {
    // `none`, and whatever else the library does not know, is no header to it.
    let header = decode_header(token).map_err(|_| Rejected::Malformed)?;
    if header.crit.is_some() {
        return Err(Rejected::Malformed);
    }
    if matches!(
        header.alg,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
    ) {
        return Err(Rejected::Algorithm);
    }
    let mut named = keys.iter().filter(|key| match &header.kid {
        Some(kid) => key.jwk.common.key_id.as_ref() == Some(kid),
        None => key.signs_with(header.alg),
    });
    let key = named.next().ok_or(Rejected::UnknownKey)?;
    // Without a name it must be clear which one.
    if header.kid.is_none() && named.next().is_some() {
        return Err(Rejected::UnknownKey);
    }
    if !key.signs_with(header.alg) {
        return Err(Rejected::Algorithm);
    }
    Ok((key, header.alg))
}

/// What a token must say.
pub struct Expect<'a> {
    pub issuer: &'a str,
    /// Our client id; for tokens that native apps show, those of the apps too.
    pub audiences: &'a [&'a str],
    pub nonce: Nonce<'a>,
}

/// Which nonce a token must have.
pub enum Nonce<'a> {
    /// The one of this sign-in.
    Ours(&'a str),
    /// The one that an app says it asked for; none may be in the token otherwise.
    Shown(Option<&'a str>),
}

/// The claims that we read.
#[derive(Deserialize)]
pub struct Claims {
    iss: String,
    pub sub: String,
    #[serde(deserialize_with = "one_or_many")]
    aud: Vec<String>,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    pub email: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub email_verified: bool,
    pub name: Option<String>,
}

impl Claims {
    /// Until when the token could be shown again.
    pub fn over_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.exp.checked_add(2 * LEEWAY_SECS)?, 0)
    }
}

/// What a token says, if it may be believed.
pub fn verify(
    token: &str,
    keys: &[Key],
    expect: &Expect<'_>,
    now: DateTime<Utc>,
) -> Result<Claims, Rejected> {
    let claims: Claims = signed(token, keys)?.0;
    judge(&claims, expect, now.timestamp())?;
    Ok(claims)
}

/// What a token says whose signature holds, and with which algorithm. Whom it is for and when it is good
/// is the caller's to judge.
pub fn signed<T: DeserializeOwned>(token: &str, keys: &[Key]) -> Result<(T, Algorithm), Rejected> {
    let (key, algorithm) = key(token, keys)?;
    let mut signature_alone = Validation::new(algorithm);
    signature_alone.validate_exp = false;
    signature_alone.validate_aud = false;
    signature_alone.required_spec_claims.clear();
    let decoded =
        decode::<T>(token, &key.key, &signature_alone).map_err(|why| match why.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => Rejected::Signature,
            _ => Rejected::Malformed,
        })?;
    Ok((decoded.claims, algorithm))
}

fn judge(claims: &Claims, expect: &Expect<'_>, now: i64) -> Result<(), Rejected> {
    if claims.iss != expect.issuer {
        return Err(Rejected::Issuer);
    }
    let is_ours = |client: &String| expect.audiences.contains(&client.as_str());
    let authorized = claims.azp.as_ref().map(is_ours);
    let is_for_us = match (&claims.aud[..], &expect.nonce) {
        // Google names the app that asked in `azp`, and the server that it is for in `aud`.
        ([audience], Nonce::Shown(_)) => is_ours(audience),
        ([audience], Nonce::Ours(_)) => is_ours(audience) && authorized != Some(false),
        (audiences, _) => audiences.iter().any(is_ours) && authorized == Some(true),
    };
    if !is_for_us {
        return Err(Rejected::Audience);
    }
    let begins = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
    if claims.exp <= now.saturating_sub(LEEWAY_SECS) || begins > now.saturating_add(LEEWAY_SECS) {
        return Err(Rejected::Time);
    }
    let is_same = |theirs: &str, ours: &str| bool::from(theirs.as_bytes().ct_eq(ours.as_bytes()));
    let has_nonce = match (&expect.nonce, claims.nonce.as_deref()) {
        (Nonce::Ours(ours), Some(theirs)) => is_same(theirs, ours),
        // Apps for Apple's devices hash it before they ask.
        (Nonce::Shown(Some(shown)), Some(theirs)) => {
            is_same(theirs, shown) || is_same(theirs, &hex::encode(Sha256::digest(shown)))
        }
        (Nonce::Shown(None), None) => true,
        // One that the app keeps to itself proves nothing: somebody else may have asked for it.
        _ => false,
    };
    if !has_nonce {
        return Err(Rejected::Nonce);
    }
    if !(1..=LONGEST_SUBJECT).contains(&claims.sub.len()) || claims.sub.contains('\0') {
        return Err(Rejected::Malformed);
    }
    Ok(())
}

/// What a token is remembered by: what is signed, since ECDSA has two signatures for each.
pub fn hash(token: &str) -> [u8; 32] {
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    Sha256::digest(signed).into()
}

/// An audience, or several.
pub fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    })
}

/// Apple writes `"true"`. Whatever is no such word is no.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value == true || value == "true")
}
