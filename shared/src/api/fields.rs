//! The values that bodies are made of. Each can be had through its parser alone, so that past
//! the door nothing is checked twice. No text of ours may hold a NUL, which Postgres cannot keep.

use std::{borrow::Cow, fmt};

use chrono::{DateTime, Datelike, Utc};
use serde_json::{Map, Value, value::RawValue};
use zeroize::Zeroizing;

use super::body::Field;
use crate::{
    credits::Credits,
    ids::{TransactionId, UserId},
};

const MAX_METADATA_BYTES: usize = 8 * 1024;

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($fits:expr, $must:literal, $($schema:tt)*);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema($($schema)*))]
        pub struct $name(String);

        impl $name {
            /// The text, if it is one.
            #[must_use]
            pub fn parse(text: String) -> Option<Self> {
                let fits: fn(&str) -> bool = $fits;
                (fits(&text) && !text.contains('\0')).then_some(Self(text))
            }

            /// As it was sent.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Field for $name {
            fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
                text(json).and_then(Self::parse).ok_or(Cow::Borrowed($must))
            }
        }
    )*};
}

texts! {
    /// An e-mail address as its owner writes it. Valid as in the HTML standard, in a domain with a dot.
    Email(
        is_email,
        "must be an e-mail address of at most 254 characters",
        max_length = 254, format = "email", pattern = "^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$"
    );
    /// What to call a person.
    Name(
        |text| (1..=200).contains(&text.chars().count()),
        "must be a text of 1 to 200 characters",
        min_length = 1, max_length = 200, pattern = "^[^\\x00]*$"
    );
    /// A device, by its own name for itself or by its owner's.
    Device(
        |text| (1..=200).contains(&text.chars().count()),
        "must be a text of 1 to 200 characters",
        min_length = 1, max_length = 200, pattern = "^[^\\x00]*$"
    );
    /// An app's id.
    AppId(
        |text| (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
        "must be 1 to 64 letters, digits, dots, hyphens and underscores",
        min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$"
    );
    /// What a charge was for.
    Description(
        |text| (1..=500).contains(&text.chars().count()),
        "must be a text of 1 to 500 characters",
        min_length = 1, max_length = 500, pattern = "^[^\\x00]*$"
    );
    /// An absolute http or https URL of a page.
    Link(
        is_link,
        "must be an absolute http or https URL of at most 2000 characters",
        max_length = 2000, pattern = "^https?://[!$%&'()*+,\\-.0-9:;=A-Z\\[\\]_a-z~]+([/?#][!#$%&'()*+,\\-./0-9:;=?@A-Z\\[\\]_a-z~]*)?$"
    );
    /// An https URL of a picture.
    Picture(
        |text| text.starts_with("https://") && is_link(text),
        "must be an absolute https URL of at most 2000 characters",
        max_length = 2000, pattern = "^https://[!$%&'()*+,\\-.0-9:;=A-Z\\[\\]_a-z~]+([/?#][!#$%&'()*+,\\-./0-9:;=?@A-Z\\[\\]_a-z~]*)?$"
    );
    /// A client's name for one request, under which it may ask again.
    IdempotencyKey(
        |text| (1..=255).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b)),
        "must be 1 to 255 printable ASCII characters",
        min_length = 1, max_length = 255, pattern = "^[ -~]+$"
    );
}

impl Email {
    /// What look-ups and uniqueness go by.
    #[must_use]
    pub fn normalised(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// The HTML standard's "valid e-mail address", which is what browsers let through, with a dot in
/// the domain and the lengths of RFC 5321 §4.5.3.1. No control character, space or comma passes.
fn is_email(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 254
        && text.split_once('@').is_some_and(|(local, domain)| {
            (1..=64).contains(&local.len())
                && local
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&b))
                && domain.contains('.')
                && domain.split('.').all(is_label)
        })
}

/// An origin and what follows it, without whatever could make a browser read it otherwise.
fn is_link(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    text.len() <= 2_000
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&b))
        && rest.is_some_and(|rest| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            !authority.is_empty() && !authority.contains('@')
        })
}

