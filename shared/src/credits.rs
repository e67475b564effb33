//! Credits: a fixed-point amount in thousandths, never a float. JSON shows a number with at most
//! three decimals and is read from its literal text, so that `0.1 + 0.2` is `0.3` everywhere.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;

const THOUSANDTHS_PER_CREDIT: i64 = 1_000;
const MAX_WHOLE_CREDITS: i64 = 1_000_000_000;

/// A non-negative amount of credits, in thousandths; `10` and `0.02` in JSON.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = f64, minimum = 0, maximum = 1_000_000_000, multiple_of = 0.001))]
pub struct Credits(i64);

impl Credits {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most that one amount may be: 10⁹ credits.
    pub const MAX: Self = Self(MAX_WHOLE_CREDITS * THOUSANDTHS_PER_CREDIT);

    /// An amount from its thousandths, unless it is negative or above [`Credits::MAX`].
    #[must_use]
    pub const fn from_thousandths(thousandths: i64) -> Option<Self> {
        if thousandths < 0 || thousandths > Self::MAX.0 {
            return None;
        }
        Some(Self(thousandths))
    }

    /// The amount in thousandths, as the ledger keeps it.
    #[must_use]
    pub const fn thousandths(self) -> i64 {
        self.0
    }
}

/// Why a text is not an amount of credits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotCredits {
    /// A string, a word, an exponent: anything but digits with a decimal point.
    #[error("must be a number written in plain digits, such as 10 or 0.02")]
    NotANumber,
    /// Below zero.
    #[error("must not be negative")]
    Negative,
    /// Finer than a thousandth.
    #[error("must have at most three decimals")]
    TooFine,
    /// Above [`Credits::MAX`].
    #[error("must be at most 1000000000")]
    TooLarge,
}

impl FromStr for Credits {
    type Err = NotCredits;

    fn from_str(text: &str) -> Result<Self, NotCredits> {
        if let Some(rest) = text.strip_prefix('-') {
            return Err(rest
                .parse::<Self>()
                .err()
                .map_or(NotCredits::Negative, |why| match why {
                    NotCredits::NotANumber => NotCredits::NotANumber,
                    _ => NotCredits::Negative,
                }));
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(NotCredits::NotANumber);
        }
        if fraction.len() > 3 {
            return Err(NotCredits::TooFine);
        }
        let whole: i64 = whole.parse().map_err(|_| NotCredits::TooLarge)?;
        let fraction: i64 = format!("{fraction:0<3}")
            .parse()
            .map_err(|_| NotCredits::TooFine)?;
        whole
            .checked_mul(THOUSANDTHS_PER_CREDIT)
            .and_then(|thousandths| thousandths.checked_add(fraction))
            .and_then(Self::from_thousandths)
            .ok_or(NotCredits::TooLarge)
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (
            self.0 / THOUSANDTHS_PER_CREDIT,
            self.0 % THOUSANDTHS_PER_CREDIT,
        );
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:03}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl Serialize for Credits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string())
            .map_err(ser::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Credits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Box<RawValue>>::deserialize(deserializer)?
            .get()
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Credits, String> {
        serde_json::from_str(json).map_err(|why| why.to_string())
    }

    #[test]
    fn an_amount_is_read_from_its_literal_text() {
        for (json, thousandths) in [
            ("0", 0),
            ("10", 10_000),
            ("0.02", 20),
            ("0.3", 300),
            ("1.500", 1_500),
            ("1000000000", 1_000_000_000_000),
        ] {
            assert_eq!(
                read(json).map(Credits::thousandths),
                Ok(thousandths),
                "{json}"
            );
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_its_reason() {
        for (json, why) in [
            ("\"10\"", NotCredits::NotANumber),
            ("1e3", NotCredits::NotANumber),
            ("1e30", NotCredits::NotANumber),
            ("null", NotCredits::NotANumber),
            ("[1]", NotCredits::NotANumber),
            ("-1", NotCredits::Negative),
            ("-0.0001", NotCredits::Negative),
            ("0.0001", NotCredits::TooFine),
            ("1000000000.001", NotCredits::TooLarge),
            ("99999999999999999999999999", NotCredits::TooLarge),
        ] {
            let refused = read(json).expect_err(json);
            assert!(refused.starts_with(&why.to_string()), "{json}: {refused}");
        }
    }

    #[test]
    fn an_amount_is_written_with_no_more_decimals_than_it_needs() {
        for text in ["0", "10", "0.02", "0.001", "1.5", "1000000000"] {
            let credits: Credits = text.parse().expect(text);
            assert_eq!(credits.to_string(), text);
            assert_eq!(serde_json::to_string(&credits).expect("a number"), text);
        }
    }
}
