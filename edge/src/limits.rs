//! The isolate's own counting: a shield that costs no call. It is approximate, since each isolate
//! counts for itself and forgets the keys it has not seen for longest when too many come.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use shared::{
    gcra::{self, Decision, Quota},
    ids::{SessionId, UserId},
    problem::{Code, Problem},
};

use crate::{answers::Refusal, policy::Limit};

/// How many keys each of the two generations holds. A key takes about 60 bytes.
const GENERATION: usize = 16_384;

/// Whom a quota counts: 128 bits tell addresses, users and sessions apart.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Key {
    by: u8,
    who: u128,
}

impl Key {
    /// Counts by a client's address. IPv6 by /64: one customer has at least as many.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        let who = match address.to_canonical() {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
        };
        Self { by: b'a', who }
    }

    /// Counts by the person who signed in.
    #[must_use]
    pub fn user(user: UserId) -> Self {
        Self {
            by: b'u',
            who: user.uuid().as_u128(),
        }
    }

    /// Counts by the device that signed in.
    #[must_use]
    pub fn session(session: SessionId) -> Self {
        Self {
            by: b's',
            who: session.uuid().as_u128(),
        }
    }

    /// Counts by the app that a session is of.
    #[must_use]
    pub fn app(id: &str) -> Self {
        Self::hashed(b'p', id)
    }

    /// Counts by what a header says.
    #[must_use]
    pub fn header(value: &str) -> Self {
        Self::hashed(b'h', value)
    }

    fn hashed(by: u8, text: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(text).into();
        let (half, _) = digest.split_first_chunk().expect("32 bytes have 16");
        Self {
            by,
            who: u128::from_be_bytes(*half),
        }
    }

    /// The key as a text, under the name of its limit; for stores outside the isolate.
    #[must_use]
    pub fn name(self, limit: &str) -> String {
        format!("{limit}:{}:{:x}", char::from(self.by), self.who)
    }
}

/// Counts of this isolate.
///
/// Two generations: when the younger is full it becomes the elder and the former elder is
/// forgotten. So memory is bounded, and a flood of made-up keys costs no more than a look-up.
#[derive(Debug, Default)]
pub struct Counts {
    younger: BTreeMap<(usize, Key), i64>,
    elder: BTreeMap<(usize, Key), i64>,
}

impl Counts {
    /// Decides one request of `key` against `quota`, which is the limit of this index.
    pub fn admit(&mut self, limit: usize, key: Key, quota: Quota, now: DateTime<Utc>) -> Decision {
        let key = (limit, key);
        let tat = self
            .younger
            .get(&key)
            .or_else(|| self.elder.get(&key))
            .copied();
        let decision = gcra::admit(tat, quota, now);
        if self.younger.insert(key, decision.tat).is_none() && self.younger.len() >= GENERATION {
            self.elder = std::mem::take(&mut self.younger);
        }
        decision
    }
}

/// The limits that a request was counted against, for its answer to tell.
#[derive(Default)]
pub struct Rates<'a>(Vec<(&'a Limit, Decision)>);

impl<'a> Rates<'a> {
    /// Notes a decision; one that does not admit ends the request.
    pub fn note(&mut self, limit: &'a Limit, decision: Decision) -> Result<(), Refusal> {
        self.0.push((limit, decision));
        if decision.admitted {
            return Ok(());
        }
        let detail = format!("the quota `{}` is used up for now", limit.name);
        let mut refusal = self.refuse(Problem::new(Code::RateLimited, detail));
        refusal
            .1
            .push(("retry-after", decision.retry_after_secs.to_string().into()));
        Err(refusal)
    }

    /// A refusal that tells the limits too.
    #[must_use]
    pub fn refuse(&self, problem: Problem) -> Refusal {
        Refusal(problem, self.headers().collect())
    }

    /// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'static, str>)> {
        let list = |field: fn(&(&Limit, Decision)) -> String| {
            let fields: Vec<String> = self.0.iter().map(field).collect();
            fields.join(", ")
        };
        let (policy, state) = (
            list(|(limit, _)| limit.quota.policy_field(&limit.name)),
            list(|(limit, decision)| decision.field(&limit.name)),
        );
        [("ratelimit-policy", policy), ("ratelimit", state)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, value.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota::per_minute(2);

    fn address(text: &str) -> Key {
        Key::address(text.parse().expect("an address"))
    }

    fn passed(counts: &mut Counts, key: Key) -> bool {
        counts.admit(0, key, QUOTA, DateTime::UNIX_EPOCH).admitted
    }

    #[test]
    fn each_address_has_its_own_quota() {
        let mut counts = Counts::default();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        assert_eq!(
            [one, one, one, other].map(|key| passed(&mut counts, key)),
            [true, true, false, true]
        );
    }

    #[test]
    fn ipv6_is_counted_by_its_64_and_mapped_ipv4_as_ipv4() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:0:0:2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }

    #[test]
    fn a_flood_of_other_keys_is_bounded_and_forgets_the_eldest_first() {
        let mut counts = Counts::default();
        let early = address("192.0.2.1");
        for _ in 0..2 {
            assert!(passed(&mut counts, early));
        }
        for who in 0..GENERATION as u128 {
            counts.admit(0, Key { by: b'u', who }, QUOTA, DateTime::UNIX_EPOCH);
        }
        assert!(!passed(&mut counts, early), "still in the elder generation");
        for who in 0..3 * GENERATION as u128 {
            counts.admit(0, Key { by: b's', who }, QUOTA, DateTime::UNIX_EPOCH);
            assert!(counts.younger.len() + counts.elder.len() <= 2 * GENERATION);
        }
        assert!(passed(&mut counts, early), "forgotten");
    }
}
