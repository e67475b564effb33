//! How this process is, for an admin to look at. What alerts read are the metrics.

use std::time::Duration;

use shared::ids::UserId;

use crate::{app::App, credits::verification::Verified};

use super::{Error, as_admin};

/// How this process is.
#[derive(Debug)]
pub struct Health {
    /// Connections to the database.
    pub connections: u32,
    /// How many of them wait for work.
    pub idle: usize,
    /// How many there may be.
    pub most_connections: u32,
    /// Charges and holds that wait to be written.
    pub ledger_queue: usize,
    /// What the last look at the whole ledger found, if this process has had one.
    pub verified: Option<Verified>,
    /// Tokens that end before their time, as long as they matter.
    pub revocations: usize,
    /// How old this process's copy of them is.
    pub revocations_age: Option<Duration>,
}

/// Looks, for an admin.
pub async fn health(app: &App, admin: UserId) -> Result<Health, Error> {
    as_admin(app, admin).await?;
    let pool = app.db.pool();
    Ok(Health {
        connections: pool.size(),
        idle: pool.num_idle(),
        most_connections: app.config.database_pool,
        ledger_queue: app.ledger.queued(),
        verified: app.ledger.last_verified(),
        revocations: app.revocations.kept(),
        revocations_age: app.revocations.age(),
    })
}
