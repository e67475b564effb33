//! Tokens that end before their time, as the origin tells the edge: a feed that is followed by
//! its cursor. It is asked for at [`PATH`], under a proof for internal calls.

use serde::{Deserialize, Serialize};

use crate::{
    claims::{ACCESS_TOKEN_LIFETIME_SECS, LEEWAY_SECS},
    ids::{SessionId, UserId},
};

/// Where the origin serves the feed. `?after=` names the cursor to go on from; 0 is the beginning.
pub const PATH: &str = "/internal/revocations";

/// No answer has more revocations than this; [`Feed::more`] says that there are.
pub const PAGE: usize = 5_000;

/// For how long a token may still be believed that was minted just before its revocation, a
/// minute to spare included. Migrations write the same number.
pub const TAIL_SECS: i64 = ACCESS_TOKEN_LIFETIME_SECS as i64 + LEEWAY_SECS as i64 + 60;

/// Which tokens end before their time. Times are whole seconds since the epoch; `until` is when
/// no such token can be alive any more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Revocation {
    /// All of a session, which has ended for good.
    Session {
        /// Which.
        id: SessionId,
        /// See above.
        until: i64,
    },
    /// A user's whose `iat` is before `not_before`. Sessions that live on refresh theirs.
    User {
        /// Whose.
        id: UserId,
        /// What the origin mints from then on has no earlier `iat`.
        not_before: i64,
        /// See above.
        until: i64,
    },
    /// All that a key has signed or will sign, whatever they say of themselves.
    Key {
        /// Its `kid`.
        id: String,
        /// When no cached key set can have it any more.
        until: i64,
    },
}

impl Revocation {
    /// When it may be forgotten.
    #[must_use]
    pub const fn until(&self) -> i64 {
        match self {
            Self::Session { until, .. } | Self::User { until, .. } | Self::Key { until, .. } => {
                *until
            }
        }
    }
}

/// What came behind a cursor.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Feed {
    /// Where to go on from.
    pub cursor: i64,
    /// Whether there is more behind it already.
    pub more: bool,
    /// How long ago the origin looked at its database.
    pub age_millis: u32,
    /// Some of what came behind the cursor is no longer told one by one: in its place every
    /// token with an `iat` before this is refused. 0 where nothing was left out.
    pub floor: i64,
    /// In order.
    pub revocations: Vec<Revocation>,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// Edges and origins of different builds speak to each other while they are deployed.
    #[test]
    fn the_feed_is_written_as_it_always_was() {
        let id = Uuid::from_u128(1);
        let feed = Feed {
            cursor: 3,
            more: false,
            age_millis: 40,
            floor: 0,
            revocations: vec![
                Revocation::Session {
                    id: id.into(),
                    until: 10,
                },
                Revocation::User {
                    id: id.into(),
                    not_before: 5,
                    until: 10,
                },
                Revocation::Key {
                    id: "k".to_owned(),
                    until: 10,
                },
            ],
        };
        let text = r#"{"cursor":3,"more":false,"ageMillis":40,"floor":0,"revocations":[{"session":{"id":"00000000-0000-0000-0000-000000000001","until":10}},{"user":{"id":"00000000-0000-0000-0000-000000000001","notBefore":5,"until":10}},{"key":{"id":"k","until":10}}]}"#;
        assert_eq!(serde_json::to_string(&feed).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<Feed>(text).expect("a feed"), feed);
    }
}
