//! `cargo xtask test`: every test there is, beside a stack of its own that is gone afterwards.

use anyhow::Result;
use clap::Args;

use crate::{
    edge,
    postgres::{Durability, free_port},
    queries,
    stack::{Settings, Stack, Started},
    steps::say,
    tools, up,
};

/// In the order in which a mistake is best found. Each is built by itself, as it is when it is
/// run: together they would be built anew, with the features of all.
const PACKAGES: [&str; 5] = ["shared", "edge", "origin", "xtask", "tests"];

/// The tests that need a Redis have this in their names.
const NEEDS_REDIS: &str = "by_redis";

/// What to test.
#[derive(Args, Default)]
pub struct Tests {
    /// For one `cargo test` instead of one a package: `-p tests`, a filter, `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the tests of the workspace. They find a superuser's `DATABASE_URL`, and the stack in
/// `EDGE_URL` and `DATA_DIR`.
pub async fn test(tests: Tests) -> Result<()> {
    say("checking what .sqlx says of the queries");
    queries::check().await?;
    say("building the edge as a Spin component");
    edge::build_component().await?;
    let data = tempfile::tempdir()?;
    let (edge_port, origin_port) = (free_port()?, free_port()?);
    let mut stack = Stack::open(Settings {
        edge_port,
        origin_port,
        data_dir: data.path().to_owned(),
        limit_scale: 1_000,
        database_url: None,
        durability: Durability::None,
    })
    .await?;
    let ended = tokio::select! {
        ended = run(&mut stack, &tests.arguments) => ended,
        told = up::told_to_stop() => told,
    };
    stack.stop().await;
    ended
}

async fn run(stack: &mut Stack, arguments: &[String]) -> Result<()> {
    let started = stack.start().await?;
    let redis_url = stack.start_redis().await?;
    if redis_url.is_none() {
        say(&format!(
            "leaving out {NEEDS_REDIS}: this machine can have no Redis"
        ));
    }
    tokio::select! {
        tested = cargo_tests(&started, redis_url.as_deref(), arguments) => tested,
        ended = stack.ended() => Err(ended),
    }
}

async fn cargo_tests(stack: &Started, redis_url: Option<&str>, arguments: &[String]) -> Result<()> {
    let test = async |arguments: &[&str]| {
        let mut cargo = tools::cargo(&["test"]);
        cargo.args(arguments);
        cargo.env("DATABASE_URL", &stack.database_url);
        cargo.env("EDGE_URL", &stack.edge_url);
        cargo.env("DATA_DIR", &stack.data_dir);
        if let Some(url) = redis_url {
            cargo.env("REDIS_URL", url);
        }
        tools::run(&mut cargo).await
    };
    if !arguments.is_empty() {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        return test(&arguments).await;
    }
    for package in PACKAGES {
        let mut arguments = vec!["--package", package];
        if redis_url.is_none() {
            arguments.extend(["--", "--skip", NEEDS_REDIS]);
        }
        test(&arguments).await?;
    }
    Ok(())
}
