//! The edge's copy of the key set: from memory always, from the origin seldom.
//!
//! A copy is good for [`MAX_AGE_SECS`]; then it is refreshed behind an answer. It goes on serving
//! for [`MAX_STALE_SECS`] when the origin is down. An unknown `kid` asks the origin at most once
//! in [`UNKNOWN_KEY_SECS`] and isolate, and the turn is taken before the call, so that failures
//! count and nobody can turn made-up tokens into load.
//!
//! An isolate that has no copy takes one that another left in the platform's cache; it is as old
//! as when it was fetched, and everything above holds for it.

use std::rc::Rc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Error;
use shared::jwks::{JwkSet, KeySet};

/// After so long a copy is refreshed; what the origin's `max-age` says.
pub const MAX_AGE_SECS: i64 = 300;
/// For so long a copy serves that cannot be refreshed; what the origin's `stale-if-error` says.
pub const MAX_STALE_SECS: i64 = 86_400;
/// A made-up `kid` costs the origin one call in this time.
pub const UNKNOWN_KEY_SECS: i64 = 30;
/// After a call that failed, and while a refresh is under way, the origin is left alone this long.
const PAUSE_SECS: i64 = 1;

/// A key set as the origin published it.
#[derive(Debug)]
pub struct Published {
    /// The keys that verify.
    pub set: KeySet,
    /// The document, to the letter.
    pub body: String,
    /// Its `ETag`.
    pub etag: String,
    fetched_at: DateTime<Utc>,
}

impl Published {
    /// Reads a document. One without a key that we can use is refused: it would shut out all.
    pub fn parse(body: String, etag: String, now: DateTime<Utc>) -> Result<Self, Error> {
        let set = KeySet::from(&serde_json::from_str::<JwkSet>(&body)?);
        if set.is_empty() {
            return Err(serde::de::Error::custom("no usable key in the set"));
        }
        Ok(Self {
            set,
            body,
            etag,
            fetched_at: now,
        })
    }

    /// When the origin gave it.
    #[must_use]
    pub const fn fetched_at(&self) -> DateTime<Utc> {
        self.fetched_at
    }
}

/// The copy, and when the origin may be asked next.
#[derive(Debug, Default)]
pub struct Keys {
    copy: Option<Rc<Published>>,
    next_refresh: DateTime<Utc>,
    next_fetch: DateTime<Utc>,
    next_unknown: DateTime<Utc>,
}

/// What to do for keys.
#[derive(Debug)]
pub enum Keep {
    /// Use the copy.
    Fresh(Rc<Published>),
    /// Use the copy, and refresh it behind the answer.
    Refresh(Rc<Published>),
    /// Fetch first: there is no copy that may serve.
    Fetch,
    /// There is no copy, and the origin was asked a moment ago.
    Unavailable,
}

impl Keys {
    /// Takes stock as of `now`. Whoever is told to refresh has taken the turn; without a copy
    /// every request fetches for itself, since a Worker must not wait for another request's call.
    pub fn take(&mut self, now: DateTime<Utc>) -> Keep {
        let serves =
            |copy: &&Rc<Published>| now - copy.fetched_at < TimeDelta::seconds(MAX_STALE_SECS);
        match self.copy.as_ref().filter(serves) {
            Some(copy) if now - copy.fetched_at < TimeDelta::seconds(MAX_AGE_SECS) => {
                Keep::Fresh(copy.clone())
            }
            Some(copy) if now < self.next_refresh => Keep::Fresh(copy.clone()),
            Some(copy) => {
                self.next_refresh = now + TimeDelta::seconds(PAUSE_SECS);
                Keep::Refresh(copy.clone())
            }
            None if now < self.next_fetch => Keep::Unavailable,
            None => Keep::Fetch,
        }
    }

    /// Whether an unknown `kid` may ask the origin as of `now`; a yes is the turn taken.
    pub fn may_ask_for_unknown(&mut self, now: DateTime<Utc>) -> bool {
        let turn = now >= self.next_unknown;
        if turn {
            self.next_unknown = now + TimeDelta::seconds(UNKNOWN_KEY_SECS);
        }
        turn
    }

