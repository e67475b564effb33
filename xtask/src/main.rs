//! What one does with this repository, as `cargo xtask <task>`: run it, test it, check it,
//! measure it. A machine needs Rust and Node; the rest is fetched by cargo, rustup and npm.
//!
//! [`stack`] is the heart: a Postgres, the origin and the edge, started in order and stopped
//! without a trace. `up` shows it to a person, `test` to the tests.

mod balancer;
mod bench;
mod browser;
mod children;
mod ci;
mod drill;
mod edge;
mod logs;
mod policy;
mod pooler;
mod postgres;
mod queries;
mod redis;
mod stack;
mod steps;
mod supply;
mod test;
mod tidy;
mod tools;
mod torture;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tests::{origin, secrets};

/// Builds, runs, tests and measures Tollgate.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
enum Task {
    /// Run everything on this machine: Postgres, the origin, and the edge under `wrangler dev`
    Up(stack::Settings),
    /// Run every test, with a Postgres, an origin and an edge of their own
    Test(test::Tests),
    /// Check everything that must hold before a change lands, the tests included
    Ci,
    /// Write what is deployed is made of: `sbom.json` (`CycloneDX`) in `origin` and `edge`
    Sbom,
    /// Check the rules that a program can check
    Tidy,
    /// Write .sqlx anew, after a query or a migration changed
    Queries,
    /// Look at what the edge is told of apps behind it
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Build the edge's worker into edge/build (Wrangler calls this by itself)
    Edge,
    /// Measure, side by side with others, and fail when a goal is missed
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Prove that no crash makes the ledger lose or double anything
    Torture(torture::Torture),
    /// Rehearse bad days under load: what happens, and how soon it is over
    Drill(drill::Drills),
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
        Task::Test(tests) => test::test(tests).await,
        Task::Ci => ci::ci().await,
        Task::Sbom => supply::list().await,
        Task::Tidy => tidy::tidy(),
        Task::Queries => queries::rewrite().await,
        Task::Policy(policy) => policy::run(&policy),
        Task::Edge => edge::build().await,
        Task::Bench(bench) => bench::run(bench).await,
        Task::Torture(options) => torture::torture(options).await,
        Task::Drill(drills) => drill::drill(&drills).await,
    }
}
