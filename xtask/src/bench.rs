//! `cargo xtask bench`: what Tollgate's speed is, against its goals and beside its peers.
//!
//! Figures are only worth something side by side: all contestants run at once and take turns,
//! and of several rounds the median counts. A goal is a ratio, which holds on a noisy machine.

mod code_flow;
mod edge;
mod ledger;
mod limits;
mod load;
mod replicas;
mod sign_in;
mod spin;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;

/// What can be measured.
#[derive(Subcommand)]
pub enum Bench {
    /// The worker under workerd: warm and cold tokens, forwarding, size
    Edge(Options),
    /// What a quota admits that each isolate counts for itself
    Limits(Options),
    /// The component under a WASI host, beside one that only answers
    Spin(Options),
    /// The origin's ledger over HTTP on a Postgres of its own: throughput, latency, and whether
    /// every credit is accounted for
    Ledger(Options),
    /// Signing in beside bare argon2, keeping a session beside better-auth, and relying parties
    SignIn(Options),
    /// Refreshes at two origins behind a balancer, beside one; needs root, for control groups
    Replicas(Options),
}

/// How to measure.
#[derive(Args, Clone, Copy)]
pub struct Options {
    /// Print one line of JSON a figure instead of a table
    #[arg(long)]
    json: bool,
    /// How long each contestant is measured in each round
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// Measures, prints, and fails when a goal is missed.
pub async fn run(bench: Bench) -> Result<()> {
    let (options, figures) = match bench {
        Bench::Edge(options) => (options, edge::measure(options.seconds).await?),
        Bench::Limits(options) => (options, limits::measure().await?),
        Bench::Spin(options) => (options, spin::measure(options.seconds).await?),
        Bench::Ledger(options) => (options, ledger::measure(options.seconds).await?),
        Bench::SignIn(options) => (options, sign_in::measure(options.seconds).await?),
        Bench::Replicas(options) => (options, replicas::measure(options.seconds).await?),
    };
    if options.json {
        for figure in &figures {
            println!("{}", serde_json::to_string(figure)?);
        }
    } else {
        print_table(&figures);
    }
    let goals = figures.iter().filter(|figure| figure.goal.is_some());
    let missed = figures.iter().filter(|figure| !figure.is_met()).count();
    ensure!(missed == 0, "{missed} of {} goals missed", goals.count());
    Ok(())
}

/// One measurement of ours beside a peer's, or beside a limit.
#[derive(Serialize)]
struct Figure {
    bench: &'static str,
    case: String,
    unit: &'static str,
    ours: f64,
    peer: &'static str,
    theirs: f64,
    /// Ours by theirs.
    ratio: f64,
    /// Without one it is there for the picture.
    #[serde(flatten)]
    goal: Option<Goal>,
}

/// What the ratio should be.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Goal {
    /// At least this.
    #[serde(rename = "goal")]
    AtLeast(f64),
    /// At most this.
    #[serde(rename = "goal_at_most")]
    AtMost(f64),
}

impl Figure {
    fn is_met(&self) -> bool {
        match self.goal {
            Some(Goal::AtLeast(least)) => self.ratio >= least,
            Some(Goal::AtMost(most)) => self.ratio <= most,
            None => true,
        }
    }
}

/// The middle one of an odd number of measurements.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print_table(figures: &[Figure]) {
    let width = |text: fn(&Figure) -> &str| {
        let widths = figures.iter().map(|figure| text(figure).chars().count());
        widths.max().unwrap_or_default().max("case".len())
    };
    let (cases, peers) = (width(|figure| &figure.case), width(|figure| figure.peer));
    println!(
        "{:<cases$} {:>10}  {:<peers$} {:>10}  {:>6}  {:<8}",
        "case", "ours", "peer", "theirs", "ratio", "goal"
    );
    for figure in figures {
        let goal = match figure.goal {
            Some(Goal::AtLeast(least)) => format!("≥ {least}"),
            Some(Goal::AtMost(most)) => format!("≤ {most}"),
            None => String::new(),
        };
        println!(
            "{:<cases$} {:>10.0}  {:<peers$} {:>10.0}  {:>6.2}  {goal:<8} {} {}",
            figure.case,
            figure.ours,
            figure.peer,
            figure.theirs,
            figure.ratio,
            figure.unit,
            if figure.is_met() { "" } else { "MISSED" },
        );
    }
}
