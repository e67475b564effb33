//! `bench ledger`: `POST /credits/use` over HTTP, beside what the same Postgres can do by itself
//! in the same run. Answers are checked one by one, and after each load the books.

mod field;
mod floors;
mod load;
mod picks;
mod users;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use tokio::task::block_in_place;

use self::{
    field::Field,
    floors::{Floors, find_pgbench},
    load::Outcome,
    picks::Spread,
    users::Users,
};
use super::{Figure, Goal, median};
use crate::{tools, up};

const ROUNDS: usize = 3;
const CONNECTIONS: [usize; 4] = [1, 8, 64, 256];
const ONE_CREDIT: i64 = 1000;
const MAX_P99: Duration = Duration::from_millis(25);

const SIMPLE_UPDATE: &str = "simple-update, 32 clients";
const ONE_ROW: &str = "one-row UPDATE, 32 clients";
const BARE: &str = "the bare statement";

/// Runs every case.
pub async fn measure(seconds: u64) -> Result<Vec<Figure>> {
    let pgbench = find_pgbench()?;
    tools::install_node_modules().await?;
    let build = ["build", "--release", "--package", "origin"];
    tools::run(&mut tools::cargo(&build)).await?;
    let data = tempfile::tempdir()?;
    // Postgres may run as another user, who must be able to walk in. The secrets are files that
    // only we read.
    fs::set_permissions(data.path(), Permissions::from_mode(0o755))?;
    let field = Field::start(data.path()).await?;
    let measured = tokio::select! {
        measured = Bench::run(&field, pgbench, data.path(), Duration::from_secs(seconds)) => measured,
        told = up::told_to_stop() => told.and_then(|()| bail!("stopped before the end")),
    };
    field.stop().await;
    measured
}

/// All that takes part.
struct Bench<'a> {
    field: &'a Field,
    floors: Floors,
    users: Users,
    within: Duration,
}

/// What one round measured. Latencies are medians, in microseconds.
#[derive(Default)]
struct Round {
    simple_update: f64,
    one_row: f64,
    bare_statement: f64,
    one_connection: f64,
    /// Uses a second, in the order of [`loads`].
    rates: Vec<f64>,
}

/// Every spread by every number of connections.
fn loads() -> impl Iterator<Item = (Spread, usize)> {
    let spreads = Spread::ALL.into_iter();
    spreads.flat_map(|spread| CONNECTIONS.map(|connections| (spread, connections)))
}

impl<'a> Bench<'a> {
    async fn run(
        field: &'a Field,
        pgbench: PathBuf,
        folder: &Path,
        within: Duration,
    ) -> Result<Vec<Figure>> {
        eprintln!("making users");
        let mut bench = Self {
            users: block_in_place(|| Users::make(&field.address))?,
            floors: Floors::prepare(pgbench, field, folder).await?,
            field,
            within,
        };
        let mut rounds = Vec::new();
        for number in 1..=ROUNDS {
            eprintln!("round {number} of {ROUNDS}");
            rounds.push(bench.round(number).await?);
        }
        let mut figures = throughput(&rounds);
        let beside_bare = one_connection(&rounds);
        let peak = figures
            .iter()
            .find(|figure| figure.case == case(Spread::Uniform, 64));
        let peak = peak.context("it was measured")?.ours;
        figures.extend(bench.half_of(peak, beside_bare.theirs).await?);
        figures.push(beside_bare);
        Ok(figures)
    }

    /// Every load, with the floors that have a goal beside their loads: before them in one round
    /// and after them in the next, since whoever is second waits for what the first has dirtied.
    async fn round(&mut self, number: usize) -> Result<Round> {
        let floors_first = number % 2 == 1;
        let mut round = Round::default();
        let within = self.within;
        for (spread, connections) in loads() {
            if floors_first {
                self.floor_of(spread, connections, &mut round).await?;
            }
            let turns = spread.draw(self.users.rich.len());
            let outcome = self
                .load(&case(spread, connections), |users| {
                    load::closed(users, &turns, connections, within)
                })
                .await?;
            round.rates.push(outcome.rate());
            if !floors_first {
                self.floor_of(spread, connections, &mut round).await?;
            }
        }
        self.latencies(&mut round).await?;
        Ok(round)
    }

