//! `cargo xtask test`: every test there is, beside a stack of its own that is gone afterwards.

use anyhow::Result;
use clap::Args;

use crate::{
    postgres::{Durability, free_port},
    queries,
    stack::{Settings, Stack},
    tools, up,
};

/// What to test.
#[derive(Args, Default)]
pub struct Tests {
    /// For `cargo test` instead of `--workspace`: `-p tests`, a filter, `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the tests of the workspace. They find a superuser's `DATABASE_URL`, and the stack in
/// `EDGE_URL`, `ORIGIN_URL` and `DATA_DIR`.
pub async fn test(tests: Tests) -> Result<()> {
    queries::check().await?;
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
        ended = run(&mut stack, tests.arguments) => ended,
        told = up::told_to_stop() => told,
    };
    stack.stop().await;
    ended
}

async fn run(stack: &mut Stack, arguments: Vec<String>) -> Result<()> {
    let started = stack.start().await?;
    let mut cargo = tools::cargo(&["test"]);
    if arguments.is_empty() {
        cargo.arg("--workspace");
    }
    cargo.args(arguments);
    cargo.env("DATABASE_URL", started.database_url);
    cargo.env("EDGE_URL", started.edge_url);
    cargo.env("ORIGIN_URL", started.origin_url);
    cargo.env("DATA_DIR", started.data_dir);
    tools::run(&mut cargo).await
}
