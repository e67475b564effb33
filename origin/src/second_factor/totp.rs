//! What an authenticator app knows (RFC 6238): a secret of 160 bits, of which SHA-1 makes six
//! digits every 30 seconds.

use base64ct::{Base64, Encoding};
use chrono::{DateTime, Utc};
use qrcode::{EcLevel, QrCode, render::svg};
use shared::{api::Enrolment, ids::UserId};
use totp_rs::{Builder, Secret};
use zeroize::Zeroizing;

use crate::{
    rim,
    seal::{self, SealingKeys},
};

use super::Error;

const SECRET_BYTES: usize = 20;

/// The secret of one user.
pub struct Totp(Zeroizing<[u8; SECRET_BYTES]>);

/// Opens the seal of a user's own secret.
pub fn open(sealing: &SealingKeys, user: UserId, sealed: &[u8]) -> Result<Totp, Error> {
    seal::open(sealing, &name(user), sealed)
        .and_then(|secret| secret.as_slice().try_into().ok())
        .map(|secret| Totp(Zeroizing::new(secret)))
        .ok_or(Error::Unreadable(user))
}

/// What the seal is authenticated with.
fn name(user: UserId) -> Vec<u8> {
    [b"totp ".as_slice(), user.uuid().as_bytes()].concat()
}

/// The same secret under the first key, where another has sealed it.
pub fn reseal(
    sealing: &SealingKeys,
    user: UserId,
    sealed: &[u8],
) -> Result<Option<Vec<u8>>, Error> {
    seal::reseal(sealing, &name(user), sealed).map_err(|_| Error::Unreadable(user))
}

impl Totp {
    /// A new one.
    pub fn new() -> Self {
        Self(rim::random())
    }

    /// As the database keeps it.
    pub fn seal(&self, sealing: &SealingKeys, user: UserId) -> Vec<u8> {
        seal::seal(sealing, &name(user), self.0.as_slice())
    }

    /// The step of 30 seconds that these digits are of: this one, the one before or the next.
    /// In constant time.
    pub fn step_of(&self, digits: &str, now: DateTime<Utc>) -> Option<i64> {
        let step = self
            .rule("", "")
            .check(digits, now.timestamp().try_into().ok()?)?;
        i64::try_from(step).ok()
    }

    /// What is shown to its owner, once. The issuer's name is a host's.
    pub fn enrolment(&self, issuer: &str, email: &str) -> Enrolment {
        let rule = self.rule(issuer, email);
        let uri = rule.to_url().expect("an address is no empty name");
        let picture = QrCode::with_error_correction_level(&uri, EcLevel::L)
            .expect("a host, an address and a secret fit")
            .render::<svg::Color<'_>>()
            .min_dimensions(240, 240)
            .build();
        Enrolment {
            qr_code: format!(
                "data:image/svg+xml;base64,{}",
                Base64::encode_string(picture.as_bytes())
            ),
            secret: rule.secret().to_base32(),
            otpauth_uri: uri,
        }
    }

    /// Six digits, 30 seconds, SHA-1 and a step to either side are its defaults.
    fn rule(&self, issuer: &str, email: &str) -> totp_rs::Totp {
        Builder::new()
            .with_secret(Secret::new_stack(*self.0))
            // The colon of an IPv6 address would end the name.
            .with_issuer(Some(issuer.replace(':', ".")))
            .with_account_name(email)
            .build()
            .expect("160 bits are enough, and no name has a colon")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, of whose eight digits we use the last six.
    const VECTORS: [(i64, &str); 5] = [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
    ];

    fn totp() -> Totp {
        Totp(Zeroizing::new(*b"12345678901234567890"))
    }

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(secs, 0).expect("a time")
    }

    #[test]
    fn digits_are_those_of_the_rfc() {
        for (secs, digits) in VECTORS {
            assert_eq!(totp().step_of(digits, at(secs)), Some(secs / 30), "{secs}");
        }
    }

    #[test]
    fn a_step_to_either_side_passes_and_no_second_one() {
        let (secs, digits) = VECTORS[3];
        let first = secs / 30 * 30;
        for (now, passes) in [
            (first - 31, false),
            (first - 30, true),
            (first + 59, true),
            (first + 60, false),
        ] {
            let step = totp().step_of(digits, at(now));
            assert_eq!(step, passes.then_some(secs / 30), "{now}");
        }
    }

    #[test]
    fn the_uri_names_issuer_and_account_and_leaves_defaults_out() {
        let shown = totp().enrolment("[::1]", "ada+l@example.org");
        assert_eq!(shown.secret, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(
            shown.otpauth_uri,
            format!(
                "otpauth://totp/%5B..1%5D:ada%2Bl%40example.org?secret={}&issuer=%5B..1%5D",
                shown.secret
            )
        );
        let picture = shown.qr_code.strip_prefix("data:image/svg+xml;base64,");
        let picture = Base64::decode_vec(picture.expect("a picture")).expect("base64");
        assert!(picture.starts_with(b"<?xml") && picture.ends_with(b"</svg>"));
    }

    #[test]
    fn the_longest_names_fit() {
        let (host, local) = ("h".repeat(253), "!".repeat(64));
        let domain = ["d".repeat(63), "d".repeat(63), "d".repeat(61)].join(".");
        totp().enrolment(&host, &format!("{local}@{domain}"));
    }

    #[test]
    fn a_secret_that_was_moved_to_another_user_does_not_open() {
        let key = SealingKeys::new([Zeroizing::new([7; 32])]).expect("a key");
        let [ada, eve] = [1, 2].map(|id| UserId::from(uuid::Uuid::from_u128(id)));
        let sealed = totp().seal(&key, ada);
        assert!(open(&key, ada, &sealed).is_ok());
        assert!(open(&key, eve, &sealed).is_err());
    }
}
