//! The edge's copy of the revocations: which tokens are refused though they verify, how old that
//! knowledge is, and when the origin is asked again. Pure: clock and calls are the gateway's.
//!
//! A copy is refreshed behind an answer once it is older than [`Ages::refresh`], and before the
//! answer once it is older than [`Ages::limit`]; then every request asks for itself, since a
//! Worker must not wait for another request's call. While the origin does not answer, the last
//! copy serves and nobody waits: it is asked behind answers, once a second.
//!
//! What is heard is added and never taken away before its time, so that answers may come in any
//! order, and from replicas of which one knows less than the other.
//!
//! An isolate that has heard nothing yet adds what another left in the platform's cache: a
//! [`Snapshot`] with its cursor, from which it goes on, and as old as what that one knew. It has
//! no limit of age of its own: each revocation in it is true until its end, and what came after it
//! is asked for as from any copy of that age.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    ids::{SessionId, UserId},
    jwt::Rejected,
    revocations::{Feed, PAGE, Revocation, TAIL_SECS},
    tokens::Verified,
};

use crate::gate::NotBelieved;

/// How many sessions and users are kept, 5 MB. In place of those that are forgotten beyond it,
/// every token is refused that is as old as theirs: it can be refreshed.
const KEPT: usize = 65_536;
/// While a refresh is under way the origin is left alone this long.
const PAUSE: TimeDelta = TimeDelta::seconds(1);
/// So long after a call that failed nobody waits for another. Longer than [`PAUSE`] and a call
/// together, so that one prober is enough to spare all others.
const GIVEN_UP: TimeDelta = TimeDelta::seconds(4);
/// A snapshot is made no more often than this, and as much more seldom as it has more than a page:
/// half a megabyte takes a few milliseconds, so it never takes a noticeable share of the time.
const SNAPSHOT_EVERY: TimeDelta = TimeDelta::seconds(5);

/// How old a copy may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ages {
    /// Until it is refreshed behind an answer.
    pub refresh: TimeDelta,
    /// Until it is refreshed before one, and until a strict route refuses without.
    pub limit: TimeDelta,
}

/// The copy, and when the origin may be asked next.
#[derive(Debug, Default)]
pub struct Revocations {
    sessions: HashMap<SessionId, i64>,
    users: HashMap<UserId, Withdrawn>,
    keys: HashMap<String, i64>,
    /// Tokens with an earlier `iat` are refused, in place of what was left out.
    floor: i64,
    cursor: i64,
    as_of: Option<DateTime<Utc>>,
    next_refresh: DateTime<Utc>,
    next_snapshot: DateTime<Utc>,
    failed_at: DateTime<Utc>,
}

/// All that is known, for an isolate that knows nothing.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// As if the origin had told it in one answer, at [`as_of`](Self::as_of).
    pub feed: Feed,
    /// What was revoked until then is in it.
    pub as_of: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug)]
struct Withdrawn {
    not_before: i64,
    until: i64,
}

/// What to do for a copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// Use it.
    Fresh,
    /// Use it, and refresh it behind the answer.
    Refresh,
    /// Refresh it first.
    Fetch,
}

impl Revocations {
    /// Takes stock as of `now`. Whoever is told to refresh has taken the turn.
    pub fn take(&mut self, now: DateTime<Utc>, ages: Ages) -> Keep {
        let is_younger = |than| self.as_of.is_some_and(|as_of| now - as_of < than);
        if is_younger(ages.refresh) {
            return Keep::Fresh;
        }
        if !is_younger(ages.limit) && now - self.failed_at >= GIVEN_UP {
            return Keep::Fetch;
        }
        if now < self.next_refresh {
            return Keep::Fresh;
        }
        self.next_refresh = now + PAUSE;
        Keep::Refresh
    }

    /// Whether the copy is young enough for a route that would rather refuse.
    #[must_use]
    pub fn is_within(&self, now: DateTime<Utc>, ages: Ages) -> bool {
        self.as_of.is_some_and(|as_of| now - as_of < ages.limit)
    }

    /// Whether a token that verifies is still believed.
    pub fn check(&self, token: &Verified) -> Result<(), NotBelieved> {
        let claims = &token.claims;
        let iat = claims.iat.timestamp();
        if self.has_key(&token.kid) {
            return Err(Rejected::UnknownKey.into());
        }
        if self.sessions.contains_key(&claims.sid) {
            return Err(NotBelieved::Ended);
        }
        let of_user = self.users.get(&claims.sub);
        if iat < self.floor || of_user.is_some_and(|withdrawn| iat < withdrawn.not_before) {
            return Err(NotBelieved::Withdrawn);
        }
        Ok(())
    }

