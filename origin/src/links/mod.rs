//! One-time links: what a mail carries so that its reader shows that the address is theirs. The
//! secret in it is 32 random bytes, of which the database keeps a hash; it is good once, for a
//! while, and for as long as no newer one of its purpose was made for the account.

mod store;

use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::rim;

pub use store::{Holder, find, keep, take, void, void_all};

/// What a link is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Showing that an address is one's own.
    Verify,
    /// Setting another password.
    Reset,
    /// Signing in.
    Magic,
}

impl Purpose {
    /// As the database writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Reset => "reset",
            Self::Magic => "magic",
        }
    }

    /// How long a link is good.
    pub const fn lifetime_secs(self) -> i32 {
        match self {
            Self::Verify => 24 * 60 * 60,
            Self::Reset => 60 * 60,
            Self::Magic => 10 * 60,
        }
    }

    /// Where the link leads, below the public URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Verify => "/api/v1/auth/verify-email",
            Self::Reset => "/api/v1/auth/reset-password",
            Self::Magic => "/api/v1/auth/magic-link/verify",
        }
    }
}

/// The secret of a link, in the open: it goes into one mail, and nowhere else.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A new one.
    pub fn new() -> Self {
        Self(Zeroizing::new(Base64UrlUnpadded::encode_string(
            rim::random::<32>().as_slice(),
        )))
    }

    /// The text for the link.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the database keeps.
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }
}

/// What a secret that somebody shows is found by. Nobody learns more of a stored hash by looking
/// for others: the bytes are random, so that one round of SHA-256 is enough.
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}
