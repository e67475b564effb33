//! The session cookie: a random secret of its own, stored as a hash. It is never a refresh token.

use axum::http::{HeaderMap, header};
use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};

use crate::{config::PublicUrl, rim};

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

/// What is stored of the session cookie that a browser shows.
pub fn shown(url: &PublicUrl, headers: &HeaderMap) -> Option<[u8; 32]> {
    let cookies = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, secret) = pairs.find(|(name, _)| *name == self::name(url))?;
    Some(Sha256::digest(secret).into())
}

/// `__Host-` binds it to this host and to TLS (RFC 6265bis §4.1.3.2); plain HTTP is for localhost.
fn name(url: &PublicUrl) -> &'static str {
    if url.is_https() {
        "__Host-tollgate"
    } else {
        "tollgate"
    }
}

fn set(url: &PublicUrl, value: &str, max_age_secs: i64) -> String {
    let name = name(url);
    let secure = if url.is_https() { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={max_age_secs}; HttpOnly; SameSite=Lax{secure}")
}