    /// Notes that a key was revoked: the next unknown `kid` is likely the one in its place.
    pub fn may_be_other(&mut self) {
        self.next_unknown = DateTime::UNIX_EPOCH;
    }

    /// Keeps what the origin published, unless something later is there.
    pub fn keep(&mut self, published: Rc<Published>) {
        let is_later = |copy: &Rc<Published>| copy.fetched_at > published.fetched_at;
        if !self.copy.as_ref().is_some_and(is_later) {
            self.copy = Some(published);
        }
    }

    /// Notes that the origin did not publish any, so that it is not asked again at once.
    pub fn failed(&mut self, now: DateTime<Utc>) {
        self.next_fetch = now + TimeDelta::seconds(PAUSE_SECS);
    }

    /// How old the copy is, in seconds.
    #[must_use]
    pub fn age_secs(&self, now: DateTime<Utc>) -> Option<i64> {
        self.copy
            .as_ref()
            .map(|copy| (now - copy.fetched_at).num_seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}]}"#;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + secs, 0).expect("a time")
    }

    fn published(secs: i64) -> Rc<Published> {
        Rc::new(Published::parse(SET.to_owned(), String::new(), at(secs)).expect("a key set"))
    }

    fn word(keep: &Keep) -> &'static str {
        match keep {
            Keep::Fresh(_) => "fresh",
            Keep::Refresh(_) => "refresh",
            Keep::Fetch => "fetch",
            Keep::Unavailable => "unavailable",
        }
    }

    #[test]
    fn a_copy_is_fetched_kept_refreshed_and_given_up() {
        let mut keys = Keys::default();
        assert_eq!(word(&keys.take(at(0))), "fetch");
        assert_eq!(
            word(&keys.take(at(0))),
            "fetch",
            "each of the first requests fetches for itself"
        );
        keys.failed(at(0));
        assert_eq!(
            word(&keys.take(at(0))),
            "unavailable",
            "a failing origin is not asked again at once"
        );
        assert_eq!(word(&keys.take(at(1))), "fetch");
        keys.keep(published(1));
        for (secs, expected) in [
            (1, "fresh"),
            (MAX_AGE_SECS, "fresh"),
            (MAX_AGE_SECS + 1, "refresh"),
            (MAX_AGE_SECS + 1, "fresh"),
            (MAX_AGE_SECS + 2, "refresh"),
            (MAX_STALE_SECS, "refresh"),
            (MAX_STALE_SECS + 1, "fetch"),
        ] {
            assert_eq!(word(&keys.take(at(secs))), expected, "after {secs} s");
        }
    }

    #[test]
    fn what_was_fetched_earlier_takes_no_later_copys_place() {
        let mut keys = Keys::default();
        keys.keep(published(10));
        keys.keep(published(5));
        assert_eq!(keys.age_secs(at(10)), Some(0));
    }

    #[test]
    fn made_up_keys_ask_the_origin_once_in_thirty_seconds() {
        let mut keys = Keys::default();
        let asked: Vec<i64> = (0..61)
            .filter(|&secs| keys.may_ask_for_unknown(at(secs)))
            .collect();
        assert_eq!(asked, [0, 30, 60]);
    }

    #[test]
    fn after_a_revoked_key_an_unknown_one_is_asked_for_at_once() {
        let mut keys = Keys::default();
        assert!(keys.may_ask_for_unknown(at(0)) && !keys.may_ask_for_unknown(at(1)));
        keys.may_be_other();
        assert!(keys.may_ask_for_unknown(at(1)) && !keys.may_ask_for_unknown(at(2)));
    }

    #[test]
    fn a_document_without_a_usable_key_is_refused() {
        for body in ["", "[]", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA"}]}"#] {
            assert!(
                Published::parse(body.to_owned(), String::new(), at(0)).is_err(),
                "{body}"
            );
        }
    }
}
