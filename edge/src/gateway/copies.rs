//! The key set and the revocations in the platform's cache, for isolates that have neither: one
//! that starts while the origin is down serves all the same, and one that starts at any other time
//! asks the origin for less.
//!
//! A copy is written after what it is a copy of was fetched, behind the answer. It is read only
//! where memory has nothing that may serve, and is then what memory would be had this isolate
//! fetched it itself, age included, so that every limit holds as it does there.
//!
//! Others may write into that cache: on Workers, any Worker of the same zone. Whoever could put a
//! key there could sign tokens, so a copy is under a MAC by the proof's key, over its name, its time
//! and every byte. What is not ours, has another name or does not parse counts as not there. The
//! worst that others can do is to take a copy away, or to put an older one of ours in its place,
//! which says how old it is.

use std::rc::Rc;

use chrono::{DateTime, Utc};
use shared::{
    proof::{Parts, Purpose},
    revocations::Feed,
};

use super::Gateway;
use crate::{host::Host, keys::Published};

/// How long a request waits for a copy: it is in the same data centre, or of no use.
const WAIT_MILLIS: u32 = 250;

const KEYS: &str = "keys";
const REVOCATIONS: &str = "revocations";

impl Gateway {
    /// Takes the key set that another isolate left; says whether there was one.
    pub(super) async fn recall_keys<H: Host>(&self, host: &H) -> bool {
        let Some((fetched_at, text)) = self.recall(host, KEYS).await else {
            return false;
        };
        let read = text
            .split_once('\n')
            .and_then(|(etag, body)| Published::parse(body.into(), etag.into(), fetched_at).ok())
            .and_then(|published| self.without_revoked(published));
        let found = read.is_some();
        if let Some(published) = read {
            self.keys.borrow_mut().keep(published);
        }
        found
    }

    /// Leaves the key set to other isolates.
    pub(super) fn leave_keys<H: Host>(self: &Rc<Self>, host: &H, published: Rc<Published>) {
        let gateway = self.clone();
        host.keep(self.name(KEYS), move || {
            let text = format!("{}\n{}", published.etag, published.body);
            Some(gateway.seal(KEYS, &text, published.fetched_at()))
        });
    }

    /// Adds the revocations that another isolate left; says whether there were any.
    pub(super) async fn recall_revocations<H: Host>(self: &Rc<Self>, host: &H) -> bool {
        let Some((as_of, text)) = self.recall(host, REVOCATIONS).await else {
            return false;
        };
        let Ok(feed) = serde_json::from_str::<Feed>(&text) else {
            return false;
        };
        self.hear(host, feed, as_of);
        true
    }

    /// Leaves the revocations to other isolates, if it is time to.
    pub(super) fn leave_revocations<H: Host>(self: &Rc<Self>, host: &H) {
        if !self.revocations.borrow_mut().may_snapshot(host.now()) {
            return;
        }
        let gateway = self.clone();
        host.keep(self.name(REVOCATIONS), move || {
            let snapshot = gateway.revocations.borrow().snapshot()?;
            let text = serde_json::to_string(&snapshot.feed).ok()?;
            Some(gateway.seal(REVOCATIONS, &text, snapshot.as_of))
        });
    }

    /// A copy of ours, and when what is in it was known.
    async fn recall<H: Host>(&self, host: &H, what: &str) -> Option<(DateTime<Utc>, String)> {
        let kept = host.kept(&self.name(what), WAIT_MILLIS).await;
        let kept = kept.unwrap_or_else(|why| {
            host.log(&format!("no {what} from the cache: {why}"));
            None
        });
        let opened = self.open(what, kept?, host.now());
        if opened.is_none() {
            host.log(&format!(
                "the {what} in the cache are not ours, or of a time to come"
            ));
        }
        opened
    }

    /// Where a copy is kept: two edges of one zone with origins of their own share none.
    fn name(&self, what: &str) -> String {
        format!("{}/{what}", self.config.origin)
    }

    /// A text as it is kept. Its time goes in whole seconds, which make it older and never younger.
    fn seal(&self, what: &str, text: &str, as_of: DateTime<Utc>) -> String {
        let target = self.name(what);
        let proof = self.config.proof_key.prove(&parts(&target, text), as_of);
        format!("{proof}\n{text}")
    }

    /// A text that was kept, unless it is not ours or of a time that is yet to come.
    fn open(
        &self,
        what: &str,
        mut kept: String,
        now: DateTime<Utc>,
    ) -> Option<(DateTime<Utc>, String)> {
        let end = kept.find('\n')?;
        let text = kept.split_off(end + 1);
        let (target, proof) = (self.name(what), &kept[..end]);
        let key = &self.config.proof_key;
        let as_of = key.proven_at(&parts(&target, &text), proof).ok()?;
        (as_of <= now).then_some((as_of, text))
    }
}

fn parts<'a>(target: &'a str, text: &'a str) -> Parts<'a> {
    Parts::of_the_edge(Purpose::Copy(text.as_bytes()), target)
}
