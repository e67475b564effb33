//! An app behind the edge, as the policy names it.

use std::net::Ipv6Addr;

use serde::Deserialize;

/// Where an app is, and what of a request goes on to it.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in the policy.
    pub name: String,
    /// Scheme and authority: `https://notes.example`.
    pub at: String,
    /// What its paths begin with.
    base: String,
    /// What paths here begin with, and there do not.
    strip: String,
    /// Whether the client's `Authorization` goes on.
    pub keeps_authorization: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    url: String,
    #[serde(default)]
    strip: String,
    #[serde(default)]
    keep_authorization: bool,
}

impl Upstream {
    /// Its authority, as its `Host` header names it.
    #[must_use]
    pub fn host(&self) -> &str {
        let (_, host) = self.at.split_once("://").unwrap_or_default();
        host
    }

    /// Whether a path is one that it takes: it begins with what is stripped.
    pub(super) fn takes(&self, path: &str) -> bool {
        path.strip_prefix(&self.strip)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// What a path here is there.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        let rest = path.strip_prefix(&self.strip).unwrap_or(path);
        let slash = if rest.is_empty() && self.base.is_empty() {
            "/"
        } else {
            ""
        };
        format!("{}{rest}{slash}", self.base)
    }
}

impl RawUpstream {
    /// The upstream, with what is wrong with it added to `mistakes`.
    pub(super) fn parse(self, name: String, mistakes: &mut Vec<String>) -> Upstream {
        let mut wrong = |field: &str, why: &str| {
            mistakes.push(format!("upstreams.{name}{field}: {why}"));
        };
        if name == "origin" {
            wrong("", "is the origin's name");
        }
        if !is_name(&name) {
            wrong("", "a name is small letters, digits and hyphens");
        }
        let (scheme, rest) = self.url.split_once("://").unwrap_or_default();
        let (host, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !["http", "https"].contains(&scheme) || !is_host(host) {
            wrong(
                ".url",
                "must be `http://` or `https://`, a host, and a path perhaps",
            );
        }
        for (field, path) in [(".url", base), (".strip", self.strip.as_str())] {
            if !path.is_empty() && !is_prefix(path) {
                wrong(
                    field,
                    "its path must begin with a slash, not end with one, and be plain",
                );
            }
        }
        Upstream {
            at: format!("{scheme}://{host}"),
            base: base.to_owned(),
            strip: self.strip,
            keeps_authorization: self.keep_authorization,
            name,
        }
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(plain)
}

/// Whether a text is a host, perhaps with a port: no user, no parameter of a route. RFC 3986 §3.2.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let bare = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']'));
    let is_known = match bare {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    is_known && port.is_none_or(is_port)
}

fn is_prefix(path: &str) -> bool {
    let plain = |byte: u8| {
        byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'%' | b'{' | b'}' | b'\\')
    };
    path.starts_with('/')
        && path.bytes().all(plain)
        && path[1..]
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."))
}
