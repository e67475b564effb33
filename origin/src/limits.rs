//! Quotas that need a verified key, such as a session's. The rule is `shared::gcra`; this is
//! where its state lives: in this process, bounded.

use std::{
    collections::HashMap,
    hash::Hash,
    mem,
    sync::{Mutex, PoisonError},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, Utc};
use shared::gcra::{Decision, Quota, admit};

/// States kept in each of two generations; about 40 bytes each.
const GENERATION: usize = 100_000;

/// One named quota over keys of one kind.
pub struct Limit<K> {
    name: &'static str,
    quota: Quota,
    states: Mutex<Generations<K>>,
}

/// Two generations: when the young one is full, the old one, which nobody asked for
/// meanwhile, is forgotten.
struct Generations<K> {
    young: HashMap<K, i64>,
    old: HashMap<K, i64>,
}

impl<K: Copy + Eq + Hash> Limit<K> {
    /// A quota under the name that its header fields carry.
    pub fn new(name: &'static str, quota: Quota) -> Self {
        let states = Mutex::new(Generations {
            young: HashMap::new(),
            old: HashMap::new(),
        });
        Self {
            name,
            quota,
            states,
        }
    }

    /// Decides one request, and counts it if it may pass.
    pub fn admit(&self, key: K, now: DateTime<Utc>) -> Verdict {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states
            .young
            .get(&key)
            .or_else(|| states.old.get(&key))
            .copied();
        let decision = admit(state, self.quota, now);
        if states.young.len() >= GENERATION {
            states.old = mem::take(&mut states.young);
        }
        states.young.insert(key, decision.tat);
        Verdict {
            name: self.name,
            quota: self.quota,
            decision,
        }
    }
}

/// What a quota said, for the answer's header.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    name: &'static str,
    quota: Quota,
    /// The decision.
    pub decision: Decision,
}

impl Verdict {
    /// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
    pub fn headers(&self) -> HeaderMap {
        let fields = [
            (
                HeaderName::from_static("ratelimit-policy"),
                self.quota.policy_field(self.name),
            ),
            (
                HeaderName::from_static("ratelimit"),
                self.decision.field(self.name),
            ),
        ];
        fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_through_a_generation_and_memory_stays_bounded() {
        let limit = Limit::new("test", Quota::per_minute(1));
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        assert!(limit.admit(0, now).decision.admitted);
        for key in 1..=GENERATION {
            limit.admit(key, now);
        }
        assert!(!limit.admit(0, now).decision.admitted);
        for key in 0..3 * GENERATION {
            limit.admit(key, now);
        }
        let states = limit.states.lock().expect("not poisoned");
        assert!(states.young.len() <= GENERATION && states.old.len() <= GENERATION);
    }
}
