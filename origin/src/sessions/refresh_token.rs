//! The refresh token: `version ‖ session ‖ counter ‖ MAC`, base64url. The MAC covers a label,
//! the three and the session's salt, so the database holds no token, and neither the keys nor
//! the database alone can make one.

use std::collections::BTreeMap;

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shared::ids::SessionId;
use uuid::Uuid;

use crate::config::Key;

/// What a refresh token is of; one of the one kind is none of the other.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A session.
    Session,
    /// A relying party's grant.
    Grant,
}

impl Kind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"tollgate refresh token",
            Self::Grant => b"tollgate grant token",
        }
    }
}

const TOKEN_BYTES: usize = 1 + 16 + 4 + 32;

/// The keys that refresh tokens are made and verified with, by version. Never empty.
#[derive(Clone)]
pub struct RefreshKeys(BTreeMap<u8, Key>);

/// A refresh token that somebody shows, not yet believed.
pub struct Presented {
    /// The session that it claims to be of.
    pub session: SessionId,
    /// Which of the session's tokens it claims to be.
    pub counter: i32,
    version: u8,
    mac: [u8; 32],
}

impl RefreshKeys {
    /// At least one key.
    pub fn new(keys: BTreeMap<u8, Key>) -> Option<Self> {
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The session's token of this counter, under the newest key.
    pub fn make(&self, session: SessionId, counter: i32, salt: &[u8]) -> String {
        self.make_of(Kind::Session, session, counter, salt)
    }

    /// The token of this counter, of a session or a grant.
    pub fn make_of(&self, kind: Kind, session: SessionId, counter: i32, salt: &[u8]) -> String {
        let (version, key) = self.0.last_key_value().expect("there is at least one key");
        let mac = mac((kind, key), *version, session, counter, salt)
            .finalize()
            .into_bytes();
        let mut token = Vec::with_capacity(TOKEN_BYTES);
        token.push(*version);
        token.extend_from_slice(session.uuid().as_bytes());
        token.extend_from_slice(&counter.to_be_bytes());
        token.extend_from_slice(&mac);
        Base64UrlUnpadded::encode_string(&token)
    }

    /// Whether we made it, for a session with this salt. In constant time.
    pub fn made(&self, token: &Presented, salt: &[u8]) -> bool {
        self.made_of(Kind::Session, token, salt)
    }

    /// The same of one kind or the other.
    pub fn made_of(&self, kind: Kind, token: &Presented, salt: &[u8]) -> bool {
        self.0.get(&token.version).is_some_and(|key| {
            mac(
                (kind, key),
                token.version,
                token.session,
                token.counter,
                salt,
            )
            .verify_slice(&token.mac)
            .is_ok()
        })
    }
}

impl Presented {
    /// What a text claims to be, if it has the form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        let decoded = Base64UrlUnpadded::decode(text, &mut bytes).ok()?;
        let (version, rest) = decoded.split_first()?;
        let (session, rest) = rest.split_first_chunk()?;
        let (counter, rest) = rest.split_first_chunk()?;
        Some(Self {
            session: Uuid::from_bytes(*session).into(),
            counter: i32::from_be_bytes(*counter),
            version: *version,
            mac: rest.try_into().ok()?,
        })
    }
}

fn mac(
    (kind, key): (Kind, &Key),
    version: u8,
    session: SessionId,
    counter: i32,
    salt: &[u8],
) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
    // Every part but the label has a fixed length, so none can be mistaken for its neighbour.
    mac.update(kind.label());
    mac.update(&[version]);
    mac.update(session.uuid().as_bytes());
    mac.update(&counter.to_be_bytes());
    mac.update(salt);
    mac
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn keys(versions: &[u8]) -> RefreshKeys {
        RefreshKeys::new(
            versions
                .iter()
                .map(|v| (*v, Zeroizing::new([*v; 32])))
                .collect(),
        )
        .expect("keys")
    }

    fn session() -> SessionId {
        Uuid::from_u128(7).into()
    }

    #[test]
    fn a_token_is_believed_for_its_session_counter_and_salt_alone() {
        let keys = keys(&[1]);
        let text = keys.make(session(), 3, &[5; 16]);
        let token = Presented::parse(&text).expect("the form");
        assert_eq!((token.session, token.counter), (session(), 3));
        assert!(keys.made(&token, &[5; 16]));
        assert!(!keys.made(&token, &[6; 16]));
        assert!(!keys.made(
            &Presented {
                counter: 4,
                ..token
            },
            &[5; 16]
        ));
        assert!(!keys.made_of(Kind::Grant, &token, &[5; 16]));
    }

    #[test]
    fn the_newest_key_makes_and_all_listed_keys_verify() {
        let old = keys(&[1]).make(session(), 0, &[5; 16]);
        let both = keys(&[1, 2]);
        let new = both.make(session(), 0, &[5; 16]);
        assert_ne!(old, new);
        for text in [&old, &new] {
            assert!(both.made(&Presented::parse(text).expect("the form"), &[5; 16]));
        }
        assert!(!keys(&[2]).made(&Presented::parse(&old).expect("the form"), &[5; 16]));
    }

    #[test]
    fn what_has_not_the_form_is_no_token() {
        let good = keys(&[1]).make(session(), 0, &[5; 16]);
        for text in [
            "",
            "x",
            &good[1..],
            &format!("{good}AAAA"),
            &good.replace(&good[..1], "!"),
        ] {
            assert!(Presented::parse(text).is_none(), "{text}");
        }
    }
}
