//! The session cookie: a random secret of its own, stored as a hash. It is never a refresh token.

use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};

use crate::{config::PublicUrl, cookies, rim};

use super::store::slide_days;

/// A `Set-Cookie` with a new secret, and the hash to store.
pub fn make(url: &PublicUrl, remember: bool) -> (String, [u8; 32]) {
    let secret = Base64UrlUnpadded::encode_string(rim::random::<32>().as_slice());
    let max_age_secs = i64::from(slide_days(remember)) * 24 * 60 * 60;
    (
        set(url, &secret, max_age_secs),
        Sha256::digest(&secret).into(),
    )
}

/// A `Set-Cookie` that takes it away.
pub fn clear(url: &PublicUrl) -> String {
    set(url, "", 0)
}

fn set(url: &PublicUrl, value: &str, max_age_secs: i64) -> String {
    cookies::set(url, "tollgate", value, max_age_secs)
}
