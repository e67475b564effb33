//! Quotas, as the policy names them.

use serde::Deserialize;
use shared::gcra::Quota;

use super::{By, Limit, parse::Part};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawShield {
    quota: u32,
    period: u32,
}

impl Default for RawShield {
    fn default() -> Self {
        Self {
            quota: 3_000,
            period: a_minute(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimit {
    by: RawBy,
    header: Option<String>,
    quota: u32,
    #[serde(default = "a_minute")]
    period: u32,
    #[serde(default)]
    exact: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawBy {
    Address,
    App,
    Header,
    Session,
    User,
}

const fn a_minute() -> u32 {
    60
}

impl RawShield {
    /// The shield, with what is wrong with it added to `mistakes`.
    pub(super) fn parse(self, scale: u32, mistakes: &mut Vec<String>) -> Quota {
        let at = "shield";
        quota(self.quota, self.period, &mut Part { at, mistakes }).scaled(scale)
    }
}

impl RawLimit {
    /// The limit, with what is wrong with it added to `mistakes`.
    pub(super) fn parse(
        self,
        index: usize,
        name: String,
        scale: u32,
        mistakes: &mut Vec<String>,
    ) -> Limit {
        let at = &format!("limits.{name}");
        let mut part = Part { at, mistakes };
        // `RateLimit-Policy` quotes it. RFC 9651 §3.3.3.
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte);
        if !name.bytes().all(is_plain) {
            part.wrong(
                "name",
                format_args!("must be printable ASCII without quotes and backslashes"),
            );
        }
        Limit {
            index,
            quota: quota(self.quota, self.period, &mut part).scaled(scale),
            by: self.counts(&mut part),
            exact: self.exact,
            name,
        }
    }
}

impl RawLimit {
    /// What it counts apart.
    fn counts(&self, part: &mut Part<'_>) -> By {
        match (self.by, &self.header) {
            (RawBy::Header, Some(name)) if is_header(name) => By::Header(name.clone()),
            (RawBy::Header, _) => {
                let why = "`by = \"header\"` needs the header's name, in small letters";
                part.wrong("header", format_args!("{why}"));
                By::Address
            }
            (by, name) => {
                if name.is_some() {
                    part.wrong("header", format_args!("is for `by = \"header\"` alone"));
                }
                match by {
                    RawBy::Address | RawBy::Header => By::Address,
                    RawBy::App => By::App,
                    RawBy::Session => By::Session,
                    RawBy::User => By::User,
                }
            }
        }
    }
}

/// RFC 9110 §5.1, without what nobody names a header with.
fn is_header(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(plain)
}

fn quota(limit: u32, period_secs: u32, part: &mut Part<'_>) -> Quota {
    if limit == 0 {
        part.wrong("quota", format_args!("must be at least 1"));
    }
    if !(1..=86_400).contains(&period_secs) {
        part.wrong("period", format_args!("must be 1 to 86400 seconds"));
    }
    Quota { limit, period_secs }
}
