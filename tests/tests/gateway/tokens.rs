//! The tokens of the cases: good ones, and what an attacker would send in their place.

use std::fmt::Write;

use base64ct::{Base64UrlUnpadded, Encoding};
use chrono::TimeDelta;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::{
    claims::{AccessClaims, Role},
    jwks::JwkSet,
    jwt,
    revocations::Revocation,
};
use tests::Issuer;

/// What is sent as a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Token {
    /// Ada's.
    Good,
    /// Ada's too, and not used before.
    Fresh,
    /// Another user's, who is an admin.
    Admin,
    /// Its session was ended.
    Ended,
    /// Minted before its user's tokens were withdrawn.
    Before,
    /// Minted after that, in the same session.
    After,
    /// Its key was revoked, and is in the key set still.
    OfRevokedKey,
    /// It ended an hour ago.
    Expired,
    /// Another `iss`.
    OtherIssuer,
    /// Another `aud`.
    OtherAudience,
    /// `typ` is `JWT`. RFC 8725 §3.11.
    OtherType,
    /// `alg` is `none` and the signature empty. RFC 7519 §6.1.
    NoAlgorithm,
    /// HS256 with our public key as the secret. RFC 8725 §2.1.
    Hs256,
    /// `crit` demands an extension. RFC 7515 §4.1.11.
    Critical,
    /// Signed with a stranger's key, under the name of ours.
    OtherKey,
    /// Signed with a stranger's key, under its name.
    UnknownKey,
    /// Signed with a stranger's key, which is in the header. RFC 8725 §3.5.
    OwnKey,
    /// No `kid`.
    NoKey,
    /// 16 KiB that mean nothing.
    Noise,
}

/// Ada, the admin and others, whose tokens are the same for as long as this lives.
pub struct Tokens {
    issuer: Issuer,
    /// Whose key was revoked.
    former: Issuer,
    stranger: Issuer,
    ada: AccessClaims,
    admin: AccessClaims,
    ended: AccessClaims,
    before: AccessClaims,
    after: AccessClaims,
}

impl Tokens {
    pub fn new(issuer: Issuer) -> Self {
        let (ada, mut admin) = (issuer.claims(), issuer.claims());
        admin.role = Role::Admin;
        let (ended, before) = (issuer.claims(), issuer.claims());
        let after = AccessClaims {
            iat: before.iat + TimeDelta::seconds(1),
            ..before.clone()
        };
        Self {
            former: Issuer::new(issuer.url(), 0xAA),
            stranger: Issuer::new(issuer.url(), 0xEE),
            issuer,
            ada,
            admin,
            ended,
            before,
            after,
        }
    }

    /// What the origin publishes.
    pub fn jwks(&self) -> JwkSet {
        let keys = [&self.issuer, &self.former];
        JwkSet {
            keys: keys.map(|issuer| issuer.key().key().jwk()).into(),
        }
    }

    /// What it tells of revocations.
    pub fn revocations(&self) -> Vec<Revocation> {
        let until = self.ada.exp.timestamp() + 90;
        vec![
            Revocation::Session {
                id: self.ended.sid,
                until,
            },
            Revocation::User {
                id: self.after.sub,
                not_before: self.after.iat.timestamp(),
                until,
            },
            Revocation::Key {
                id: self.former.key().kid().to_owned(),
                until,
            },
        ]
    }

    /// What a good token says.
    pub const fn claims(&self, token: Token) -> Option<&AccessClaims> {
        match token {
            Token::Good => Some(&self.ada),
            Token::Admin => Some(&self.admin),
            Token::After => Some(&self.after),
            _ => None,
        }
    }

    /// The token as it is sent.
    pub fn text(&self, token: Token) -> String {
        let kid = self.issuer.key().kid();
        let ours = |header: Value| sign(&header, &self.ada, &self.issuer);
        let theirs = |header: Value| sign(&header, &self.ada, &self.stranger);
        let said = |claims: AccessClaims| jwt::sign(&claims, self.issuer.key());
        match token {
            Token::Good => said(self.ada.clone()),
            Token::Fresh => self.issuer.token(),
            Token::Admin => said(self.admin.clone()),
            Token::Ended => said(self.ended.clone()),
            Token::Before => said(self.before.clone()),
            Token::After => said(self.after.clone()),
            Token::OfRevokedKey => self.former.token(),
            Token::Expired => said(AccessClaims {
                exp: self.ada.iat - TimeDelta::hours(1),
                ..self.ada.clone()
            }),
            Token::OtherIssuer => said(AccessClaims {
                iss: "https://elsewhere.example".to_owned(),
                ..self.ada.clone()
            }),
            Token::OtherAudience => said(AccessClaims {
                aud: "elsewhere".to_owned(),
                ..self.ada.clone()
            }),
            Token::OtherType => ours(json!({"alg": "EdDSA", "typ": "JWT", "kid": kid})),
            Token::NoAlgorithm => {
                let header = json!({"alg": "none", "typ": "at+jwt", "kid": kid});
                signed_part(&header, &self.ada, &self.issuer) + "."
            }
            Token::Hs256 => self.hs256(),
            Token::Critical => ours(json!({
                "alg": "EdDSA", "typ": "at+jwt", "kid": kid, "crit": ["b64"], "b64": true,
            })),
            Token::OtherKey => theirs(json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid})),
            Token::UnknownKey => jwt::sign(&self.ada, self.stranger.key()),
            Token::OwnKey => theirs(json!({
                "alg": "EdDSA", "typ": "at+jwt", "kid": kid, "jwk": self.stranger.key().key().jwk(),
            })),
            Token::NoKey => ours(json!({"alg": "EdDSA", "typ": "at+jwt"})),
            Token::Noise => (0_u16..8_192).fold(String::new(), |mut noise, at| {
                let _ = write!(noise, "{:02x}", at.wrapping_mul(40_503) >> 8);
                noise
            }),
        }
    }

    fn hs256(&self) -> String {
        let key = self.issuer.key().key();
        let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": key.kid()});
        let signed = signed_part(&header, &self.ada, &self.issuer);
        let mut mac =
            Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes any length");
        mac.update(signed.as_bytes());
        let tag = Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes());
        format!("{signed}.{tag}")
    }
}

/// Header and claims as a signature covers them. RFC 7515 §5.1.
fn signed_part(header: &Value, claims: &AccessClaims, by: &Issuer) -> String {
    let header = Base64UrlUnpadded::encode_string(header.to_string().as_bytes());
    let ours = jwt::sign(claims, by.key());
    let claims = ours.split('.').nth(1).expect("a token has three parts");
    format!("{header}.{claims}")
}

fn sign(header: &Value, claims: &AccessClaims, by: &Issuer) -> String {
    let signed = signed_part(header, claims, by);
    let signature = Base64UrlUnpadded::encode_string(&by.key().sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}
