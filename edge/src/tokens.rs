//! Tokens that were verified before, so that a client's second request costs a look-up and no
//! signature. Only the signature is remembered: expiry, key and revocation are asked every time.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use sha2::{Digest, Sha256};
use shared::claims::AccessClaims;

/// How many tokens are kept. One takes about 600 bytes with its claims: 5 MB when full, of the
/// 128 MB that an isolate has.
pub const CAPACITY: usize = 8_192;

/// A token that its key has signed.
#[derive(Debug)]
pub struct Verified {
    /// What it says.
    pub claims: AccessClaims,
    /// The key, which may be withdrawn meanwhile.
    pub kid: Box<str>,
}

/// The verified tokens, by the SHA-256 of their text; the eldest leaves first.
#[derive(Debug, Default)]
pub struct Tokens {
    by_digest: HashMap<[u8; 32], Rc<Verified>>,
    eldest_first: VecDeque<[u8; 32]>,
}

impl Tokens {
    /// The name under which a token is kept.
    #[must_use]
    pub fn digest(token: &str) -> [u8; 32] {
        Sha256::digest(token.as_bytes()).into()
    }

    /// A token that was verified before.
    #[must_use]
    pub fn find(&self, digest: &[u8; 32]) -> Option<Rc<Verified>> {
        self.by_digest.get(digest).cloned()
    }

    /// Keeps a verified token, in the place of the eldest when there are too many.
    pub fn keep(&mut self, digest: [u8; 32], verified: Rc<Verified>) {
        if self.by_digest.insert(digest, verified).is_some() {
            return;
        }
        self.eldest_first.push_back(digest);
        if self.eldest_first.len() > CAPACITY
            && let Some(eldest) = self.eldest_first.pop_front()
        {
            self.by_digest.remove(&eldest);
        }
    }
}