    async fn floor_of(&self, spread: Spread, connections: usize, round: &mut Round) -> Result<()> {
        match (spread, connections) {
            (Spread::Uniform, 64) => {
                round.simple_update = self.floors.simple_update(self.within).await?;
                eprintln!("  {SIMPLE_UPDATE}: {:.0}/s", round.simple_update);
            }
            (Spread::OneUser, 64) => {
                round.one_row = self.floors.one_row(self.within).await?;
                eprintln!("  {ONE_ROW}: {:.0}/s", round.one_row);
            }
            _ => {}
        }
        Ok(())
    }

    /// The bare statement and a use of the same wallet, one after the other over one connection each, in
    /// turns of a second, and the other one first each time.
    async fn latencies(&mut self, round: &mut Round) -> Result<()> {
        let turn = Duration::from_secs(1);
        // Nobody's whom the loads before have charged more than others.
        let turns = [self.users.rich.len() - 1];
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for number in 0..2 * self.within.as_secs() {
            // Bare, ours, ours, bare, and so on.
            if number % 4 == 0 || number % 4 == 3 {
                let user = self.users.rich.last().context("somebody is rich")?;
                bare.extend(self.floors.bare_statement(user, turn).await?);
            } else {
                let use_of = |users: &Users| load::closed(users, &turns, 1, turn);
                ours.extend(self.load("a use alone", use_of).await?.latencies);
            }
        }
        round.bare_statement = percentile(bare, 50)?;
        round.one_connection = percentile(ours, 50)?;
        eprintln!(
            "  {BARE}: {:.0} µs, a use: {:.0} µs",
            round.bare_statement, round.one_connection
        );
        Ok(())
    }

    /// How long a use takes while half as many come as the ledger could take.
    async fn half_of(&mut self, peak: f64, bare_statement: f64) -> Result<[Figure; 2]> {
        let turns = Spread::Uniform.draw(self.users.rich.len());
        let within = self.within;
        let mut p50s = Vec::new();
        let mut p99s = Vec::new();
        for _ in 0..ROUNDS {
            let outcome = self
                .load("half of the peak", |users| {
                    load::scheduled(users, &turns, peak / 2.0, within)
                })
                .await?;
            eprintln!("    {} of {} were sent late", outcome.late, outcome.uses);
            p50s.push(percentile(outcome.latencies.clone(), 50)?);
            p99s.push(percentile(outcome.latencies, 99)?);
        }
        let limit = MAX_P99.as_secs_f64() * 1e6;
        let figure = |percent: &str, latencies, peer, goal| {
            let case = format!("half of the peak, {percent}");
            figure(case, "µs", median(latencies), peer, goal)
        };
        Ok([
            figure("p50", p50s, (BARE, bare_statement), None),
            figure("p99", p99s, ("limit", limit), Some(Goal::AtMost(1.0))),
        ])
    }

    /// Runs a load and checks the books behind it: a figure of a ledger that is wrong is void.
    async fn load(
        &mut self,
        what: &str,
        load: impl FnOnce(&Users) -> Result<Outcome>,
    ) -> Result<Outcome> {
        block_in_place(|| self.users.stay_signed_in())?;
        let before = self.field.counts().await?;
        let cpu_before = cpu_secs()?;
        let outcome = block_in_place(|| load(&self.users)).with_context(|| what.to_owned())?;
        let cpu = cpu_secs()? - cpu_before;
        let after = self.field.counts().await?;
        let (charged, spent) = (
            i64::from(outcome.charges) * ONE_CREDIT,
            after.spent - before.spent,
        );
        ensure!(
            spent == charged,
            "{what}: {charged} thousandths were charged by the answers, and {spent} by the ledger"
        );
        self.field.verify().await?;

        let uses = f64::from(outcome.uses);
        eprintln!(
            "  {what}: {:.0} uses/s, {:.3} round trips and {:.3} commits a use; the generator took {:.0} % of a core",
            outcome.rate(),
            (after.round_trips - before.round_trips) / uses,
            (after.commits - before.commits) / uses,
            100.0 * cpu / outcome.took.as_secs_f64(),
        );
        Ok(outcome)
    }
}

