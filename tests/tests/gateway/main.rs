//! The one suite of gateway cases, and the platforms that it runs on: the core in this process,
//! the built worker under workerd, and the built component under a WASI 0.3 host.
//!
//! `cases` is the table: what is asked, what must be answered, and what the origin must have
//! seen. `suite` goes through it, `apps` asks for what is behind the edge, and `hostile` is what
//! attackers send. What needs a clock that can be set is asked of the core alone, in `time`, and in
//! `cold` what an edge knows that starts beside another. `exact` has many ask at once, `numbers`
//! reads what an edge says of itself, `smuggling` speaks to the worker without a client, and `signatures`
//! asks what it takes for signed.
//! `spin_toml` holds the two deployments to the same variables.

mod apps;
mod cases;
mod cold;
mod exact;
mod hostile;
mod native;
mod numbers;
mod setting;
mod signatures;
mod smuggling;
mod spin;
mod spin_redis;
mod spin_toml;
mod suite;
mod time;
mod tokens;

use anyhow::Result;
use tests::{Script, Worker};

use crate::{setting::Setting, suite::Edge};

async fn native(setting: &Setting) -> Result<Edge> {
    Ok(Edge::Native(native::Edge::new(setting)))
}

/// The built worker as this setting has it.
fn script(setting: &Setting) -> Result<Script> {
    let script = Script::edge(&setting.issuer, &setting.origin)?;
    let policy: toml::Value = serde_json::from_str(&setting.policy)?;
    Ok(script
        .var("POLICY", policy)
        .var("UPSTREAM_PROOF_KEYS", setting::upstream_keys()))
}

async fn worker(setting: &Setting) -> Result<Edge> {
    let worker = Worker::start(&script(setting)?).await?;
    Ok(Edge::Worker(Box::new(worker)))
}

#[tokio::test]
async fn every_case_holds_in_the_core() -> Result<()> {
    suite::run(native).await
}

#[tokio::test]
async fn every_case_holds_for_the_worker_under_workerd() -> Result<()> {
    suite::run(worker).await
}

#[tokio::test]
async fn every_case_holds_for_the_component_under_wasi() -> Result<()> {
    let component = spin::Component::load()?;
    suite::run(async |setting: &Setting| Ok(Edge::Spin(component.start(setting).await?))).await
}

#[tokio::test]
async fn apps_are_reached_through_the_core() -> Result<()> {
    apps::run(native).await
}

#[tokio::test]
async fn apps_are_reached_through_the_worker_under_workerd() -> Result<()> {
    apps::run(worker).await
}

#[tokio::test]
async fn apps_are_reached_through_the_component_under_wasi() -> Result<()> {
    let component = spin::Component::load()?;
    apps::run(async |setting: &Setting| Ok(Edge::Spin(component.start(setting).await?))).await
}

#[tokio::test]
async fn hostile_requests_are_refused_by_the_core() -> Result<()> {
    hostile::run(native).await
}

#[tokio::test]
async fn hostile_requests_are_refused_by_the_worker_under_workerd() -> Result<()> {
    hostile::run(worker).await
}

#[tokio::test]
async fn hostile_requests_are_refused_by_the_component_under_wasi() -> Result<()> {
    let component = spin::Component::load()?;
    hostile::run(async |setting: &Setting| Ok(Edge::Spin(component.start(setting).await?))).await
}
