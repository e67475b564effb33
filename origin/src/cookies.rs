//! Cookies that this host alone sets and reads, and the MAC of those that say something: what such
//! a cookie tells of a browser, nobody but us can make up.

use axum::http::{HeaderMap, header};
use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::config::{Config, Key, PublicUrl};

const MAC_BYTES: usize = 32;

/// A key of its own for cookies, made from the one that never changes.
pub fn key(lasting: &Key) -> Key {
    Zeroizing::new(
        mac(lasting, b"tollgate cookies", &[])
            .finalize()
            .into_bytes()
            .into(),
    )
}

/// How far a cookie goes.
pub struct Reach<'a> {
    /// Whether browsers reach us by TLS; plain HTTP is for localhost.
    is_https: bool,
    /// The domain whose every host gets it; ours alone without one.
    domain: Option<&'a str>,
    same_site: SameSite,
}

/// Which requests of other sites' pages carry a cookie. RFC 6265bis §4.1.2.7.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum SameSite {
    /// Links that are followed.
    #[default]
    Lax,
    /// All of them.
    None,
}

impl<'a> Reach<'a> {
    /// To this host, and from pages of its site.
    pub fn host(url: &PublicUrl) -> Self {
        Self {
            is_https: url.is_https(),
            domain: None,
            same_site: SameSite::Lax,
        }
    }

    /// As far as the operator lets a session go.
    pub fn session(config: &'a Config) -> Self {
        Self {
            is_https: config.public_url.is_https(),
            domain: config.session_cookie.session_cookie_domain.as_deref(),
            same_site: config.session_cookie.session_cookie_same_site,
        }
    }

    /// A browser that knows it takes such a cookie by TLS alone, and with `__Host-` from no other host
    /// (RFC 6265bis §4.1.3).
    fn prefix(&self) -> &'static str {
        match (self.is_https, self.domain) {
            (true, None) => "__Host-",
            (true, Some(_)) => "__Secure-",
            (false, _) => "",
        }
    }
}

/// A `Set-Cookie`.
pub fn set(reach: &Reach<'_>, name: &str, value: &str, max_age_secs: i64) -> String {
    let prefix = reach.prefix();
    let same_site = match reach.same_site {
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    let mut cookie = format!(
        "{prefix}{name}={value}; Path=/; Max-Age={max_age_secs}; HttpOnly; SameSite={same_site}"
    );
    if reach.is_https {
        cookie.push_str("; Secure");
    }
    if let Some(domain) = reach.domain {
        cookie.push_str("; Domain=");
        cookie.push_str(domain);
    }
    cookie
}

/// The value of a cookie that [`set`] has set.
pub fn find<'a>(headers: &'a HeaderMap, reach: &Reach<'_>, name: &str) -> Option<&'a str> {
    let prefix = reach.prefix();
    let cookies = headers.get_all(header::COOKIE).into_iter();
    cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(found, value)| (found.strip_prefix(prefix)? == name).then_some(value))
}

/// `payload ‖ MAC`, base64url. `label` says what it is about, `subject` about whom; neither is in it.
pub fn sign(key: &Key, label: &[u8], subject: &[u8], payload: &[u8]) -> String {
    let mac = mac(key, label, &[payload, subject]).finalize().into_bytes();
    Base64UrlUnpadded::encode_string(&[payload, &mac].concat())
}

/// The payload of a value that [`sign`] has made for this label and subject. In constant time.
pub fn read<const N: usize>(
    key: &Key,
    label: &[u8],
    subject: &[u8],
    value: &str,
) -> Option<[u8; N]> {
    let bytes = Base64UrlUnpadded::decode_vec(value).ok()?;
    let (payload, shown) = bytes.split_first_chunk::<N>()?;
    let genuine = shown.len() == MAC_BYTES
        && mac(key, label, &[payload, subject])
            .verify_slice(shown)
            .is_ok();
    genuine.then_some(*payload)
}

/// A secret of its own for each label and subject.
pub fn derive(key: &Key, label: &[u8], subject: &[u8]) -> Zeroizing<[u8; MAC_BYTES]> {
    Zeroizing::new(mac(key, label, &[subject]).finalize().into_bytes().into())
}

/// No label is the beginning of another, and payloads of one label have one length: nothing can
/// be mistaken for its neighbour.
fn mac(key: &Key, label: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
    mac.update(label);
    mac.update(b"\0");
    for part in parts {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_value_is_believed_for_its_label_and_subject_alone() {
        let key = key(&Zeroizing::new([7; 32]));
        let value = sign(&key, b"label", b"ada", &[1, 2]);
        assert_eq!(read(&key, b"label", b"ada", &value), Some([1, 2]));
        assert_eq!(read::<2>(&key, b"label", b"eve", &value), None);
        assert_eq!(read::<2>(&key, b"another", b"ada", &value), None);
        assert_eq!(read::<3>(&key, b"label", b"ada", &value), None);
        assert_eq!(
            read::<2>(&Zeroizing::new([7; 32]), b"label", b"ada", &value),
            None
        );
        for mangled in [
            "",
            "x",
            &value[1..],
            &format!("{value}A"),
            &value.to_lowercase(),
        ] {
            assert_eq!(
                read::<2>(&key, b"label", b"ada", mangled),
                None,
                "{mangled}"
            );
        }
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let reach = |is_https, domain, same_site| Reach {
            is_https,
            domain,
            same_site,
        };
        let plain = reach(false, None, SameSite::Lax);
        let tls = reach(true, None, SameSite::Lax);
        let wide = reach(true, Some("a.example"), SameSite::None);
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; x-b=2;b=3"));
        headers.append(header::COOKIE, HeaderValue::from_static("__Host-b=4"));
        headers.append(header::COOKIE, HeaderValue::from_static("__Secure-b=5"));
        assert_eq!(find(&headers, &plain, "b"), Some("3"));
        assert_eq!(find(&headers, &tls, "b"), Some("4"));
        assert_eq!(find(&headers, &wide, "b"), Some("5"));
        assert_eq!(find(&headers, &tls, "a"), None);
        for (reach, cookie) in [
            (plain, "b=4; Path=/; Max-Age=9; HttpOnly; SameSite=Lax"),
            (
                tls,
                "__Host-b=4; Path=/; Max-Age=9; HttpOnly; SameSite=Lax; Secure",
            ),
            (
                wide,
                "__Secure-b=4; Path=/; Max-Age=9; HttpOnly; SameSite=None; Secure; Domain=a.example",
            ),
        ] {
            assert_eq!(set(&reach, "b", "4", 9), cookie);
        }
    }
}
