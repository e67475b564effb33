//! How soon the edge refuses by itself what was ended at the origin: the whole stack, and answers
//! that the origin has no part in.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use serde_json::json;

use crate::rig::{BOUND, Person, VALIDATE};

const SESSIONS: usize = 50;
/// So many at once.
const LANES: usize = 10;

#[tokio::test]
async fn a_session_that_was_ended_is_refused_at_the_edge_within_the_bound() -> Result<()> {
    let ada = Person::sign_up().await?;
    let lanes = (0..LANES).map(|_| async {
        let mut lags = Vec::new();
        for _ in 0..SESSIONS / LANES {
            lags.push(lag(&ada).await?);
        }
        anyhow::Ok(lags)
    });
    let mut lags = try_join_all(lanes).await?.concat();
    lags.sort_unstable();
    let (median, longest) = (lags[lags.len() / 2], lags[lags.len() - 1]);
    println!("revocation lag of {SESSIONS}: median {median:?}, longest {longest:?}");
    assert!(longest <= BOUND, "{longest:?}");
    Ok(())
}

/// Signs in, signs out, and measures until the edge refuses.
async fn lag(ada: &Person) -> Result<Duration> {
    let session = ada.on("one of many").await?;
    let _ = session.get(VALIDATE).await?.ok();
    let _ = session.post("/api/v1/auth/logout", json!({})).await?.ok();
    let (refused, lag) = session.refusal().await?;
    refused.is_problem(401, "SESSION_REVOKED");
    Ok(lag)
}

/// Signing out everywhere, and in again at once.
#[tokio::test]
async fn after_signing_out_everywhere_old_tokens_end_and_a_new_one_is_good() -> Result<()> {
    let before = Person::sign_up().await?;
    let out = before.post("/api/v1/auth/logout-all", json!({})).await?;
    let _ = out.ok();
    let after = before.on("the same").await?;
    before.refusal().await?;
    let _ = after.get(VALIDATE).await?.ok();
    Ok(())
}

/// What the edge asks for itself is nobody else's to ask.
#[tokio::test]
async fn nobody_reads_the_feed_through_the_edge() -> Result<()> {
    let ada = Person::sign_up().await?;
    for path in ["/internal/revocations?after=0", "/internal", "/internal/"] {
        ada.get(path).await?.is_problem(404, "NOT_FOUND");
    }
    Ok(())
}
