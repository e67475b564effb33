//! Quotas that need a verified key, such as a session's. The rule is `shared::gcra`; this is
//! where its state lives: in Redis, where replicas share it, or in this process, bounded, when
//! there is no Redis or it is away.

use std::{
    collections::HashMap,
    fmt::Display,
    hash::Hash,
    mem,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, TimeDelta, Utc};
use metrics::counter;
use redis::{
    Client, RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use shared::gcra::{Decision, Quota, admit};

/// States kept in each of two generations; about 40 bytes each.
const GENERATION: usize = 100_000;
/// How long Redis is let alone after a failure.
const PAUSE: TimeDelta = TimeDelta::seconds(1);
/// How long a request waits for Redis.
const PATIENCE: Duration = Duration::from_millis(100);

/// One named quota over keys of one kind.
pub struct Limit<K> {
    name: &'static str,
    quota: Quota,
    states: Mutex<Generations<K>>,
    redis: Option<Redis>,
}

/// The states that replicas share.
struct Redis {
    connection: ConnectionManager,
    /// After a failure it is let alone until then, in microseconds since the epoch.
    away_until: AtomicI64,
}

impl<K: Copy + Display + Eq + Hash> Limit<K> {
    /// A quota under the name that its header fields carry.
    pub fn new(name: &'static str, quota: Quota, redis: Option<ConnectionManager>) -> Self {
        let redis = redis.map(|connection| Redis {
            connection,
            away_until: AtomicI64::new(0),
        });
        Self {
            name,
            quota,
            states: Mutex::default(),
            redis,
        }
    }

    /// Decides one request, and counts it if it may pass.
    pub async fn admit(&self, key: K, now: DateTime<Utc>) -> Verdict {
        let shared = match &self.redis {
            Some(redis) if redis.away_until.load(Ordering::Relaxed) <= now.timestamp_micros() => {
                let told = self.admit_by(redis, key, now).await.inspect_err(|error| {
                    tracing::warn!(%error, limit = self.name, "Redis is away: this process decides alone");
                    let until = now + PAUSE;
                    redis.away_until.store(until.timestamp_micros(), Ordering::Relaxed);
                });
                told.ok()
            }
            _ => None,
        };
        if self.redis.is_some() && shared.is_none() {
            counter!("tollgate_limits_counted_alone_total").increment(1);
        }
        let decision = shared.unwrap_or_else(|| self.admit_here(key, now));
        Verdict {
            name: self.name,
            quota: self.quota,
            decision,
        }
    }

    /// By the state that all replicas share, and the clock that goes with it. This process remembers
    /// it by its own, for when Redis is away.
    async fn admit_by(&self, redis: &Redis, key: K, now: DateTime<Utc>) -> RedisResult<Decision> {
        let mut eval = redis::cmd("EVAL");
        eval.arg(&self.quota.eval(&format!("tollgate:{}:{key}", self.name)));
        let mut connection = redis.connection.clone();
        let (time, ahead) = eval.query_async(&mut connection).await?;
        let decision = self.quota.told(time, ahead);
        let tat = now
            .timestamp_micros()
            .saturating_add(decision.tat.saturating_sub(time));
        self.states().keep(key, tat);
        Ok(decision)
    }

    fn admit_here(&self, key: K, now: DateTime<Utc>) -> Decision {
        let mut states = self.states();
        let decision = admit(states.find(&key), self.quota, now);
        states.keep(key, decision.tat);
        decision
    }

    fn states(&self) -> std::sync::MutexGuard<'_, Generations<K>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is made when first needed, and soon given up on.
pub fn connect(redis: Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
        // The next request tries again; a retry would have this one wait.
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(redis, config)
}

/// Two generations: when the young one is full, the old one, which nobody asked for
/// meanwhile, is forgotten.
struct Generations<K> {
    young: HashMap<K, i64>,
    old: HashMap<K, i64>,
}

impl<K> Default for Generations<K> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash> Generations<K> {
    fn find(&self, key: &K) -> Option<i64> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn keep(&mut self, key: K, tat: i64) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, tat);
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
        let limit = Limit::new("test", Quota::per_minute(1), None);
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        assert!(limit.admit_here(0, now).admitted);
        for key in 1..=GENERATION {
            limit.admit_here(key, now);
        }
        assert!(!limit.admit_here(0, now).admitted);
        for key in 0..3 * GENERATION {
            limit.admit_here(key, now);
        }
        let states = limit.states();
        assert!(states.young.len() <= GENERATION && states.old.len() <= GENERATION);
    }

    #[tokio::test]
    async fn while_redis_is_away_this_process_decides() {
        let nowhere = Client::open("redis://127.0.0.1:1").expect("a URL");
        let limit = Limit::new(
            "test",
            Quota::per_minute(2),
            Some(connect(nowhere).expect("a manager")),
        );
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let mut admitted = Vec::new();
        for _ in 0..3 {
            admitted.push(limit.admit(7, now).await.decision.admitted);
        }
        assert_eq!(admitted, [true, true, false]);
    }

    /// Needs a Redis, which `REDIS_URL` names.
    fn replicas() -> [Limit<uuid::Uuid>; 2] {
        let url = std::env::var("REDIS_URL").expect("`cargo xtask test` starts a Redis for it");
        [(); 2].map(|()| {
            let redis = connect(Client::open(url.as_str()).expect("a URL")).expect("a manager");
            Limit::new("shared", Quota::per_minute(10), Some(redis))
        })
    }

    #[tokio::test]
    async fn replicas_share_a_quota_by_redis_whatever_their_clocks_say() {
        let replicas = replicas();
        let key = crate::rim::new_id();
        let off = [TimeDelta::minutes(-1), TimeDelta::minutes(1)];
        let mut admitted = 0;
        for turn in 0..24 {
            let now = crate::rim::now() + off[turn % 2];
            admitted += u32::from(replicas[turn % 2].admit(key, now).await.decision.admitted);
        }
        assert_eq!(admitted, 10);
    }

    #[tokio::test]
    async fn what_is_kept_by_redis_is_what_the_rule_says() {
        let [replica, _] = replicas();
        let key = crate::rim::new_id();
        let redis = replica.redis.as_ref().expect("a Redis");
        for turn in 1..=12 {
            let verdict = replica.admit(key, crate::rim::now()).await;
            let mut get = redis::cmd("GET");
            get.arg(format!("tollgate:shared:{key}"));
            let mut connection = redis.connection.clone();
            let kept: i64 = get.query_async(&mut connection).await.expect("a state");
            assert_eq!(
                (verdict.decision.admitted, verdict.decision.tat),
                (turn <= 10, kept)
            );
        }
    }

    #[tokio::test]
    async fn a_quota_that_is_used_up_by_redis_is_used_up_while_it_is_away() {
        let [replica, _] = replicas();
        let (key, now) = (crate::rim::new_id(), crate::rim::now());
        for _ in 0..10 {
            assert!(replica.admit(key, now).await.decision.admitted);
        }
        assert!(!replica.admit_here(key, now).admitted);
    }
}
