//! The database restarts, crashes, is locked, is slow, and has no room.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{sys::signal::Signal, unistd::Uid};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use super::{CALM, load::Told, site::Site, under_load};

/// How soon everything is well after the database is back.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// How long it lasts.
const LASTS: Duration = Duration::from_secs(10);
/// No request takes longer: what an origin's deadline leaves, and a little.
const ANSWERED_WITHIN: Duration = Duration::from_secs(17);
/// What Postgres's disk has room for.
const ROOM: &str = "size=256m";

/// Postgres is ended so, and started again two seconds later.
pub async fn restarts(signal: Signal) -> Result<String> {
    let happens = async |site: &mut Site| {
        let down = Instant::now();
        site.end_postgres(signal).await?;
        sleep(Duration::from_secs(2)).await;
        site.start_postgres().await?;
        let up = Instant::now();
        sleep(BACK_WITHIN + CALM).await;
        Ok((format!("away for {:.1?}", up - down), up))
    };
    under_load(Site::prepare().await?, 12, happens, judge).await
}

/// Somebody holds a lock that every request of the pool waits for.
pub async fn is_locked() -> Result<String> {
    let happens = async |site: &mut Site| {
        let mut rude = PgConnection::connect(&site.cluster.url).await?;
        let mut lock = rude.begin().await?;
        sqlx::query("LOCK TABLE auth.sessions, credits.balances IN ACCESS EXCLUSIVE MODE")
            .execute(&mut *lock)
            .await?;
        sleep(LASTS).await;
        let keys = reqwest::get(format!("{}/api/v1/auth/jwks", site.base)).await?;
        ensure!(
            keys.status().is_success(),
            "the keys were not served: {}",
            keys.status()
        );
        lock.rollback().await?;
        let free = Instant::now();
        sleep(BACK_WITHIN + CALM).await;
        Ok((format!("locked for {LASTS:?}"), free))
    };
    under_load(Site::prepare().await?, 48, happens, judge).await
}

/// Whatever Postgres says comes two seconds later.
pub async fn is_slow() -> Result<String> {
    let happens = async |site: &mut Site| {
        site.slow.set_delay(Duration::from_secs(2));
        sleep(LASTS).await;
        site.slow.set_delay(Duration::ZERO);
        let fast = Instant::now();
        sleep(BACK_WITHIN + CALM).await;
        Ok((format!("slow for {LASTS:?}"), fast))
    };
    under_load(Site::prepare().await?, 48, happens, judge).await
}

/// A file takes all the room that Postgres's disk has; it is removed, and Postgres started where it ended.
pub async fn has_no_room() -> Result<String> {
    ensure!(
        Uid::effective().is_root(),
        "only root can make a small disk"
    );
    let mut site = Site::prepare().await?;
    site.make_room(ROOM).await?;
    let happens = async |site: &mut Site| {
        let full = Instant::now();
        let ballast = site.cluster.data.join("ballast");
        fill(&ballast)?;
        // Its log has room until the next file of it is needed.
        let has_ended = timeout(LASTS * 4, site.postgres_ended()).await.is_ok();
        let lasted = full.elapsed();
        fs::remove_file(&ballast)?;
        if has_ended {
            site.start_postgres().await?;
        }
        let up = Instant::now();
        sleep(BACK_WITHIN + CALM).await;
        let how = if has_ended { "ended" } else { "lived" };
        Ok((format!("full for {lasted:.1?}, and Postgres {how}"), up))
    };
    under_load(site, 12, happens, judge).await
}

/// Nobody was told anything wrong or waited for too long, and soon after it was over all was well.
fn judge((what, over): (String, Instant), told: &Told) -> Result<String> {
    told.no_wrong_answer()?;
    let (longest, after) = (told.longest(), told.over_after(over));
    ensure!(
        longest <= ANSWERED_WITHIN,
        "somebody waited for {longest:.1?}: {told}"
    );
    ensure!(
        after <= BACK_WITHIN,
        "it took {after:.1?} until all was well: {told}"
    );
    Ok(format!(
        "{what}; all was well {after:.1?} after it was over; longest answer {longest:.1?}; {told}"
    ))
}

/// Writes until there is no room.
fn fill(ballast: &Path) -> Result<()> {
    let mut file = File::create(ballast).context("the ballast")?;
    let block = vec![0; 1024 * 1024];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&block[..4096]).is_ok() {}
    Ok(())
}
