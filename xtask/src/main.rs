//! What one does with this repository, as `cargo xtask <task>`: run it, test it, check it,
//! measure it. A machine needs Rust and Node; the rest is fetched by cargo, rustup and npm.
//!
//! [`stack`] is the heart: a Postgres, the origin and the edge, started in order and stopped
//! without a trace. `up` shows it to a person, `test` to the tests.

mod bench;
mod children;
mod edge;
mod postgres;
mod secrets;
mod stack;
mod steps;
mod tools;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Builds, runs, tests and measures Tollgate.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
enum Task {
    /// Run everything on this machine: Postgres, the origin, and the edge under `wrangler dev`
    Up(stack::Settings),
    /// Build the edge's worker into edge/build (Wrangler calls this by itself)
    Edge,
    /// Measure, side by side with others, and fail when a goal is missed
    #[command(subcommand)]
    Bench(bench::Bench),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Task::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Task) -> Result<()> {
    match task {
        Task::Up(settings) => up::up(settings).await,
        Task::Edge => edge::build().await,
        Task::Bench(bench) => bench::run(bench).await,
    }
}
