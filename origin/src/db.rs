//! The database as requests see it: a pool of connections that are `tollgate_app` from birth,
//! and transactions that act for one user under row-level security.

use std::time::Duration;

use shared::ids::UserId;
use sqlx::{
    PgPool, Postgres, Transaction,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

/// The schema that this build needs.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// How long a request waits for a connection before the database counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// A pool of connections under the runtime role.
#[derive(Clone)]
pub struct Db(PgPool);

impl Db {
    /// Connects when first asked, so that an outage is an answer and not a crash.
    pub fn new(options: PgConnectOptions, connections: u32) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // The pool notices a dead connection by the query that fails on it.
            .test_before_acquire(false)
            .connect_lazy_with(options.options([("role", "tollgate_app")]));
        Self(pool)
    }

    /// For what has no single user: definer functions, and keys.
    pub const fn pool(&self) -> &PgPool {
        &self.0
    }

    /// A transaction that sees and touches `user`'s rows alone.
    pub async fn as_user(&self, user: UserId) -> sqlx::Result<Transaction<'static, Postgres>> {
        let mut transaction = self.0.begin().await?;
        sqlx::query!(
            "SELECT set_config('tollgate.user', $1, true) AS user",
            user.to_string()
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(transaction)
    }

    /// Whether the schema is the one that this build needs.
    pub async fn is_current(&self) -> sqlx::Result<bool> {
        let version =
            sqlx::query_scalar!("SELECT max(version) FROM _sqlx_migrations WHERE success")
                .fetch_one(&self.0)
                .await?;
        Ok(version == MIGRATOR.iter().map(|migration| migration.version).max())
    }
}

/// Whether it was the database that failed, and not the query.
pub fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        // A line that is cut while Postgres is greeted is a protocol error.
        sqlx::Error::Io(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_) => true,
        // Connection exceptions, too many connections, and shutting down or starting up.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("08") || code.starts_with("57P") || code == "53300"
        }),
        _ => false,
    }
}