impl Link {
    /// Scheme, host and port, as browsers write `Origin`.
    #[must_use]
    pub fn origin(&self) -> &str {
        let text = self.as_str();
        let host = text.find("://").map_or(0, |at| at + 3);
        let end = text[host..].find(['/', '?', '#']);
        &text[..end.map_or(text.len(), |end| host + end)]
    }
}

/// A password: 8 to 128 characters. Wiped when dropped, never printed.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = "password", min_length = 8, max_length = 128, pattern = "^[^\\x00]*$"))]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Its bytes, to hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Field for Password {
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
        text(json)
            .map(Zeroizing::new)
            .filter(|text| (8..=128).contains(&text.chars().count()) && !text.contains('\0'))
            .map(Self)
            .ok_or(Cow::Borrowed("must be a text of 8 to 128 characters"))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What claims to be a token; whether it is one, its verifier says. Never printed.
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(pattern = "^[^\\x00]*$")
)]
pub struct Token(String);

impl Token {
    /// As it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Field for Token {
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
        text(json)
            .filter(|text| !text.contains('\0'))
            .map(Self)
            .ok_or(Cow::Borrowed("must be a text"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// An amount of credits that is more than nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = f64, minimum = 0.001, maximum = 1_000_000_000, multiple_of = 0.001))]
pub struct Price(Credits);

impl Price {
    /// How much.
    #[must_use]
    pub const fn credits(self) -> Credits {
        self.0
    }
}

impl Field for Price {
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
        let credits = json
            .get()
            .parse::<Credits>()
            .map_err(|why| Cow::Owned(why.to_string()))?;
        if credits == Credits::ZERO {
            return Err(Cow::Borrowed("must be more than 0"));
        }
        Ok(Self(credits))
    }
}

/// How long a hold lives unless it is settled: 1 second to an hour, five minutes by default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(minimum = 1, maximum = 3_600)
)]
pub struct Lifetime(u16);

impl Lifetime {
    /// In seconds.
    #[must_use]
    pub const fn secs(self) -> u16 {
        self.0
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self(300)
    }
}

impl Field for Lifetime {
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
        let secs = json.get().parse().ok();
        secs.filter(|secs| (1..=3_600).contains(secs))
            .map(Self)
            .ok_or(Cow::Borrowed(
                "must be a whole number of seconds, 1 to 3600",
            ))
    }
}

/// Which of a wallet's two parts credits belong to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(rename_all = "lowercase")
)]
pub enum GrantKind {
    /// Spent first, and never paid for.
    Free,
    /// Paid for.
    Paid,
}

impl GrantKind {
    /// As JSON and the ledger write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Paid => "paid",
        }
    }
}

impl Field for GrantKind {
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
        match text(json).as_deref() {
            Some("free") => Ok(Self::Free),
            Some("paid") => Ok(Self::Paid),
            _ => Err(Cow::Borrowed("must be \"free\" or \"paid\"")),
        }
    }
}

/// A moment. RFC 3339.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    schema(pattern = "^(19[7-9][0-9]|[2-9][0-9]{3})-")
)]
pub struct Moment(DateTime<Utc>);

impl Moment {
    /// When.
    #[must_use]
    pub const fn time(self) -> DateTime<Utc> {
        self.0
    }
}

impl Field for Moment {
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
        text(json)
            .and_then(|text| DateTime::parse_from_rfc3339(&text).ok())
            .map(|time| time.to_utc())
            // What Postgres and RFC 3339 can both write.
            .filter(|time| (1970..=9999).contains(&time.year()))
            .map(Self)
            .ok_or(Cow::Borrowed("must be a time such as 2030-01-31T12:00:00Z"))
    }
}

macro_rules! ids {
    ($($name:ident)*) => {$(
        impl Field for $name {
            fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
                let id = text(json).and_then(|text| text.parse().ok());
                id.ok_or(Cow::Borrowed("must be an id, as answers of ours give it"))
            }
        }
    )*};
}

