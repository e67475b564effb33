//! The feed in memory: what has been appended of late, in the order of its cursors.

use std::{
    collections::VecDeque,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use shared::revocations::{Feed, PAGE, Revocation, TAIL_SECS};

use super::{Error, Read};

/// How many are kept: 10 MB.
const KEPT: usize = 100_000;

/// What has been appended of late. Never more than a bound: in place of what is left out, every
/// token is refused that is as old as the tokens it concerned.
#[derive(Default)]
pub struct Recent(RwLock<Known>);

#[derive(Default)]
struct Known {
    in_order: VecDeque<(i64, Revocation)>,
    /// The last that was read.
    cursor: i64,
    /// The last that was left out, and the `iat` below which that counts.
    left_out: i64,
    floor: i64,
    /// When the database was last read to its end.
    looked_at: Option<Instant>,
}

impl Recent {
    /// The last cursor that was read.
    pub fn cursor(&self) -> i64 {
        self.known().cursor
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.known().in_order.len()
    }

    /// How long ago the database was read to its end, if it ever was.
    pub fn age(&self) -> Option<Duration> {
        self.known().looked_at.map(|at| at.elapsed())
    }

    /// Adds what was read; `looked_at` is when, if that was all.
    pub fn add(&self, read: Vec<Read>, looked_at: Option<Instant>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for Read {
            cursor, revocation, ..
        } in read
        {
            known.add(cursor, revocation, KEPT);
        }
        known.looked_at = looked_at.or(known.looked_at);
    }

    /// Forgets what concerns no token any more.
    pub fn forget(&self, now: DateTime<Utc>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let now = now.timestamp();
        known
            .in_order
            .retain(|(_, revocation)| revocation.until() > now);
    }

    /// What came behind a cursor.
    pub fn after(&self, cursor: i64) -> Result<Feed, Error> {
        let known = self.known();
        let age = known.looked_at.ok_or(Error::Unavailable)?.elapsed();
        Ok(Feed {
            age_millis: age.as_millis().try_into().unwrap_or(u32::MAX),
            ..known.after(cursor, PAGE)
        })
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn add(&mut self, cursor: i64, revocation: Revocation, kept: usize) {
        self.in_order.push_back((cursor, revocation));
        self.cursor = cursor;
        if self.in_order.len() <= kept {
            return;
        }
        // Keys are few, and no age of a token says that a key has not signed it.
        let is_key =
            |(_, revocation): &(_, Revocation)| matches!(revocation, Revocation::Key { .. });
        if let Some(eldest) = self.in_order.iter().position(|each| !is_key(each))
            && let Some((cursor, revocation)) = self.in_order.remove(eldest)
        {
            self.left_out = self.left_out.max(cursor);
            self.floor = self.floor.max(revocation.until() - TAIL_SECS);
        }
    }

    /// One that has heard more than we have, of another replica, goes on from where we are: it
    /// adds what it hears, so nothing is lost by hearing it again.
    fn after(&self, cursor: i64, page: usize) -> Feed {
        let behind = self.in_order.partition_point(|(at, _)| *at <= cursor);
        let told = self.in_order.range(behind..).take(page);
        let more = self.in_order.len() - behind > page;
        let last = told.clone().next_back().map(|(cursor, _)| *cursor);
        Feed {
            cursor: last.filter(|_| more).unwrap_or(self.cursor),
            more,
            age_millis: 0,
            floor: if cursor < self.left_out {
                self.floor
            } else {
                0
            },
            revocations: told.map(|(_, revocation)| revocation.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::SessionId;
    use uuid::Uuid;

    use super::*;

    /// One that was appended at this second.
    fn session(id: u8, at: i64) -> Revocation {
        Revocation::Session {
            id: SessionId::from(Uuid::from_u128(id.into())),
            until: at + TAIL_SECS,
        }
    }

    fn key() -> Revocation {
        Revocation::Key {
            id: "stolen".to_owned(),
            until: i64::MAX,
        }
    }

    fn known(kept: usize) -> Known {
        let mut known = Known::default();
        known.add(3, key(), kept);
        for (cursor, at) in [(4, 100), (7, 101), (8, 102), (9, 103)] {
            known.add(
                cursor,
                session(u8::try_from(cursor).expect("small"), at),
                kept,
            );
        }
        known
    }

    #[test]
    fn a_reader_goes_on_from_its_cursor_a_page_at_a_time() {
        let known = known(10);
        let told = |after, page| {
            let feed = known.after(after, page);
            (feed.revocations.len(), feed.cursor, feed.more)
        };
        assert_eq!(told(0, 10), (5, 9, false));
        assert_eq!(told(0, 2), (2, 4, true));
        assert_eq!(told(4, 2), (2, 8, true));
        assert_eq!(told(8, 2), (1, 9, false));
        assert_eq!(told(5, 10), (3, 9, false), "a cursor that nobody has");
        assert_eq!(told(9, 10), (0, 9, false));
        assert_eq!(told(12, 10), (0, 9, false), "ahead of this replica");
        assert_eq!(Known::default().after(0, 10).cursor, 0);
    }

    #[test]
    fn what_is_left_out_counts_for_every_token_of_its_age_and_keys_are_not() {
        let known = known(3);
        let feed = known.after(0, 10);
        assert_eq!(feed.revocations, [key(), session(8, 102), session(9, 103)]);
        assert_eq!(feed.floor, 101);
        assert_eq!(known.after(6, 10).floor, 101, "7 was left out");
        assert_eq!(known.after(7, 10).floor, 0, "all of it was heard");
    }

    #[test]
    fn nothing_is_told_before_it_was_read_to_its_end() {
        let recent = Recent::default();
        recent.add(Vec::new(), None);
        assert!(recent.after(0).is_err());
        recent.add(Vec::new(), Some(Instant::now()));
        assert!(recent.after(0).is_ok());
    }

    #[test]
    fn what_concerns_no_token_any_more_is_forgotten() {
        let recent = Recent(RwLock::new(known(10)));
        recent.forget(DateTime::from_timestamp(101 + TAIL_SECS, 0).expect("a time"));
        assert_eq!(recent.kept(), 3);
        assert_eq!(recent.cursor(), 9);
    }
}
