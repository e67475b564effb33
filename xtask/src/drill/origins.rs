//! The origins lose their Redis, are rolled out, and have a wrong clock.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use super::{
    CALM,
    site::{ORIGINS, Site},
    under_load,
};
use crate::tools;

/// Where Debian has the library that gives a program another clock.
const FAKE_CLOCK: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

/// Redis is killed, is away for five seconds, and comes back empty.
pub async fn lose_redis() -> Result<String> {
    let happens = async |site: &mut Site| {
        site.kill_redis().await?;
        let gone = Instant::now();
        sleep(Duration::from_secs(5)).await;
        let back = Instant::now();
        site.start_redis().await?;
        sleep(CALM).await;
        Ok((gone, back))
    };
    under_load(Site::prepare().await?, 12, happens, |(gone, back), told| {
        ensure!(told.bad().next().is_none(), "{told}");
        Ok(format!(
            "away for {:.1?}, in which {} requests were answered; longest answer {:.1?}; {told}",
            back - gone,
            told.good_between(gone, back),
            told.longest()
        ))
    })
    .await
}

/// Each origin gets SIGTERM and is started again, twice over.
pub async fn roll_out() -> Result<String> {
    let happens = async |site: &mut Site| {
        let begun = Instant::now();
        site.roll().await?;
        site.roll().await?;
        Ok(begun.elapsed())
    };
    under_load(Site::prepare().await?, 12, happens, |took, told| {
        ensure!(told.bad().next().is_none(), "{told}");
        Ok(format!(
            "{} origins stopped and started within {took:.1?}; longest answer {:.1?}; {told}",
            2 * ORIGINS,
            told.longest()
        ))
    })
    .await
}

/// One origin's clock is a minute fast, then a minute slow; what one signs, the other reads.
pub async fn clock_off() -> Result<String> {
    let installed = || {
        let mut places = FAKE_CLOCK.into_iter();
        places.find(|file| Path::new(file).is_file())
    };
    if installed().is_none() {
        tools::install("libfaketime").await;
    }
    let library = installed().context("a drill of clocks needs Debian's libfaketime")?;
    let happens = async |site: &mut Site| {
        for shift in ["+60s", "-60s"] {
            site.stop_origin(0).await?;
            site.told[0] = vec![
                ("LD_PRELOAD", library.to_owned()),
                ("FAKETIME", shift.to_owned()),
                // How long something takes is as it is.
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ];
            site.start_origin(0).await?;
            sleep(Duration::from_secs(6)).await;
        }
        Ok(())
    };
    under_load(Site::prepare().await?, 12, happens, |(), told| {
        ensure!(told.bad().next().is_none(), "{told}");
        Ok(format!(
            "six seconds a minute fast and six a minute slow; {told}"
        ))
    })
    .await
}