/// The processor time that this process has used, which is the generator's, in seconds.
fn cpu_secs() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let used = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(used.num_microseconds().try_into()?).as_secs_f64())
}

fn case(spread: Spread, connections: usize) -> String {
    match connections {
        1 => format!("{spread}, 1 connection"),
        _ => format!("{spread}, {connections} connections"),
    }
}

/// Each load beside the floor that is like it.
fn throughput(rounds: &[Round]) -> Vec<Figure> {
    let simple_update: fn(&Round) -> f64 = |round| round.simple_update;
    let one_row: fn(&Round) -> f64 = |round| round.one_row;
    let figure = |(at, (spread, connections))| {
        let (peer, floor, goal) = match (spread, connections) {
            (Spread::Uniform, 64) => (SIMPLE_UPDATE, simple_update, Some(Goal::AtLeast(2.0))),
            (Spread::OneUser, 64) => (ONE_ROW, one_row, Some(Goal::AtLeast(8.0))),
            (Spread::OneUser, _) => (ONE_ROW, one_row, None),
            _ => (SIMPLE_UPDATE, simple_update, None),
        };
        let (ours, theirs) = middle_pair(rounds, |round| (round.rates[at], floor(round)));
        let case = case(spread, connections);
        figure(case, "uses/s", ours, (peer, theirs), goal)
    };
    loads().enumerate().map(figure).collect()
}

/// What HTTP and Rust add to the statement when nothing else is going on.
fn one_connection(rounds: &[Round]) -> Figure {
    let pair = |round: &Round| (round.one_connection, round.bare_statement);
    let (ours, bare_statement) = middle_pair(rounds, pair);
    figure(
        "one connection, p50".to_owned(),
        "µs",
        ours,
        (BARE, bare_statement),
        Some(Goal::AtMost(1.3)),
    )
}

/// The two of the round whose ratio is the median: they were measured side by side, on a machine that
/// may be half as fast in the next round.
fn middle_pair(rounds: &[Round], pair: impl Fn(&Round) -> (f64, f64)) -> (f64, f64) {
    let mut pairs: Vec<_> = rounds.iter().map(pair).collect();
    pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    pairs[pairs.len() / 2]
}

fn figure(
    case: String,
    unit: &'static str,
    ours: f64,
    (peer, theirs): (&'static str, f64),
    goal: Option<Goal>,
) -> Figure {
    Figure {
        bench: "ledger",
        case,
        unit,
        ours,
        peer,
        theirs,
        ratio: ours / theirs,
        goal,
    }
}

/// The smallest that so many in a hundred do not exceed, in microseconds.
fn percentile(mut latencies: Vec<Duration>, percent: usize) -> Result<f64> {
    latencies.sort_unstable();
    let rank = (latencies.len() * percent).div_ceil(100);
    let at = latencies.get(rank.saturating_sub(1));
    Ok(at.context("nothing was charged")?.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A load is not held to the floor of another round.
    #[test]
    fn the_middle_pair_is_of_one_round() {
        let round = |rate, one_row| Round {
            rates: vec![rate],
            one_row,
            ..Round::default()
        };
        let rounds = [round(9.0, 1.0), round(32.0, 4.0), round(12.0, 2.0)];
        let middle = middle_pair(&rounds, |round| (round.rates[0], round.one_row));
        assert_eq!(middle, (32.0, 4.0));
    }

    #[test]
    fn a_percentile_is_one_of_the_latencies() {
        let latencies: Vec<_> = (1..=200).rev().map(Duration::from_micros).collect();
        for (percent, expected) in [(1, 2.0), (50, 100.0), (99, 198.0), (100, 200.0)] {
            let found = percentile(latencies.clone(), percent).expect("there are latencies");
            assert!((found - expected).abs() < 1e-6, "{percent}: {found}");
        }
        let only = vec![Duration::from_micros(7)];
        assert!(percentile(only, 99).is_ok_and(|only| (only - 7.0).abs() < 1e-6));
        assert!(percentile(Vec::new(), 50).is_err());
    }
}
