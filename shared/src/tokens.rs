//! Tokens that were verified before, so that a client's second request costs a look-up and no
//! signature. Only the signature is remembered: expiry, key and revocation are asked every time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use crate::{
    claims::AccessClaims,
    jwks::KeySet,
    jwt::{self, Rejected},
};

/// A token that its key has signed.
#[derive(Debug)]
pub struct Verified {
    text: Box<str>,
    /// What it says.
    pub claims: AccessClaims,
    /// The same as JSON.
    pub payload: String,
    /// The key, which may be withdrawn meanwhile.
    pub kid: Box<str>,
}

impl Verified {
    /// A token of this text.
    #[must_use]
    pub fn new(text: &str, verified: jwt::Verified<'_>) -> Self {
        Self {
            text: text.into(),
            kid: verified.key.kid().into(),
            claims: verified.claims,
            payload: verified.payload,
        }
    }

    /// Whether it may still be believed: it is not over, and its key is in the set.
    pub fn check(&self, keys: &KeySet, now: DateTime<Utc>) -> Result<(), Rejected> {
        if self.claims.is_expired(now) {
            return Err(Rejected::Expired);
        }
        if keys.find(&self.kid).is_none() {
            return Err(Rejected::UnknownKey);
        }
        Ok(())
    }
}

/// The verified tokens; the eldest leaves first.
///
/// Each is found by eight characters of its signature and then compared as a whole, so that a
/// look-up hashes eight bytes and not 600. Only who can sign could choose two of the same name,
/// of which one would be forgotten.
#[derive(Debug)]
pub struct Tokens {
    capacity: usize,
    by_name: HashMap<Name, Arc<Verified>>,
    eldest_first: VecDeque<Name>,
}

type Name = [u8; 8];

fn name(token: &str) -> Option<Name> {
    // The last character of 64 bytes in base64url has but two bits.
    let (name, _) = token.as_bytes().last_chunk::<16>()?.split_first_chunk()?;
    Some(*name)
}

/// Whether two tokens are the same. By eight bytes at once: Wasm has no `memcmp` but one that goes byte by
/// byte.
fn is_same(one: &str, other: &str) -> bool {
    let (one, one_rest) = one.as_bytes().as_chunks::<8>();
    let (other, other_rest) = other.as_bytes().as_chunks::<8>();
    let same_words = one
        .iter()
        .zip(other)
        .all(|(one, other)| u64::from_ne_bytes(*one) == u64::from_ne_bytes(*other));
    one.len() == other.len() && one_rest == other_rest && same_words
}

impl Tokens {
    /// None yet, and never more than `capacity`. One takes about 2 KB with its text and claims.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            by_name: HashMap::new(),
            eldest_first: VecDeque::new(),
        }
    }

    /// A token that was verified before.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Arc<Verified>> {
        let found = self.by_name.get(&name(token)?)?;
        is_same(&found.text, token).then(|| found.clone())
    }

    /// Keeps a verified token, in the place of the eldest when there are too many.
    pub fn keep(&mut self, verified: Arc<Verified>) {
        let Some(name) = name(&verified.text) else {
            return;
        };
        if self.by_name.insert(name, verified).is_some() {
            return;
        }
        self.eldest_first.push_back(name);
        if self.eldest_first.len() > self.capacity
            && let Some(eldest) = self.eldest_first.pop_front()
        {
            self.by_name.remove(&eldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        claims::Role,
        ids::{SessionId, TokenId, UserId},
    };

    const CAPACITY: usize = 16;

    fn token(text: &str) -> Arc<Verified> {
        let claims = AccessClaims {
            iss: String::new(),
            aud: String::new(),
            sub: UserId::from(Uuid::nil()),
            client_id: String::new(),
            sid: SessionId::from(Uuid::nil()),
            jti: TokenId::from(Uuid::nil()),
            iat: DateTime::UNIX_EPOCH,
            exp: DateTime::UNIX_EPOCH,
            auth_time: DateTime::UNIX_EPOCH,
            email: String::new(),
            role: Role::User,
            amr: Vec::new(),
        };
        Arc::new(Verified {
            text: text.into(),
            claims,
            payload: String::new(),
            kid: "kid".into(),
        })
    }

    #[test]
    fn memory_is_bounded_and_the_eldest_leaves_first() {
        let mut tokens = Tokens::new(CAPACITY);
        let text = |index: usize| format!("{index:08}--------");
        for index in 0..=CAPACITY {
            tokens.keep(token(&text(index)));
            tokens.keep(token(&text(index)));
        }
        let kept = (tokens.by_name.len(), tokens.eldest_first.len());
        assert_eq!(kept, (CAPACITY, CAPACITY));
        assert!(tokens.find(&text(0)).is_none());
        assert!(tokens.find(&text(1)).is_some());
    }

    #[test]
    fn a_token_with_the_name_of_another_is_another() {
        let mut tokens = Tokens::new(CAPACITY);
        tokens.keep(token("good.signature--------"));
        assert!(tokens.find("good.signature--------").is_some());
        assert!(tokens.find("evil.signature--------").is_none());
        assert!(tokens.find("signature--------").is_none());
        assert!(tokens.find("").is_none());
    }
}
