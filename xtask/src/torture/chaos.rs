//! The faults that are more than a broken connection: killed origins, a crashed Postgres.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use anyhow::Result;
use fastrand::Rng;
use tokio::time::{Instant, sleep, sleep_until};

use super::rig::Rig;

/// How long something stays down, at the most.
const LONGEST_OUTAGE_MILLIS: u64 = 1_500;
/// Between two strikes, on average, unless the run is a short one.
const PACE: Duration = Duration::from_secs(8);

/// How often it has struck.
#[derive(Default)]
pub struct Strikes {
    /// Origins that were killed.
    pub kills: AtomicU64,
    /// Crashes of Postgres.
    pub crashes: AtomicU64,
}

/// What ends at once.
struct Strike {
    origins: &'static [usize],
    postgres: bool,
}

/// The ways to strike. Each comes once, in some order, before any comes again.
const ROUND: [Strike; 5] = [
    Strike::of(&[0], false),
    Strike::of(&[1], false),
    Strike::of(&[0, 1], false),
    Strike::of(&[], true),
    Strike::of(&[1], true),
];

/// Strikes for so long, and in each way at least once; everything runs when it returns.
pub async fn rage(rig: &mut Rig, mut rng: Rng, length: Duration, strikes: &Strikes) -> Result<()> {
    let begun = Instant::now();
    let pace = PACE.min(length / 6);
    let mut next = begun;
    let mut round = ROUND;
    for number in 0.. {
        rng.shuffle(&mut round);
        for strike in &round {
            next += pace.mul_f64(0.75 + rng.f64() / 2.0);
            let outage = Duration::from_millis(rng.u64(0..=LONGEST_OUTAGE_MILLIS));
            if number > 0 && next > begun + length {
                sleep_until(begun + length).await;
                return Ok(());
            }
            sleep_until(next).await;
            strike.fall(rig, outage, strikes).await?;
        }
    }
    Ok(())
}

impl Strike {
    const fn of(origins: &'static [usize], postgres: bool) -> Self {
        Self { origins, postgres }
    }

    async fn fall(&self, rig: &mut Rig, outage: Duration, strikes: &Strikes) -> Result<()> {
        for &at in self.origins {
            rig.kill_origin(at).await?;
            strikes.kills.fetch_add(1, Relaxed);
        }
        if self.postgres {
            rig.crash_postgres().await?;
            strikes.crashes.fetch_add(1, Relaxed);
        }
        sleep(outage).await;
        if self.postgres {
            rig.start_postgres().await?;
        }
        for &at in self.origins {
            rig.start_origin(at).await?;
        }
        rig.recovered().await
    }
}
