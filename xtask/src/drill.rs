//! `cargo xtask drill`: bad days, rehearsed. Two origins behind a balancer, their database and their Redis are
//! under load while something goes wrong; what was answered meanwhile and how soon it was over is told, and a
//! drill fails when anything was lost, when somebody was signed out who should not be, or when it took too long.
//!
//! docs/OPERATIONS.md has the results, and what to do on such a day.

mod database;
mod keys;
mod load;
mod origins;
mod restore;
mod site;
mod slow;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use self::{
    load::{Load, Told},
    site::Site,
};

use crate::{steps::say, tools, up};

/// Which days to rehearse.
#[derive(Args)]
pub struct Drills {
    /// These alone; all of them by default
    #[arg(value_enum)]
    days: Vec<Day>,
}

/// A bad day.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Day {
    /// Postgres is restarted
    PostgresRestarts,
    /// Postgres crashes, and recovers from its log
    PostgresCrashes,
    /// Somebody locks a table, and every connection of the pool waits for it
    PoolExhausted,
    /// Postgres takes seconds for what took a millisecond
    SlowDatabase,
    /// Postgres has no room on its disk
    DiskFull,
    /// Redis is killed and comes back
    RedisKilled,
    /// Each origin is stopped by SIGTERM and started again
    RollOut,
    /// The clock of one origin is a minute off
    ClockOff,
    /// A signing key has leaked
    KeyLeaked,
    /// The key that seals the others gets a successor
    Reseal,
    /// Somebody empties a table, and the database goes back to the moment before
    Restore,
}

/// How long things go well before something goes wrong, and after it is over.
const CALM: Duration = Duration::from_secs(2);

/// Rehearses, and fails with the days that went wrong.
pub async fn drill(drills: &Drills) -> Result<()> {
    tools::install_node_modules().await?;
    tools::run(&mut tools::cargo(&["build", "--package", "origin"])).await?;
    let days = match drills.days.as_slice() {
        [] => Day::value_variants(),
        chosen => chosen,
    };
    let mut bad = Vec::new();
    for &day in days {
        let rehearsed = tokio::select! {
            rehearsed = rehearse(day) => rehearsed,
            told = up::told_to_stop() => return told,
        };
        match rehearsed {
            Ok(found) => say(&format!("{day:?}: {found}")),
            Err(why) => {
                say(&format!("{day:?} FAILED: {why:#}"));
                bad.push(day);
            }
        }
    }
    ensure!(bad.is_empty(), "these went wrong: {bad:?}");
    Ok(())
}

/// What was found.
async fn rehearse(day: Day) -> Result<String> {
    match day {
        Day::PostgresRestarts => database::restarts(Signal::SIGINT).await,
        Day::PostgresCrashes => database::restarts(Signal::SIGQUIT).await,
        Day::PoolExhausted => database::is_locked().await,
        Day::SlowDatabase => database::is_slow().await,
        Day::DiskFull => database::has_no_room().await,
        Day::RedisKilled => origins::lose_redis().await,
        Day::RollOut => origins::roll_out().await,
        Day::ClockOff => origins::clock_off().await,
        Day::KeyLeaked => keys::leaked().await,
        Day::Reseal => keys::reseal().await,
        Day::Restore => restore::restore().await,
    }
}

/// Lets something happen while so many people are at work, and judges what they were told.
async fn under_load<T>(
    mut site: Site,
    people: usize,
    happens: impl AsyncFnOnce(&mut Site) -> Result<T>,
    judge: impl FnOnce(T, &Told) -> Result<String>,
) -> Result<String> {
    let found = async {
        site.start().await?;
        let load = Load::start(&site.base, 0..people).await?;
        sleep(CALM).await;
        let seen = happens(&mut site).await?;
        judge(seen, &load.end().await?)
    }
    .await;
    site.end(found).await
}
