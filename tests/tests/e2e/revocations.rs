//! How soon the edge refuses by itself what was ended at the origin: the whole stack, and answers
//! that the origin has no part in.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tests::{Answer, Client};
use tokio::time::sleep;

use crate::rig::{PASSWORD, Person};

const VALIDATE: &str = "/api/v1/auth/validate";
/// The copy's limit, and how long a request waits for a newer one.
const BOUND: Duration = Duration::from_millis(5_500);
const SESSIONS: usize = 50;
/// So many at once.
const LANES: usize = 10;

#[tokio::test]
async fn a_session_that_was_ended_is_refused_at_the_edge_within_the_bound() -> Result<()> {
    let ada = Person::sign_up().await?;
    let lanes = (0..LANES).map(|_| async {
        let mut lags = Vec::new();
        for _ in 0..SESSIONS / LANES {
            lags.push(lag(&ada.edge, &ada.email).await?);
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
async fn lag(edge: &Client, email: &str) -> Result<Duration> {
    let body = json!({"email": email, "password": PASSWORD});
    let signed_in = Answer::to(edge.post("/api/v1/auth/login").json(&body))
        .await?
        .ok();
    let token = signed_in.body["accessToken"].as_str().context("a token")?;
    let validate = || Answer::to(edge.get(VALIDATE).bearer_auth(token));
    let _ = validate().await?.ok();
    let logout = edge.post("/api/v1/auth/logout").bearer_auth(token);
    let _ = Answer::to(logout.json(&json!({}))).await?.ok();
    let ended = Instant::now();
    loop {
        let answer = validate().await?;
        if answer.status != 200 {
            answer.is_problem(401, "SESSION_REVOKED");
            return Ok(ended.elapsed());
        }
        ensure!(ended.elapsed() < 2 * BOUND, "it is never refused");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Signing out everywhere, and in again at once.
#[tokio::test]
async fn after_signing_out_everywhere_old_tokens_end_and_a_new_one_is_good() -> Result<()> {
    let before = Person::sign_up().await?;
    let out = before.post("/api/v1/auth/logout-all", json!({})).await?;
    let _ = out.ok();
    let body = json!({"email": before.email, "password": PASSWORD});
    let login = before.edge.post("/api/v1/auth/login").json(&body);
    let after = Answer::to(login).await?.ok();
    let after = after.body["accessToken"].as_str().context("a token")?;
    let ended = Instant::now();
    while before.get(VALIDATE).await?.status == 200 {
        ensure!(ended.elapsed() < 2 * BOUND, "it is never refused");
        sleep(Duration::from_millis(20)).await;
    }
    let good = Answer::to(before.edge.get(VALIDATE).bearer_auth(after)).await?;
    let _ = good.ok();
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
