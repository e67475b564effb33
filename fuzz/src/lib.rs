//! What must hold whatever is sent: each module is a target of `cargo fuzz`, with a folder of seeds. A
//! seed is run by `cargo test` too, and what was found once is one.

#![forbid(unsafe_code)]

pub mod head;
mod lenient;
pub mod policy;
pub mod token;

use base64ct::{Base64UrlUnpadded, Encoding};
use chrono::{DateTime, Utc};
use shared::jwks::SigningKey;
use zeroize::Zeroizing;

/// Who mints the tokens, and the edge's own address.
const ISSUER: &str = "https://gate.example";
/// The audience of the tokens.
const AUDIENCE: &str = "tollgate";

/// The time, which stands still.
fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
}

/// The one key of the key set.
fn signing_key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([1; 32]))
}

/// A token of this header and these claims, whatever they say. RFC 7515 §7.1.
fn signed(header: &[u8], claims: &[u8], key: &SigningKey) -> String {
    let part = Base64UrlUnpadded::encode_string;
    let message = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(message.as_bytes());
    format!("{message}.{}", part(&signature))
}