    /// Whether a key was revoked.
    #[must_use]
    pub fn has_key(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// Where to go on from.
    #[must_use]
    pub const fn cursor(&self) -> i64 {
        self.cursor
    }

    /// Adds what the origin told when it was asked at `asked`; says whether a key was among it.
    pub fn add(&mut self, feed: Feed, asked: DateTime<Utc>) -> bool {
        let known_keys = self.keys.len();
        for revocation in feed.revocations {
            match revocation {
                Revocation::Session { id, until } => {
                    self.sessions.insert(id, until);
                }
                Revocation::User {
                    id,
                    not_before,
                    until,
                } => {
                    let new = Withdrawn { not_before, until };
                    let kept = self.users.entry(id).or_insert(new);
                    if kept.not_before < not_before {
                        *kept = new;
                    }
                }
                Revocation::Key { id, until } => {
                    self.keys.insert(id, until);
                }
            }
        }
        let has_new_key = self.keys.len() > known_keys;
        self.floor = self.floor.max(feed.floor);
        self.cursor = feed.cursor;
        self.forget(asked.timestamp(), KEPT);
        if !feed.more {
            let as_of = asked - TimeDelta::milliseconds(feed.age_millis.into());
            self.as_of = self.as_of.max(Some(as_of));
        }
        has_new_key
    }

    /// Whether nothing complete was heard yet.
    #[must_use]
    pub const fn is_cold(&self) -> bool {
        self.as_of.is_none()
    }

    /// Whether it is time for a snapshot as of `now`; a yes is the turn taken.
    pub fn may_snapshot(&mut self, now: DateTime<Utc>) -> bool {
        let turn = now >= self.next_snapshot;
        if turn {
            let pages = 1 + (self.sessions.len() + self.users.len()) / PAGE;
            let pages = i32::try_from(pages).unwrap_or(i32::MAX);
            self.next_snapshot = now + SNAPSHOT_EVERY * pages;
        }
        turn
    }

    /// What an isolate needs that knows nothing; nothing if that is so of this one.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let as_of = self.as_of?;
        let sessions = self.sessions.iter();
        let users = self.users.iter();
        let keys = self.keys.iter();
        let revocations = sessions
            .map(|(&id, &until)| Revocation::Session { id, until })
            .chain(users.map(|(&id, withdrawn)| Revocation::User {
                id,
                not_before: withdrawn.not_before,
                until: withdrawn.until,
            }))
            .chain(keys.map(|(id, &until)| Revocation::Key {
                id: id.clone(),
                until,
            }))
            .collect();
        let feed = Feed {
            cursor: self.cursor,
            more: false,
            age_millis: 0,
            floor: self.floor,
            revocations,
        };
        Some(Snapshot { feed, as_of })
    }

    /// Notes that the origin did not answer.
    pub fn failed(&mut self, now: DateTime<Utc>) {
        self.failed_at = now;
    }

    /// How old the copy is, in seconds.
    #[must_use]
    pub fn age_secs(&self, now: DateTime<Utc>) -> Option<i64> {
        self.as_of.map(|as_of| (now - as_of).num_seconds())
    }

    /// Forgets what concerns no token any more and, when that is not enough, what soon will not.
    fn forget(&mut self, now: i64, kept: usize) {
        self.keys.retain(|_, until| *until > now);
        self.forget_until(now);
        if self.sessions.len() + self.users.len() <= kept {
            return;
        }
        let of_users = self.users.values().map(|withdrawn| withdrawn.until);
        let mut ends: Vec<i64> = self.sessions.values().copied().chain(of_users).collect();
        // Some more than must go, so that the next one does not come to this again.
        let last = ends.len() - kept + kept / 4 - 1;
        let (_, &mut until, _) = ends.select_nth_unstable(last);
        self.floor = self.floor.max(until - TAIL_SECS);
        self.forget_until(until);
    }

    fn forget_until(&mut self, end: i64) {
        self.sessions.retain(|_, until| *until > end);
        self.users.retain(|_, withdrawn| withdrawn.until > end);
    }
}

#[cfg(test)]
mod tests;
