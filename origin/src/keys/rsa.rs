//! RSA keys of 2048 bits, which sign by RS256 (RFC 7518 §3.3) for relying parties that know nothing else.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey},
};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A public key as a key set publishes it. RFC 7518 §6.3.1.
#[derive(Clone, Serialize)]
pub struct Jwk {
    kty: &'static str,
    n: String,
    e: String,
    /// Its id: the RFC 7638 thumbprint.
    pub kid: String,
    alg: &'static str,
    r#use: &'static str,
}

/// A private key that signs.
pub struct RsaKey {
    pair: KeyPair,
    jwk: Jwk,
}

impl RsaKey {
    /// A new one: its id, and its PKCS #8.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, without which nothing here is safe.
    #[must_use]
    pub fn make() -> (String, Zeroizing<Vec<u8>>) {
        let pair =
            KeyPair::generate(KeySize::Rsa2048).expect("the operating system gives randomness");
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("a key has a form");
        let pkcs8 = Zeroizing::new(der.as_ref().to_vec());
        (Self::of(pair).jwk.kid, pkcs8)
    }

    /// The key of a PKCS #8.
    #[must_use]
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        KeyPair::from_pkcs8(pkcs8).ok().map(Self::of)
    }

    fn of(pair: KeyPair) -> Self {
        let number = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
        let public = pair.public_key();
        let n = number(public.modulus().big_endian_without_leading_zero());
        let e = number(public.exponent().big_endian_without_leading_zero());
        let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
        let kid = Base64UrlUnpadded::encode_string(&Sha256::digest(canonical.as_bytes()));
        let (kty, alg, r#use) = ("RSA", "RS256", "sig");
        let jwk = Jwk {
            kty,
            n,
            e,
            kid,
            alg,
            r#use,
        };
        Self { pair, jwk }
    }

    /// Its public half, as it is published.
    #[must_use]
    pub const fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// Makes a token of this `typ` with these claims, which are JSON.
    ///
    /// # Panics
    /// Never: a key of 2048 bits has room for a hash.
    #[must_use]
    pub fn sign_text(&self, typ: &str, payload: &str) -> String {
        let header = format!(
            r#"{{"alg":"RS256","typ":"{typ}","kid":"{}"}}"#,
            self.jwk.kid
        );
        let encode = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
        let message = format!("{}.{}", encode(&header), encode(payload));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message.as_bytes(),
                &mut signature,
            )
            .expect("the key has room for a hash");
        format!("{message}.{}", Base64UrlUnpadded::encode_string(&signature))
    }

    /// What a token says, if this key has signed it.
    #[must_use]
    pub fn open(&self, token: &str) -> Option<Vec<u8>> {
        let (message, signature) = token.rsplit_once('.')?;
        let signature = Base64UrlUnpadded::decode_vec(signature).ok()?;
        let public = self.pair.public_key();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.as_ref())
            .verify(message.as_bytes(), &signature)
            .ok()?;
        let (_, payload) = message.split_once('.')?;
        Base64UrlUnpadded::decode_vec(payload).ok()
    }
}
