//! What operators do at the command line, and what they are told: in words, or as JSON for a program.

mod parties;
mod people;

use std::{
    io::{self, Write, stdout},
    time::Duration,
};

use anyhow::Context;
use indicatif::ProgressBar;
use origin::{
    Finding, IDLE_LIMIT, MIGRATOR, check_up,
    cli::{ConfigTask, KeysTask, LedgerTask, Task},
    config::{Config, Database, Sealing},
    keys, openapi, reseal_second_factors, rim, verification,
};
use serde::Serialize;
use serde_json::json;
use sqlx::{Connection, PgConnection};

/// How often a bar moves that does not know how much there is to do.
const TICK: Duration = Duration::from_millis(100);

/// How what came of a task is told.
#[derive(Clone, Copy)]
pub struct Tell {
    /// As JSON.
    pub json: bool,
}

impl Tell {
    /// This value, or these lines.
    fn tell(
        self,
        value: &impl Serialize,
        lines: impl IntoIterator<Item = String>,
    ) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        let told = || -> io::Result<()> {
            if self.json {
                serde_json::to_writer_pretty(&mut out, value)?;
                return writeln!(out);
            }
            lines
                .into_iter()
                .try_for_each(|line| writeln!(out, "{line}"))
        };
        told().context("printing what came of it")
    }
}

/// Does any task but serving.
pub async fn run(task: Task, tell: Tell) -> anyhow::Result<()> {
    match task {
        Task::Serve(_) => unreachable!("serving is no command"),
        Task::Migrate(database) => {
            migrate(&database).await?;
            tell.tell(
                &json!({"migrated": true}),
                ["The schema is current.".to_owned()],
            )
        }
        Task::Config {
            task: ConfigTask::Check(config),
        } => check(&config, tell).await,
        Task::Apps { database, task } => parties::tend_apps(&database, task, tell).await,
        Task::Clients { database, task } => parties::tend_clients(&database, task, tell).await,
        Task::Packages { database, task } => parties::tend_packages(&database, task, tell).await,
        Task::Ledger {
            database,
            task: LedgerTask::Verify,
        } => verify(&database, tell).await,
        Task::Keys {
            database,
            sealing,
            task,
        } => tend_keys(&database, &sealing, task, tell).await,
        Task::Users { database, task } => people::tend(&database, task, tell).await,
        Task::Openapi => write!(stdout(), "{}", openapi::text()).context("printing it"),
    }
}

async fn connect(database: &Database) -> anyhow::Result<PgConnection> {
    let options = database.database_url.clone().options([IDLE_LIMIT]);
    PgConnection::connect_with(&options)
        .await
        .context("connecting to DATABASE_URL")
}

/// Brings the schema to what this program knows.
pub async fn migrate(database: &Database) -> anyhow::Result<()> {
    MIGRATOR
        .run(&mut connect(database).await?)
        .await
        .context("migrating the database")
}

/// Shows at a terminal that something goes on which may take minutes.
fn working(on: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(on);
    bar.enable_steady_tick(TICK);
    bar
}

async fn tend_keys(
    database: &Database,
    sealing: &Sealing,
    task: KeysTask,
    tell: Tell,
) -> anyhow::Result<()> {
    let (mut db, sealing) = (connect(database).await?, &sealing.key_encryption_key);
    match task {
        KeysTask::Rotate => keys::rotate(&mut db, sealing, rim::now()).await?,
        KeysTask::Revoke { kid } => keys::revoke(&mut db, sealing, &kid, rim::now()).await?,
        KeysTask::Reseal => {
            let bar = working("sealing anew");
            let keys = keys::reseal(&mut db, sealing).await?;
            let factors = reseal_second_factors(&mut db, sealing).await?;
            bar.finish_and_clear();
            return tell.tell(
                &json!({"signingKeys": keys, "authenticators": factors}),
                [format!(
                    "{keys} signing keys and {factors} authenticators sealed anew"
                )],
            );
        }
        KeysTask::List => {}
    }
    let keys = keys::list(&mut db).await?;
    let state = |key: &keys::Term| format!("{:?}", key.state).to_lowercase();
    let value = |key: &keys::Term| {
        let keys::Term {
            kid,
            kind,
            activate_at,
            ..
        } = key;
        json!({"kid": kid, "kind": kind.as_str(), "state": state(key), "activateAt": activate_at})
    };
    let values: Vec<_> = keys.iter().map(value).collect();
    let lines = keys.iter().map(|key| {
        let (kind, state) = (key.kind.as_str(), state(key));
        format!(
            "{}  {kind}  {state:<8}  signs from {}",
            key.kid, key.activate_at
        )
    });
    tell.tell(&values, lines)
}

/// Tells what is good and what is not, and fails if anything is not.
async fn check(config: &Config, tell: Tell) -> anyhow::Result<()> {
    let findings = check_up(config).await;
    let values = findings.iter().map(|Finding { what, outcome }| {
        let (Ok(says) | Err(says)) = outcome;
        json!({"what": what, "good": outcome.is_ok(), "says": says})
    });
    let values: Vec<_> = values.collect();
    let lines = findings
        .iter()
        .map(|Finding { what, outcome }| match outcome {
            Ok(good) => format!("good  {what}: {good}"),
            Err(bad) => format!("BAD   {what}: {bad}"),
        });
    tell.tell(&values, lines)?;
    let bad = findings.iter().filter(|finding| finding.outcome.is_err());
    let bad = bad.count();
    anyhow::ensure!(bad == 0, "{bad} to be mended");
    Ok(())
}

/// Tells the figures, and fails with the rows that differ.
async fn verify(database: &Database, tell: Tell) -> anyhow::Result<()> {
    let mut db = connect(database).await?;
    let bar = working("comparing all that is kept twice");
    let report = verification::run(&mut db).await?;
    bar.finish_and_clear();
    let figures = report.figures.iter();
    let figures: serde_json::Map<_, _> = figures
        .map(|(figure, value)| (figure.clone(), (*value).into()))
        .collect();
    let value = json!({"figures": figures, "differences": report.differences});
    let count = report.differences.len();
    let lines = report.figures.iter();
    let lines = lines.map(|(figure, value)| format!("{value:>20}  {figure}"));
    let lines = lines.chain(report.differences.iter().map(ToString::to_string));
    let end = (count == 0).then(|| "Everything adds up.".to_owned());
    tell.tell(&value, lines.chain(end))?;
    anyhow::ensure!(count == 0, "{count} rows differ");
    Ok(())
}
