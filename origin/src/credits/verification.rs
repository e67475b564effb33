//! Whether the ledger adds up: everything that is kept twice, compared in one snapshot.

use std::fmt;

use chrono::{DateTime, Utc};
use metrics::gauge;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{db::Db, rim};

use super::ledger;

/// What a look at the whole ledger found.
#[derive(Debug)]
pub struct Report {
    /// How much there is of what.
    pub figures: Vec<(String, i64)>,
    /// What does not add up; nothing should be here.
    pub differences: Vec<Difference>,
}

/// What the last look at the whole ledger said.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// When it was.
    pub at: DateTime<Utc>,
    /// How many rows differed.
    pub differences: usize,
}

/// One row that is not what it should be.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Which rule it breaks.
    pub rule: String,
    /// Whose wallet.
    pub user: Option<Uuid>,
    /// Which transaction or lot, if it is about one.
    pub version: Option<i64>,
    /// What it should be, in thousandths.
    pub expected: Option<i64>,
    /// What it is.
    pub actual: Option<i64>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DIFFERS: {}: user {}",
            self.rule,
            self.user.unwrap_or_default()
        )?;
        if let Some(version) = self.version {
            write!(f, ", version {version}")?;
        }
        let (expected, actual) = (
            self.expected.unwrap_or_default(),
            self.actual.unwrap_or_default(),
        );
        write!(f, ": {expected} expected, {actual} found")
    }
}

/// Looks at the whole ledger, by any role that may.
pub async fn run(db: &mut PgConnection) -> sqlx::Result<Report> {
    Ok(Report {
        differences: ledger::verify(db).await?,
        figures: ledger::figures(db).await?,
    })
}

/// As [`run`], with the result as numbers: `tollgate_ledger_differences` and when it was.
pub async fn run_and_count(db: &Db) -> sqlx::Result<Verified> {
    let mut connection = db.connect().await?;
    // It reads everything, and whoever waits for it is a timer.
    ledger::take_time(&mut connection).await?;
    let differences = ledger::verify(&mut connection).await?;
    for difference in &differences {
        tracing::error!(%difference, "the ledger does not add up");
    }
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!("tollgate_ledger_differences").set(differences.len() as f64);
    let verified = Verified {
        at: rim::now(),
        differences: differences.len(),
    };
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!("tollgate_ledger_verified_timestamp_seconds").set(verified.at.timestamp() as f64);
    Ok(verified)
}
