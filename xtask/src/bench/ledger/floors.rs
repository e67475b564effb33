//! What this Postgres can do by itself, measured by its own `pgbench`.

use std::{
    env,
    fs::{self, read_dir},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use sqlx::{Connection, PgConnection, raw_sql};
use tokio::process::Command;

use super::{field::Field, users::User};
use crate::tools::output;

/// A million accounts.
const SCALE: &str = "10";
const ONE_ROW: &str = "UPDATE one_row SET n = n + 1;\n";
/// The ledger's statement for one charge.
const SPEND: &str = include_str!("spend.sql");

/// `pgbench`, and what it runs on: the ledger's server, in a database beside.
pub struct Floors {
    pgbench: PathBuf,
    ledger_url: String,
    url: String,
    folder: PathBuf,
}

impl Floors {
    /// Fills the database beside; scripts and logs go to `folder`.
    pub async fn prepare(pgbench: PathBuf, field: &Field, folder: &Path) -> Result<Self> {
        fs::write(folder.join("one_row.sql"), ONE_ROW)?;
        fs::write(folder.join("spend.sql"), SPEND)?;
        let floors = Self {
            pgbench,
            ledger_url: field.database_url.clone(),
            url: field.empty_url.clone(),
            folder: folder.to_owned(),
        };
        let mut fill = floors.pgbench(&floors.url);
        fill.args(["--initialize", "--quiet", "--scale", SCALE]);
        output(&mut fill).await?;
        let mut database = PgConnection::connect(&floors.url).await?;
        raw_sql("CREATE TABLE one_row AS SELECT 0 AS n")
            .execute(&mut database)
            .await?;
        database.close().await?;
        Ok(floors)
    }

    /// Transactions a second of pgbench's own `simple-update`, by 32 clients.
    pub async fn simple_update(&self, within: Duration) -> Result<f64> {
        let mut pgbench = self.measure(&self.url, 32, within);
        pgbench.args(["--builtin", "simple-update"]);
        rate(&output(&mut pgbench).await?)
    }

    /// How often a second 32 clients update one row.
    pub async fn one_row(&self, within: Duration) -> Result<f64> {
        let mut pgbench = self.measure(&self.url, 32, within);
        pgbench.arg("--file").arg(self.folder.join("one_row.sql"));
        rate(&output(&mut pgbench).await?)
    }

    /// How long each of the ledger's statements took, with one charge and one commit each, sent
    /// one after the other over one connection.
    pub async fn bare_statement(&self, user: &User, within: Duration) -> Result<Vec<Duration>> {
        let [user, session] = user.ids()?;
        let log = tempfile::tempdir_in(&self.folder)?;
        let mut pgbench = self.measure(&self.ledger_url, 1, within);
        pgbench.arg("--file").arg(self.folder.join("spend.sql"));
        pgbench.args(["--define", &format!("user={user}")]);
        pgbench.args(["--define", &format!("session={session}")]);
        pgbench
            .arg("--log")
            .arg("--log-prefix")
            .arg(log.path().join("log"));
        output(&mut pgbench).await?;
        let mut latencies = Vec::new();
        for file in read_dir(log.path())? {
            for line in fs::read_to_string(file?.path())?.lines() {
                latencies.push(
                    logged_latency(line).with_context(|| format!("pgbench logged {line:?}"))?,
                );
            }
        }
        Ok(latencies)
    }

    /// Under the same terms as the origin, which prepares its statements too.
    fn measure(&self, url: &str, clients: u32, within: Duration) -> Command {
        let mut pgbench = self.pgbench(url);
        pgbench.args(["--no-vacuum", "--protocol=prepared", "--jobs=2"]);
        pgbench.args(["--client", &clients.to_string()]);
        pgbench.args(["--time", &within.as_secs().to_string()]);
        pgbench
    }

    fn pgbench(&self, url: &str) -> Command {
        let mut pgbench = Command::new(&self.pgbench);
        // libpq reads its database from there, and `ps` shows it to nobody.
        pgbench.env("PGDATABASE", url);
        pgbench
    }
}

/// Where `pgbench` is: in the path, or where Debian keeps it.
pub fn find_pgbench() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    let versions = read_dir("/usr/lib/postgresql").into_iter().flatten();
    folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    folders
        .into_iter()
        .map(|folder| folder.join("pgbench"))
        .find(|pgbench| pgbench.is_file())
        .context("the floors are measured by pgbench, which comes with Postgres: install it, or add its folder to PATH")
}

/// Out of what pgbench says at its end.
fn rate(said: &str) -> Result<f64> {
    said.lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
        .with_context(|| format!("pgbench said no rate: {said}"))
}

/// Of a transaction: its client, its number, and how many microseconds it took.
fn logged_latency(line: &str) -> Option<Duration> {
    Some(Duration::from_micros(line.split(' ').nth(2)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_prints_is_read() {
        let said = "latency average = 0.352 ms\ntps = 2839.421 (without initial connection time)\n";
        assert_eq!(rate(said).ok(), Some(2839.421));
        assert!(rate("pgbench: error").is_err());
        let logged = logged_latency("0 199 2241 0 1175850568 995598");
        assert_eq!(logged, Some(Duration::from_micros(2241)));
    }
}
