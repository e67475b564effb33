//! Clients: the relying parties that an operator has registered.

mod redirect;
mod store;

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::rim;

pub use redirect::{registrable, web};
pub use store::{Listed, NewClient, add, all, by_id, disable, rotate};

const PREFIX: &str = "tgc_";

/// A relying party.
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// What people read.
    pub name: String,
    /// How it says who it is.
    pub method: Method,
    secret_hash: Option<[u8; 32]>,
    /// The keys that it signs with.
    pub jwks: Option<Value>,
    grant_types: Vec<String>,
    redirect_uris: Vec<String>,
    post_logout_redirect_uris: Vec<String>,
    /// What its `id_token`s are signed with.
    pub alg: Alg,
    /// Whether a code of its must be bound to who asked for it.
    pub requires_pkce: bool,
}

/// How a client says who it is at the token endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// Not at all: it can keep no secret.
    None,
    /// By a secret, in the header or in the body.
    Secret,
    /// By a signature (RFC 7523).
    Key,
}

impl Method {
    fn parse(text: &str) -> Option<Self> {
        let all = [Self::None, Self::Secret, Self::Key];
        all.into_iter().find(|method| method.as_str() == text)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Secret => "client_secret",
            Self::Key => "private_key_jwt",
        }
    }
}

/// What signs an `id_token`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Alg {
    /// Ed25519.
    #[value(name = "EdDSA")]
    EdDsa,
    /// RSA, for clients that know nothing else.
    #[value(name = "RS256")]
    Rs256,
}

impl Alg {
    /// What the database's text stands for.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == "RS256" {
            Self::Rs256
        } else {
            Self::EdDsa
        }
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        })
    }
}

/// What a client may ask tokens for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum GrantType {
    /// A person's code.
    #[value(name = "authorization_code")]
    Code,
    /// A refresh token.
    #[value(name = "refresh_token")]
    Refresh,
    /// Itself.
    #[value(name = "client_credentials")]
    Itself,
}

impl GrantType {
    /// As the wire and the registry write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "authorization_code",
            Self::Refresh => "refresh_token",
            Self::Itself => "client_credentials",
        }
    }
}

impl Client {
    /// Whether it may ask for tokens in this way.
    pub fn may(&self, grant_type: GrantType) -> bool {
        self.grant_types
            .iter()
            .any(|known| known == grant_type.as_str())
    }

    /// Whether people may be sent back there.
    pub fn leads_to(&self, uri: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|known| redirect::is_same(known, uri))
    }

    /// Whether it is this client that hears an answer there, and no other program that says so.
    pub fn is_assured(&self, uri: &str) -> bool {
        self.method != Method::None || redirect::is_assured(uri)
    }

    /// Whether people may be sent there when they have signed out.
    pub fn leaves_to(&self, uri: &str) -> bool {
        self.post_logout_redirect_uris
            .iter()
            .any(|known| redirect::is_same(known, uri))
    }

    /// Whether it is the client's secret. In constant time.
    pub fn has_secret(&self, secret: &str) -> bool {
        let expected = self.secret_hash.unwrap_or_default();
        let matches = bool::from(Secret::hash_of(secret).ct_eq(&expected));
        matches && self.secret_hash.is_some()
    }
}

/// A client's secret, in the open: shown once, and never again.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A new one. The prefix lets scanners find leaked ones.
    #[must_use]
    pub fn new() -> Self {
        let secret = Zeroizing::new(Base64UrlUnpadded::encode_string(
            rim::random::<32>().as_slice(),
        ));
        Self(Zeroizing::new(format!("{PREFIX}{}", *secret)))
    }

    /// The text to hand to the client's operator.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the registry keeps.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Self::hash_of(&self.0)
    }

    fn hash_of(secret: &str) -> [u8; 32] {
        Sha256::digest(secret.as_bytes()).into()
    }
}

impl Default for Secret {
    fn default() -> Self {
        Self::new()
    }
}

/// Why the registry does not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is such a client already.
    #[error("there is a client {0:?} already")]
    Taken(String),
    /// There is no such client.
    #[error("there is no client {0:?}")]
    Unknown(String),
    /// It has no secret that could be another one.
    #[error("client {0:?} has no secret")]
    NoSecret(String),
    /// What was said of it does not hold together.
    #[error("{0}")]
    Contradiction(&'static str),
    /// The database failed.
    #[error("clients in the database")]
    Database(#[from] sqlx::Error),
}
