//! What is measured: an origin as it is deployed, on a Postgres that waits for the disk, and
//! what both have counted.

use std::path::{Path, PathBuf};

use ::tests::free_ports;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sqlx::{PgPool, query_as, raw_sql};
use tokio::process::Command;

use super::users::SIGNUP_BONUS;
use crate::{
    children::Child,
    origin::{self, Origin},
    postgres::{self, Durability},
    secrets::Secrets,
    tools,
};

/// The programs.
pub struct Field {
    /// Where the origin listens.
    pub address: String,
    /// The ledger's database, as its owner.
    pub database_url: String,
    /// An empty database on the same server.
    pub empty_url: String,
    program: PathBuf,
    metrics_url: String,
    database: PgPool,
    postgres: Child,
    origin: Child,
}

/// What was counted since both were started.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// What all users have spent, in thousandths.
    pub spent: i64,
    /// Transactions that wrote something.
    pub commits: f64,
    /// Calls of the ledger's statement.
    pub round_trips: f64,
}

impl Field {
    /// Starts everything in a folder of its own.
    pub async fn start(data_dir: &Path) -> Result<Self> {
        let program = tools::target_dir().join("release/origin");
        let secrets = Secrets::load_or_make(data_dir)?;
        let (postgres, database_url) =
            postgres::start(data_dir, &secrets, Durability::Full).await?;
        let [_, port] = free_ports()?;
        let address = format!("127.0.0.1:{port}");
        let mut command = Origin {
            program: &program,
            port,
            public_url: &format!("http://{address}"),
            database_url: &database_url,
            limit_scale: 1_000_000,
            secrets: &secrets,
        }
        .serve()?;
        // Signing up is not what is measured, nor is logging.
        command
            .env("ARGON2_MEMORY_KIB", "8")
            .env("ARGON2_PASSES", "1")
            .env("ARGON2_LANES", "1")
            .env("CREDITS_SIGNUP_BONUS", SIGNUP_BONUS.to_string())
            .env("CREDITS_DAILY", "0")
            .env("RUST_LOG", "warn")
            // Three programs share two cores: as docs/SCALING.md says for such a machine.
            .env("TOKIO_WORKER_THREADS", "1");
        let mut origin = Child::start("origin", command, Signal::SIGTERM, data_dir)?;
        origin.answers(&origin::ready_url(port)).await?;
        let database = PgPool::connect(&database_url).await?;
        raw_sql("CREATE DATABASE empty").execute(&database).await?;
        let server = database_url.strip_suffix("postgres");
        Ok(Self {
            address,
            empty_url: format!("{}empty", server.context("the URL names its database")?),
            database_url,
            program,
            metrics_url: origin::metrics_url(port),
            database,
            postgres,
            origin,
        })
    }

    /// What has been counted up to now, while nothing is asked.
    ///
    /// Each transaction that writes takes the next id, so that ids count the commits to the
    /// moment. `pg_stat_database` would be up to ten seconds behind.
    pub async fn counts(&self) -> Result<Counts> {
        let (spent, commits) = query_as(
            "SELECT (SELECT sum(total_spent) FROM credits.balances)::bigint,
                    pg_snapshot_xmax(pg_current_snapshot())::text::float8",
        )
        .fetch_one(&self.database)
        .await?;
        let metrics = reqwest::get(&self.metrics_url).await?.text().await?;
        let round_trips = metric(&metrics, "tollgate_ledger_batches_total");
        Ok(Counts {
            spent,
            commits,
            round_trips: round_trips.context("the origin counts its batches")?,
        })
    }

    /// An error unless the whole ledger adds up.
    pub async fn verify(&self) -> Result<()> {
        let mut verify = Command::new(&self.program);
        verify.args(["ledger", "verify"]);
        verify.env("DATABASE_URL", &self.database_url);
        let verified = verify.kill_on_drop(true).output().await?;
        ensure!(
            verified.status.success(),
            "the ledger does not add up ({}):\n{}",
            verified.status,
            String::from_utf8_lossy(&verified.stdout)
        );
        Ok(())
    }

    /// Stops everything.
    pub async fn stop(self) {
        self.database.close().await;
        self.origin.stop().await;
        self.postgres.stop().await;
    }
}

/// A counter's value in Prometheus's text.
fn metric(text: &str, name: &str) -> Option<f64> {
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::metric;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let text = "# TYPE calls_total counter\ncalls_total_all 7\ncalls_total 12\n";
        assert_eq!(metric(text, "calls_total"), Some(12.0));
        assert_eq!(metric(text, "calls"), None);
    }
}
