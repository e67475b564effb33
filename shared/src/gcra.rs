//! The generic cell rate algorithm, the one rule of every quota: an isolate's memory, a Durable
//! Object, Redis and the origin keep its state, which is one number a key.
//!
//! A quota of `limit` per `period` is a bucket that holds `limit` and refills one every
//! `period / limit`. The state is the *theoretical arrival time* (TAT): when the bucket is full
//! again, in microseconds since the epoch (ITU-T I.371, annex A).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// The rule as Redis keeps it, where a key's state is a text under a name (`KEYS[1]`): one round trip, and
/// its clock counts, since those who share a quota do not share theirs. It is given the interval
/// in microseconds (`ARGV[1]`) and the period in seconds (`ARGV[2]`), and answers what time it is and how
/// far ahead the state was, for [`Quota::told`] to say what that means.
const SCRIPT: &str = "local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    local full = now + ARGV[2] * 1000000
    local tat = tonumber(redis.call('GET', KEYS[1]) or '') or now
    tat = math.min(math.max(now, tat), full)
    local next = tat + ARGV[1]
    if next <= full then redis.call('SET', KEYS[1], string.format('%.0f', next), 'EX', ARGV[2]) end
    return {now, tat - now}";

/// So many, in so many seconds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// How many are admitted in a period, and at once after a rest of a period.
    pub limit: u32,
    /// The period, in seconds.
    pub period_secs: u32,
}

impl Quota {
    /// So many in a minute.
    #[must_use]
    pub const fn per_minute(limit: u32) -> Self {
        Self {
            limit,
            period_secs: 60,
        }
    }

    /// The same quota, `scale` times as large; for tests and benches alone.
    #[must_use]
    pub const fn scaled(self, scale: u32) -> Self {
        Self {
            limit: self.limit.saturating_mul(scale),
            ..self
        }
    }

    fn period_micros(self) -> i64 {
        i64::from(self.period_secs) * MICROS_PER_SECOND
    }

    /// How long one admission takes to be forgotten.
    fn interval_micros(self) -> i64 {
        (self.period_micros() / i64::from(self.limit.max(1))).max(1)
    }

    /// What Redis' `EVAL` is given to decide one request: the script, how many names it has, the name,
    /// and the rest.
    #[must_use]
    pub fn eval(self, name: &str) -> [String; 5] {
        [
            SCRIPT.to_owned(),
            "1".to_owned(),
            name.to_owned(),
            self.interval_micros().to_string(),
            self.period_secs.to_string(),
        ]
    }

    /// What Redis has decided, by what it answers.
    #[must_use]
    pub fn told(self, now: i64, ahead: i64) -> Decision {
        decide(Some(now.saturating_add(ahead)), self, now)
    }

    /// The value of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10 §3).
    #[must_use]
    pub fn policy_field(self, name: &str) -> String {
        format!("\"{name}\";q={};w={}", self.limit, self.period_secs)
    }
}

/// What a quota says to one request.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Decision {
    /// Whether it may pass.
    pub admitted: bool,
    /// The state to keep: a refused request leaves it as it was.
    pub tat: i64,
    /// How many more would pass right now.
    pub remaining: u32,
    /// Seconds until the bucket is full again, rounded up.
    pub reset_secs: u32,
    /// Seconds until the next one may pass, rounded up; 0 when this one did.
    pub retry_after_secs: u32,
}

impl Decision {
    /// The value of `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10 §4).
    #[must_use]
    pub fn field(self, name: &str) -> String {
        format!("\"{name}\";r={};t={}", self.remaining, self.reset_secs)
    }
}

/// Decides one request against `quota` as of `now`, given the state that the last one left.
///
/// A state further ahead than a full period (a clock that jumped back) counts as a full period,
/// so that nobody is shut out for longer than that.
#[must_use]
pub fn admit(tat: Option<i64>, quota: Quota, now: DateTime<Utc>) -> Decision {
    decide(tat, quota, now.timestamp_micros())
}

fn decide(tat: Option<i64>, quota: Quota, now: i64) -> Decision {
    let (interval, period) = (quota.interval_micros(), quota.period_micros());
    let current = tat.map_or(now, |tat| tat.clamp(now, now.saturating_add(period)));
    let next = current.saturating_add(interval);
    let wait = next.saturating_sub(period).saturating_sub(now);
    let admitted = wait <= 0 && quota.limit > 0;
    let tat = if admitted { next } else { current };
    Decision {
        admitted,
        tat,
        remaining: u32::try_from((now + period - tat) / interval).unwrap_or(u32::MAX),
        reset_secs: whole_seconds(tat - now),
        retry_after_secs: if admitted {
            0
        } else {
            whole_seconds(wait).max(1)
        },
    }
}

fn whole_seconds(micros: i64) -> u32 {
    let micros = u64::try_from(micros).unwrap_or(0);
    u32::try_from(micros.div_ceil(MICROS_PER_SECOND.unsigned_abs())).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const QUOTA: Quota = Quota::per_minute(6);

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
    }

    #[test]
    fn a_rested_key_admits_the_quota_at_once_and_no_more() {
        let mut tat = None;
        let remaining: Vec<u32> = (0..6)
            .map(|_| {
                let decision = admit(tat, QUOTA, start());
                assert!(decision.admitted);
                tat = Some(decision.tat);
                decision.remaining
            })
            .collect();
        assert_eq!(remaining, [5, 4, 3, 2, 1, 0]);
        let refused = admit(tat, QUOTA, start());
        assert!(!refused.admitted);
        assert_eq!(
            (refused.tat, refused.retry_after_secs, refused.reset_secs),
            (tat.expect("set"), 10, 60)
        );
    }

    #[test]
    fn retry_after_is_the_first_second_that_admits() {
        let mut tat = None;
        for _ in 0..6 {
            tat = Some(admit(tat, QUOTA, start()).tat);
        }
        let early = start() + TimeDelta::microseconds(9_999_999);
        assert!(!admit(tat, QUOTA, early).admitted);
        assert!(admit(tat, QUOTA, start() + TimeDelta::seconds(10)).admitted);
    }

    #[test]
    fn a_clock_that_jumped_back_shuts_nobody_out_for_more_than_a_period() {
        let ahead = (start() + TimeDelta::days(1)).timestamp_micros();
        let refused = admit(Some(ahead), QUOTA, start());
        assert!(!refused.admitted);
        assert!(refused.retry_after_secs <= QUOTA.period_secs);
    }

    #[test]
    fn over_a_long_time_no_more_than_the_quota_and_its_burst_pass() {
        for limit in [1, 3, 7, 100] {
            let quota = Quota::per_minute(limit);
            let (mut tat, mut passed) = (None, 0);
            for tenth in 0..6_000 {
                let decision = admit(tat, quota, start() + TimeDelta::milliseconds(tenth * 100));
                tat = Some(decision.tat);
                passed += u32::from(decision.admitted);
            }
            assert!(
                passed <= limit * 11,
                "{limit} a minute let {passed} pass in ten minutes"
            );
            assert!(
                passed >= limit * 10,
                "{limit} a minute let only {passed} pass in ten minutes"
            );
        }
    }

    #[test]
    fn header_fields_are_structured() {
        let decision = admit(None, QUOTA, start());
        assert_eq!(QUOTA.policy_field("login"), "\"login\";q=6;w=60");
        assert_eq!(decision.field("login"), "\"login\";r=5;t=10");
    }
}
