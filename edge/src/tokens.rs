//! Tokens that were verified before, so that a client's second request costs a look-up and no
//! signature. Only the signature is remembered: expiry, key and revocation are asked every time.

use std::{
    cell::OnceCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use shared::{claims::AccessClaims, jwt};

/// How many tokens are kept. One takes about 1.5 KB with its text and its claims: 6 MB when
/// full, of the 128 MB that an isolate has.
pub const CAPACITY: usize = 4_096;

/// A token that its key has signed.
#[derive(Debug)]
pub struct Verified {
    /// What it says.
    pub claims: AccessClaims,
    /// The key, which may be withdrawn meanwhile.
    pub kid: Box<str>,
    payload: OnceCell<Box<str>>,
}

impl Verified {
    /// A token that `kid` has signed.
    #[must_use]
    pub fn new(claims: AccessClaims, kid: &str) -> Self {
        Self {
            claims,
            kid: kid.into(),
            payload: OnceCell::new(),
        }
    }

    /// What it says, as JSON.
    pub fn payload(&self) -> &str {
        self.payload
            .get_or_init(|| jwt::payload(&self.claims).into())
    }
}

/// The verified tokens, by their text; the eldest leaves first. The text and no digest of it:
/// hashing 600 bytes with SHA-256 takes as long as all the rest of a look-up.
#[derive(Debug, Default)]
pub struct Tokens {
    by_text: HashMap<Rc<str>, Rc<Verified>>,
    eldest_first: VecDeque<Rc<str>>,
}

impl Tokens {
    /// A token that was verified before.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Rc<Verified>> {
        self.by_text.get(token).cloned()
    }

    /// Keeps a verified token, in the place of the eldest when there are too many.
    pub fn keep(&mut self, token: &str, verified: Rc<Verified>) {
        let token: Rc<str> = token.into();
        if self.by_text.insert(token.clone(), verified).is_some() {
            return;
        }
        self.eldest_first.push_back(token);
        if self.eldest_first.len() > CAPACITY
            && let Some(eldest) = self.eldest_first.pop_front()
        {
            self.by_text.remove(&eldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use shared::{
        claims::Role,
        ids::{SessionId, TokenId, UserId},
    };
    use uuid::Uuid;

    use super::*;

    #[test]
    fn memory_is_bounded_and_the_eldest_leaves_first() {
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
        let verified = Rc::new(Verified::new(claims, "kid"));
        let mut tokens = Tokens::default();
        for index in 0..=CAPACITY {
            tokens.keep(&index.to_string(), verified.clone());
            tokens.keep(&index.to_string(), verified.clone());
        }
        assert_eq!(
            (tokens.by_text.len(), tokens.eldest_first.len()),
            (CAPACITY, CAPACITY)
        );
        assert!(tokens.find("0").is_none());
        assert!(tokens.find("1").is_some());
    }
}
