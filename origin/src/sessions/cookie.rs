//! The session cookie: a random secret of its own, stored as a hash. It is never a refresh token.

use axum::http::HeaderMap;
use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};

use crate::{
    config::Config,
    cookies::{self, Reach},
    rim,
};

use super::store::slide_days;

const NAME: &str = "tollgate";

/// A `Set-Cookie` with a new secret, and the hash to store.
pub fn make(config: &Config, remember: bool) -> (String, [u8; 32]) {
    let secret = Base64UrlUnpadded::encode_string(rim::random::<32>().as_slice());
    let max_age_secs = i64::from(slide_days(remember)) * 24 * 60 * 60;
    (
        cookies::set(&Reach::session(config), NAME, &secret, max_age_secs),
        Sha256::digest(&secret).into(),
    )
}

/// A `Set-Cookie` that takes it away.
pub fn clear(config: &Config) -> String {
    cookies::set(&Reach::session(config), NAME, "", 0)
}

/// What is stored of the one that a browser shows.
pub fn shown(config: &Config, headers: &HeaderMap) -> Option<[u8; 32]> {
    cookies::find(headers, &Reach::session(config), NAME)
        .map(|secret| Sha256::digest(secret).into())
}
