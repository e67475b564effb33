//! The seal on what the database keeps and must not know: XChaCha20-Poly1305 under
//! `KEY_ENCRYPTION_KEY`, a random nonce in front. What the secret is and whose is authenticated
//! with it, so that a seal that was moved to another row does not open.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use crate::{config::Key, rim};

const NONCE_BYTES: usize = 24;

/// Seals a secret of this name.
pub fn seal(key: &Key, name: &[u8], secret: &[u8]) -> Vec<u8> {
    let nonce = rim::random::<NONCE_BYTES>();
    let payload = Payload {
        msg: secret,
        aad: name,
    };
    let sealed = XChaCha20Poly1305::new((&**key).into())
        .encrypt(&XNonce::from(*nonce), payload)
        .expect("a secret has fewer than 256 GB");
    [nonce.as_slice(), &sealed].concat()
}

/// Opens a seal, if it was made with this key for a secret of this name.
pub fn open(key: &Key, name: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
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

    #[test]
    fn a_seal_opens_for_its_own_key_and_name_alone() {
        let key = Zeroizing::new([7; 32]);
        let sealed = seal(&key, b"ada", b"a secret");
        assert!(!sealed.windows(8).any(|window| window == b"a secret"));
        let opened = open(&key, b"ada", &sealed).expect("opens");
        assert_eq!(opened.as_slice(), b"a secret");
        assert!(open(&Zeroizing::new([8; 32]), b"ada", &sealed).is_none());
        assert!(open(&key, b"eve", &sealed).is_none());
        assert!(open(&key, b"ada", &sealed[..20]).is_none());
        assert_ne!(seal(&key, b"ada", b"a secret"), sealed);
    }
}
