//! Whose pages may ask what is open to every registered app: a copy of the origin's list. Pure; whoever
//! asks has the clock, and fetches.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use crate::revocations::Keep;

/// An app that was registered or disabled is known after so long.
const FRESH: TimeDelta = TimeDelta::seconds(60);
/// So long the last copy serves while the origin gives none.
const LIMIT: TimeDelta = TimeDelta::hours(1);
/// How long the origin is let alone when it gave none.
const PAUSE: TimeDelta = TimeDelta::seconds(5);

/// The copy, and when the origin may be asked next.
#[derive(Debug, Default)]
pub struct Pages {
    copy: Option<Known>,
    next_fetch: DateTime<Utc>,
}

#[derive(Debug)]
struct Known {
    origins: BTreeSet<String>,
    fetched_at: DateTime<Utc>,
}

impl Pages {
    /// Takes stock as of `now`. Whoever is told to fetch has taken the turn.
    pub fn take(&mut self, now: DateTime<Utc>) -> Keep {
        let age = self.copy.as_ref().map(|copy| now - copy.fetched_at);
        if age.is_some_and(|age| age >= LIMIT) {
            self.copy = None;
        }
        if age.is_some_and(|age| age < FRESH) || now < self.next_fetch {
            return Keep::Fresh;
        }
        self.next_fetch = now + PAUSE;
        if self.copy.is_some() {
            Keep::Refresh
        } else {
            Keep::Fetch
        }
    }

    /// Keeps what the origin told when it was asked at `now`.
    pub fn keep(&mut self, origins: Vec<String>, now: DateTime<Utc>) {
        self.copy = Some(Known {
            origins: origins.into_iter().collect(),
            fetched_at: now,
        });
    }

    /// Whether pages of this origin are an app's. Where nothing is known, they are not.
    #[must_use]
    pub fn has(&self, origin: &str) -> bool {
        let copy = self.copy.as_ref();
        copy.is_some_and(|copy| copy.origins.contains(origin))
    }

    /// How old the copy is.
    #[must_use]
    pub fn age_secs(&self, now: DateTime<Utc>) -> Option<i64> {
        let copy = self.copy.as_ref()?;
        Some((now - copy.fetched_at).num_seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "https://app.example";

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(1) + TimeDelta::seconds(secs)
    }

    #[test]
    fn a_copy_is_fetched_once_refreshed_after_a_minute_and_given_up_after_an_hour() {
        let mut pages = Pages::default();
        assert_eq!(pages.take(at(0)), Keep::Fetch);
        assert_eq!(pages.take(at(4)), Keep::Fresh, "nobody asks meanwhile");
        assert!(!pages.has(APP));
        assert_eq!(pages.take(at(5)), Keep::Fetch, "it was not given");
        pages.keep(vec![APP.to_owned()], at(5));
        assert!(pages.has(APP) && !pages.has("https://app.example:8443"));
        assert_eq!(pages.take(at(64)), Keep::Fresh);
        assert_eq!(pages.take(at(65)), Keep::Refresh);
        assert_eq!(pages.take(at(66)), Keep::Fresh, "one asks");
        assert_eq!(pages.take(at(3_604)), Keep::Refresh);
        assert!(pages.has(APP));
        assert_eq!(pages.age_secs(at(3_604)), Some(3_599));
        assert_eq!(pages.take(at(3_609)), Keep::Fetch);
        assert!(!pages.has(APP));
    }
}
