//! Whether a token that verifies is still believed: the revocations, fetched when they are old.

use std::{rc::Rc, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    problem::{Code, Problem},
    revocations::{Feed, PATH},
    tokens::Verified,
};

use super::{Gateway, apart};
use crate::{gate::NotBelieved, host::Host, numbers::Number, revocations::Keep};

/// How long a request waits for revocations at the most.
const WAIT: TimeDelta = TimeDelta::milliseconds(500);
/// How long they may take behind an answer.
const PATIENCE: TimeDelta = TimeDelta::seconds(2);

impl Gateway {
    /// Verifies a token, and asks whether it has ended before its time. The origin is asked only
    /// for tokens that verify: nobody turns made-up ones into calls.
    pub(super) async fn believe<H: Host>(
        self: &Rc<Self>,
        host: &H,
        token: &str,
        strict: bool,
    ) -> Result<Result<Arc<Verified>, NotBelieved>, Problem> {
        let refused = |why| {
            self.count_one(match why {
                NotBelieved::Ended => Number::Ended,
                NotBelieved::Rejected(_) | NotBelieved::Withdrawn => Number::Invalid,
            });
            Ok(Err(why))
        };
        let verified = match self.verify(host, token).await? {
            Ok(verified) => verified,
            Err(why) => return refused(why.into()),
        };
        self.freshen(host).await;
        let revocations = self.revocations.borrow();
        if let Err(why) = revocations.check(&verified) {
            return refused(why);
        }
        if strict && !revocations.is_within(host.now(), self.config.ages) {
            return Err(Problem::new(
                Code::RevocationsUnavailable,
                "it is not known whether the session has ended; try again soon",
            ));
        }
        self.count_one(Number::Accepted);
        Ok(Ok(verified))
    }

    /// Sees to it that the copy is as young as it can be.
    async fn freshen<H: Host>(self: &Rc<Self>, host: &H) {
        let take = || {
            let mut revocations = self.revocations.borrow_mut();
            let keep = revocations.take(host.now(), self.config.ages);
            (keep, revocations.is_cold())
        };
        let (mut keep, is_cold) = take();
        if keep == Keep::Fetch && is_cold && apart(self.recall_revocations(host)).await {
            (keep, _) = take();
        }
        match keep {
            Keep::Fresh => {}
            Keep::Refresh => {
                let (gateway, again) = (self.clone(), host.clone());
                host.later(async move { gateway.fetch_revocations(&again, PATIENCE).await });
            }
            Keep::Fetch => apart(self.fetch_revocations(host, WAIT)).await,
        }
    }

    async fn fetch_revocations<H: Host>(self: &Rc<Self>, host: &H, within: TimeDelta) {
        self.count_one(Number::FeedFetches);
        if let Err(why) = self.try_fetch_revocations(host, within).await {
            self.revocations.borrow_mut().failed(host.now());
            self.count_one(Number::FetchFailures);
            host.log(&format!("the origin told no revocations: {why}"));
        }
    }

    async fn try_fetch_revocations<H: Host>(
        self: &Rc<Self>,
        host: &H,
        within: TimeDelta,
    ) -> Result<(), String> {
        let end = host.now() + within;
        loop {
            let asked = host.now();
            let left = u32::try_from((end - asked).num_milliseconds()).unwrap_or_default();
            if left == 0 {
                return Err("they are too many for the time".to_owned());
            }
            let target = format!("{PATH}?after={}", self.revocations.borrow().cursor());
            let ask = self.internal(host, "GET", &target, None, left);
            let told = host.fetch(ask).await?.ok()?;
            let feed: Feed = serde_json::from_str(&told.body).map_err(|why| why.to_string())?;
            let more = feed.more;
            self.hear(host, feed, asked);
            if !more {
                self.leave_revocations(host);
                return Ok(());
            }
        }
    }

    /// Adds what is told of revocations. A key among it leaves the key set, and its copy in the cache.
    pub(super) fn hear<H: Host>(self: &Rc<Self>, host: &H, feed: Feed, as_of: DateTime<Utc>) {
        if !self.revocations.borrow_mut().add(feed, as_of) {
            return;
        }
        let revocations = self.revocations.borrow();
        let mut keys = self.keys.borrow_mut();
        if let Some(left) = keys.drop_revoked(|kid| revocations.has_key(kid)) {
            self.leave_keys(host, left);
        }
    }
}
