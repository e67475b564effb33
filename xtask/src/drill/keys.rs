//! A signing key has leaked; the key that seals the others gets a successor.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use tokio::time::{Instant, sleep, timeout};

use super::{
    CALM,
    load::{Log, Person},
    site::Site,
    under_load,
};
use crate::secrets::Secrets;

/// How soon no origin takes a token of a key that was revoked.
const REFUSED_WITHIN: Duration = Duration::from_mins(1);

/// `origin keys revoke`, under load.
pub async fn leaked() -> Result<String> {
    let happens = async |site: &mut Site| {
        let victim = Person::register(&site.base, 1_000, Log::default()).await?;
        let keys = site.operate(&["keys", "list"]).await?;
        let mut lines = keys.lines();
        let line = lines.find(|line| line.contains("active") && line.contains("EdDSA"));
        let kid = line.and_then(|line| line.split_whitespace().next());
        let kid = kid.with_context(|| format!("no key signs: {keys}"))?;
        let begun = Instant::now();
        site.operate(&["keys", "revoke", kid]).await?;
        for origin in site.origins() {
            timeout(REFUSED_WITHIN, refused(&origin, victim.access()))
                .await
                .context("its tokens are still taken")??;
        }
        let took = begun.elapsed();
        sleep(CALM).await;
        let calm = Instant::now();
        sleep(CALM).await;
        Ok((took, calm))
    };
    under_load(
        Site::prepare().await?,
        12,
        happens,
        |(took, calm), told| {
            ensure!(told.over_after(calm).is_zero(), "it goes on: {told}");
            let is_sign_in = |call| call == "refresh" || call == "sign-in";
            ensure!(
                !told.bad().any(|heard| is_sign_in(heard.call)),
                "somebody was signed out: {told}"
            );
            Ok(format!(
                "its tokens were refused by both origins {took:.1?} after `origin keys revoke`; all went on by \
                 refreshing; {told}"
            ))
        },
    )
    .await
}

async fn refused(origin: &str, token: &str) -> Result<()> {
    let client = reqwest::Client::new();
    loop {
        let ask = client
            .get(format!("{origin}/api/v1/credits/balance"))
            .bearer_auth(token);
        if ask.send().await?.status() == StatusCode::UNAUTHORIZED {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The four steps of a new sealing key.
pub async fn reseal() -> Result<String> {
    let happens = async |site: &mut Site| {
        let successor = site.data().join("successor");
        fs::create_dir(&successor)?;
        let successor = Secrets::load_or_make(&successor)?;
        let (old, new) = (
            site.secrets.get("KEY_ENCRYPTION_KEY")?.to_owned(),
            successor.get("KEY_ENCRYPTION_KEY")?,
        );
        let begun = Instant::now();
        // Each knows both before one seals by the new one.
        for sealing in [format!("{old},{new}"), format!("{new},{old}")] {
            site.sealing = Some(sealing);
            site.roll().await?;
        }
        let said = site.operate(&["keys", "reseal"]).await?;
        site.sealing = Some(new.to_owned());
        site.roll().await?;
        Ok((begun.elapsed(), said))
    };
    under_load(Site::prepare().await?, 12, happens, |(took, said), told| {
        ensure!(told.bad().next().is_none(), "{told}");
        Ok(format!("{}; done in {took:.1?}; {told}", said.trim()))
    })
    .await
}