ids! { UserId TransactionId }

/// An object of an app's own, of at most 8 KiB.
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = HashMap<String, Value>))]
pub struct Metadata(Value);

impl Metadata {
    /// The object.
    #[must_use]
    pub const fn as_value(&self) -> &Value {
        &self.0
    }
}

impl Field for Metadata {
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
        if json.get().len() > MAX_METADATA_BYTES {
            return Err(Cow::Borrowed("must be at most 8 KiB long"));
        }
        serde_json::from_str::<Map<String, Value>>(json.get())
            .ok()
            .map(Value::Object)
            .filter(|object| !is_unkeepable(object))
            .map(Self)
            .ok_or(Cow::Borrowed(
                "must be an object without NUL characters and without numbers past 1e21",
            ))
    }
}

/// What Postgres cannot keep, or writes out in hundreds of digits: a few bytes of `1e308` would
/// come back as 309 each.
fn is_unkeepable(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(is_unkeepable),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || is_unkeepable(value)),
        Value::Number(number) => number
            .as_f64()
            .is_none_or(|number| number != 0.0 && !(1e-9..=1e21).contains(&number.abs())),
        Value::Null | Value::Bool(_) => false,
    }
}

impl Field for bool {
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
        json.get()
            .parse()
            .map_err(|_| Cow::Borrowed("must be true or false"))
    }
}

/// The text, if it is one.
pub(super) fn text(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Field>(json: &str) -> Result<T, Cow<'static, str>> {
        T::read(&RawValue::from_string(json.to_owned()).expect("JSON"))
    }

    #[test]
    fn an_address_is_what_browsers_let_through() {
        for good in [
            "ada@example.org",
            "Ada.L+x@a-b.example.org",
            "o'hara@example.ie",
        ] {
            let email = Email::parse(good.to_owned()).expect(good);
            assert_eq!(email.normalised(), good.to_lowercase());
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for bad in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "ada@localhost",
            "ada@example..org",
            "ada@-a.org",
            "a b@example.org",
            "ada@example.org\nBcc: eve@example.org",
            "ada@b@example.org",
            "a,b@example.org",
            long.as_str(),
        ] {
            assert_eq!(Email::parse(bad.to_owned()), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_counted_in_characters_and_never_printed() {
        for (length, good) in [(7, false), (8, true), (128, true), (129, false)] {
            let json = format!("\"{}\"", "é".repeat(length));
            assert_eq!(read::<Password>(&json).is_ok(), good, "{length}");
        }
        let password = read::<Password>("\"correct horse\"").expect("a password");
        assert_eq!(format!("{password:?}"), "Password(…)");
        assert!(read::<Password>(r#""correct\u0000horse""#).is_err());
    }

    #[test]
    fn a_picture_is_behind_tls() {
        assert!(Picture::parse("https://example.org/ada.png?s=64".to_owned()).is_some());
        let long = format!("https://example.org/{}", "a".repeat(1_981));
        for bad in [
            "http://example.org/ada.png",
            "javascript:alert(1)",
            "data:image/png;base64,AA",
            "https://",
            "https://ada:pass@example.org/",
            "https://example.org/\"onerror=x",
            long.as_str(),
        ] {
            assert_eq!(Picture::parse(bad.to_owned()), None, "{bad}");
        }
    }

    #[test]
    fn metadata_is_a_small_object_without_nul() {
        assert!(read::<Metadata>(r#"{"a":[1,{"b":null}]}"#).is_ok());
        for bad in [
            "[]",
            "1",
            r#"{"a":["\u0000"]}"#,
            r#"{"\u0000":1}"#,
            r#"{"a":[1e308]}"#,
            r#"{"a":1e-300}"#,
        ] {
            assert!(read::<Metadata>(bad).is_err(), "{bad}");
        }
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(8 * 1024));
        assert!(read::<Metadata>(&large).is_err());
    }
}
