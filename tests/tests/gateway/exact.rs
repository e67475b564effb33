//! Exact quotas: however many ask at once, and of however many instances, what is admitted is the quota and
//! what refills meanwhile, not one more and not one less.

use std::{
    env,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::http::Request;
use futures_util::future::try_join_all;
use tests::{Issuer, Stub};

use crate::{setting::Setting, spin, suite::Edge, worker};

const CLIENTS: usize = 8;
const QUOTA: usize = 20;
const REFILL: Duration = Duration::from_millis(100);
/// In which some ten refill.
const FOR: Duration = Duration::from_secs(1);

/// The same quota twice: counted exactly, and in each isolate alone.
const POLICY: &str = r#"{
    "limits": {
        "exact": {"by": "address", "quota": 20, "period": 2, "exact": true},
        "alone": {"by": "address", "quota": 20, "period": 2}
    },
    "routes": [
        {"path": "/exact", "methods": ["GET"], "serve": "health", "limits": ["exact"]},
        {"path": "/alone", "methods": ["GET"], "serve": "health", "limits": ["alone"]}
    ]
}"#;

fn setting(redis: Option<String>) -> Result<(Stub, Setting)> {
    let issuer = Issuer::new("http://127.0.0.1:8787", 7);
    let origin = Stub::start(issuer.jwks())?;
    let setting = Setting {
        issuer: issuer.url().to_owned(),
        origin: origin.url.clone(),
        policy: POLICY.to_owned(),
        redis,
    };
    Ok((origin, setting))
}

/// Whether one request is admitted.
async fn admits(edge: &Edge, path: &str) -> Result<bool> {
    let request = Request::get(path).body(String::new())?;
    let answer = edge.ask([192, 0, 2, 1].into(), request).await?;
    let refused = answer.status() == 429;
    assert!(refused || answer.status() == 200, "{answer:?}");
    Ok(!refused)
}

/// How many the clients were admitted, who ask one after the other at edges of their own, until one that
/// comes after all others is refused.
async fn admitted(edges: &[Edge], path: &str) -> Result<(usize, Duration, Duration)> {
    let begun = Instant::now();
    assert!(admits(&edges[0], path).await?, "the first");
    let first_answered = Instant::now();
    let count = AtomicUsize::new(1);
    let clients = (0..CLIENTS).map(async |client| -> Result<()> {
        while begun.elapsed() < FOR {
            if admits(&edges[client % edges.len()], path).await? {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    });
    try_join_all(clients).await?;
    loop {
        let asked = Instant::now();
        if !admits(&edges[0], path).await? {
            let count = count.load(Ordering::Relaxed);
            return Ok((count, asked - first_answered, begun.elapsed()));
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// So many refill in a time.
fn refills(time: Duration) -> usize {
    usize::try_from(time.as_millis() / REFILL.as_millis()).expect("few")
}

async fn is_exact(edges: &[Edge]) -> Result<()> {
    let (count, least, most) = admitted(edges, "/exact").await?;
    let expected = QUOTA + refills(least)..=QUOTA + refills(most);
    assert!(expected.contains(&count), "{count}, not {expected:?}");
    Ok(())
}

#[tokio::test]
async fn a_durable_object_admits_exactly_the_quota() -> Result<()> {
    let (_origin, setting) = setting(None)?;
    is_exact(&[worker(&setting).await?]).await
}

#[tokio::test]
async fn instances_on_spin_admit_exactly_the_quota_by_redis() -> Result<()> {
    let redis = env::var("REDIS_URL").context("REDIS_URL")?;
    let (_origin, setting) = setting(Some(redis))?;
    let component = spin::Component::load()?;
    let mut edges = Vec::new();
    for _ in 0..4 {
        edges.push(Edge::Spin(component.start(&setting).await?));
    }
    is_exact(&edges).await?;
    // Where each counts alone, all of them admit more.
    let (count, _, most) = admitted(&edges, "/alone").await?;
    assert!(count > QUOTA + refills(most), "{count}");
    Ok(())
}

#[tokio::test]
async fn an_instance_on_spin_counts_alone_while_redis_is_away() -> Result<()> {
    let [nobody, _] = tests::free_ports()?;
    let (_origin, setting) = setting(Some(format!("redis://127.0.0.1:{nobody}")))?;
    let component = spin::Component::load()?;
    is_exact(&[Edge::Spin(component.start(&setting).await?)]).await
}
