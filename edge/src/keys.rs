//! The edge's copy of the key set: from memory always, from the origin seldom.
//!
//! A copy is good for [`MAX_AGE_SECS`]; then it is refreshed behind an answer. It goes on serving
//! for [`MAX_STALE_SECS`] when the origin is down. An unknown `kid` asks the origin at most once
//! in [`UNKNOWN_KEY_SECS`] and isolate, and the turn is taken before the call, so that failures
//! count and nobody can turn made-up tokens into load.
//!
//! An isolate that has no copy takes one that another left in the platform's cache; it is as old
//! as when it was fetched, and everything above holds for it.
//!
//! A key that was revoked leaves the copy as soon as that is known, whoever lists it still. What is
//! left is due to be refreshed: the origin has another key in its place.

use std::rc::Rc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Error, value::RawValue};
use shared::jwks::{Jwk, JwkSet, KeySet};

/// After so long a copy is refreshed; what the origin's `max-age` says.
pub const MAX_AGE_SECS: i64 = 300;
/// For so long a copy serves that cannot be refreshed; what the origin's `stale-if-error` says.
pub const MAX_STALE_SECS: i64 = 86_400;
/// A made-up `kid` costs the origin one call in this time.
pub const UNKNOWN_KEY_SECS: i64 = 30;
/// After a call that failed, and while a refresh is under way, the origin is left alone this long.
const PAUSE_SECS: i64 = 1;

/// A key set as the origin published it, or what is left of it.
#[derive(Debug)]
pub struct Published {
    /// The keys that verify.
    pub set: KeySet,
    /// The document, to the letter.
    pub body: String,
    /// Its `ETag`; nothing where the origin has named no such document.
    pub etag: String,
    fetched_at: DateTime<Utc>,
}

/// The keys of a document, each to the letter.
#[derive(Deserialize, Serialize)]
struct Listed<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
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

    /// The same without keys that were revoked; nothing if that leaves none that we can use.
    #[must_use]
    pub fn without(self: Rc<Self>, is_revoked: impl Fn(&str) -> bool) -> Option<Rc<Self>> {
        let mut listed: Listed<'_> = serde_json::from_str(&self.body).ok()?;
        let all = listed.keys.len();
        listed.keys.retain(|key| {
            let jwk = serde_json::from_str::<Jwk>(key.get());
            !jwk.is_ok_and(|jwk| is_revoked(&jwk.kid))
        });
        if listed.keys.len() == all {
            return Some(self);
        }
        let body = serde_json::to_string(&listed).ok()?;
        let left = Self::parse(body, String::new(), self.fetched_at);
        left.ok().map(Rc::new)
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
    fresh_until: DateTime<Utc>,
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
            Some(copy) if now < self.fresh_until || now < self.next_refresh => {
                Keep::Fresh(copy.clone())
            }
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

    /// Drops keys that were revoked, and gives what is left of a copy that had one. The next unknown
    /// `kid` is likely one in their place, and may be asked for.
    pub fn drop_revoked(&mut self, is_revoked: impl Fn(&str) -> bool) -> Option<Rc<Published>> {
        self.next_unknown = DateTime::UNIX_EPOCH;
        let copy = self.copy.take()?;
        self.copy = copy.clone().without(is_revoked);
        let left = self.copy.as_ref();
        if left.is_some_and(|left| Rc::ptr_eq(left, &copy)) {
            return None;
        }
        self.fresh_until = DateTime::UNIX_EPOCH;
        self.copy.clone()
    }

    /// Keeps what the origin published, unless something later is there.
    pub fn keep(&mut self, published: Rc<Published>) {
        let is_later = |copy: &Rc<Published>| copy.fetched_at > published.fetched_at;
        if !self.copy.as_ref().is_some_and(is_later) {
            self.fresh_until = published.fetched_at + TimeDelta::seconds(MAX_AGE_SECS);
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
        assert!(keys.drop_revoked(|_| true).is_none());
        assert!(keys.may_ask_for_unknown(at(1)) && !keys.may_ask_for_unknown(at(2)));
    }

    #[test]
    fn a_revoked_key_leaves_the_copy_and_the_others_stay_to_the_letter() {
        let other = r#"{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"other","x5t":"é"}"#;
        let body = SET.replace("]}", &format!(", {other} ]}}"));
        let both = Published::parse(body, "\"1\"".to_owned(), at(0)).expect("a key set");
        let mut keys = Keys::default();
        keys.keep(Rc::new(both));
        assert!(keys.drop_revoked(|kid| kid == "unknown").is_none());
        assert_eq!(word(&keys.take(at(1))), "fresh", "it had no such key");

        let left = keys.drop_revoked(|kid| kid == "other");
        let left = left.expect("what is left");
        assert_eq!(left.body, SET, "to the letter");
        assert_eq!(left.etag, "", "the tag is another document's");
        assert_eq!(left.fetched_at(), at(0), "it is no younger");
        assert_eq!(word(&keys.take(at(1))), "refresh");
        assert_eq!(word(&keys.take(at(1))), "fresh", "the turn is taken");
        keys.keep(published(2));
        assert_eq!(word(&keys.take(at(2))), "fresh");
    }

    #[test]
    fn without_a_key_that_is_good_there_is_no_copy() {
        let mut keys = Keys::default();
        keys.keep(published(0));
        assert!(keys.drop_revoked(|_| true).is_none());
        assert_eq!(word(&keys.take(at(1))), "fetch");
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
