//! The seal on what the database keeps and must not know: XChaCha20-Poly1305 under the first key of
//! `KEY_ENCRYPTION_KEY`, a random nonce in front. Each of its keys opens, so that one can get a successor.
//! What the secret is and whose is authenticated with it, so that a seal that was moved to another row does not open.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use crate::{config::Key, rim};

const NONCE_BYTES: usize = 24;

/// The keys of `KEY_ENCRYPTION_KEY`.
#[derive(Clone)]
pub struct SealingKeys {
    /// Seals, and opens.
    first: Key,
    /// Open.
    others: Vec<Key>,
}

impl SealingKeys {
    /// The first of them seals; there is one at least.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Option<Self> {
        let mut keys = keys.into_iter();
        Some(Self {
            first: keys.next()?,
            others: keys.collect(),
        })
    }
}

/// A secret that none of the keys opens.
#[derive(Debug)]
pub struct Unopened;

/// Seals by the first key what another has sealed; nothing where the first has.
pub fn reseal(keys: &SealingKeys, name: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, Unopened> {
    if open_by(&keys.first, name, sealed).is_some() {
        return Ok(None);
    }
    let secret = open(keys, name, sealed).ok_or(Unopened)?;
    Ok(Some(seal(keys, name, &secret)))
}

/// Seals a secret of this name.
pub fn seal(keys: &SealingKeys, name: &[u8], secret: &[u8]) -> Vec<u8> {
    let nonce = rim::random::<NONCE_BYTES>();
    let payload = Payload {
        msg: secret,
        aad: name,
    };
    let sealed = XChaCha20Poly1305::new((&*keys.first).into())
        .encrypt(&XNonce::from(*nonce), payload)
        .expect("a secret has fewer than 256 GB");
    [nonce.as_slice(), &sealed].concat()
}

/// Opens a seal, if it was made with one of these keys for a secret of this name.
pub fn open(keys: &SealingKeys, name: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut keys = std::iter::once(&keys.first).chain(&keys.others);
    keys.find_map(|key| open_by(key, name, sealed))
}

fn open_by(key: &Key, name: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let payload = Payload {
        msg: sealed,
        aad: name,
    };
    XChaCha20Poly1305::new((&**key).into())
        .decrypt(&XNonce::from(*nonce), payload)
        .map(Zeroizing::new)
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> SealingKeys {
        let keys = bytes.iter().map(|&byte| Zeroizing::new([byte; 32]));
        SealingKeys::new(keys).expect("a key at least")
    }

    #[test]
    fn a_seal_opens_for_its_own_key_and_name_alone() {
        let key = keys(&[7]);
        let sealed = seal(&key, b"ada", b"a secret");
        assert!(!sealed.windows(8).any(|window| window == b"a secret"));
        let opened = open(&key, b"ada", &sealed).expect("opens");
        assert_eq!(opened.as_slice(), b"a secret");
        assert!(open(&keys(&[8]), b"ada", &sealed).is_none());
        assert!(open(&key, b"eve", &sealed).is_none());
        assert!(open(&key, b"ada", &sealed[..20]).is_none());
        assert_ne!(seal(&key, b"ada", b"a secret"), sealed);
    }

    #[test]
    fn a_key_opens_what_its_predecessor_has_sealed_and_seals_by_itself() {
        let (old, both, new) = (keys(&[7]), keys(&[8, 7]), keys(&[8]));
        let of_old = seal(&old, b"ada", b"a secret");
        assert!(open(&both, b"ada", &of_old).is_some());
        let of_both = reseal(&both, b"ada", &of_old)
            .expect("opens")
            .expect("is of the old one");
        assert!(open(&new, b"ada", &of_both).is_some() && open(&old, b"ada", &of_both).is_none());
        assert!(reseal(&both, b"ada", &of_both).expect("opens").is_none());
        assert!(reseal(&new, b"ada", &of_old).is_err());
        assert!(SealingKeys::new([]).is_none());
    }
}
