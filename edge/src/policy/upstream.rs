//! An app behind the edge, as the policy names it.

use serde::Deserialize;

use crate::authority::is_plain;

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
        if !["http", "https"].contains(&scheme) || !is_plain(scheme, host) {
            wrong(
                ".url",
                "must be `http://` or `https://`, a host as in `notes.example` or `10.0.0.2:3000` \
                 (small letters, no port that is the scheme's own), and a path perhaps",
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
