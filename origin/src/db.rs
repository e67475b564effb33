//! The database as requests see it: a pool of connections that are `tollgate_app` from birth,
//! and transactions that act for one user under row-level security.

mod pool;

use std::{cmp::Ordering, sync::Arc, time::Duration};

use shared::ids::UserId;
use sqlx::{
    Connection, PgConnection, Postgres, Transaction,
    error::DatabaseError,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

pub use pool::Pool;

/// The schema that this build needs.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// How long a request waits for a connection before the database counts as away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// What every connection starts with: the runtime role, and an end to every statement, so that
/// what a client no longer waits for does not go on.
const OPTIONS: [(&str, &str); 3] = [
    ("role", "tollgate_app"),
    ("statement_timeout", "8s"),
    IDLE_LIMIT,
];
/// A process that is gone without a word holds its locks no longer.
pub const IDLE_LIMIT: (&str, &str) = ("idle_in_transaction_session_timeout", "20s");

/// The longest turn of what a process does by itself from time to time. What takes longer waits on a line
/// on which nothing will ever come.
const LONGEST_TURN: Duration = Duration::from_mins(1);

/// Why nothing may be written that acts for somebody.
#[derive(Debug, thiserror::Error)]
pub enum NotWriting {
    /// Their account was deleted or disabled meanwhile.
    #[error("the account is gone or disabled")]
    NotActive,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Connections under the runtime role.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    // Shared: every request clones its state, several times.
    options: Arc<PgConnectOptions>,
}

impl Db {
    /// Connects when first asked, so that an outage is an answer and not a crash. Requests go by the
    /// pooler, where there is one; its user is the runtime role, with an end to every statement.
    pub fn new(
        options: PgConnectOptions,
        pooler: Option<PgConnectOptions>,
        connections: u32,
    ) -> Self {
        let options = options.options(OPTIONS);
        let is_lent = pooler.is_some();
        let shared = match pooler {
            // What poolers take of it.
            Some(pooler) => pooler.statement_cache_capacity(0).extra_float_digits(None),
            None => options.clone(),
        };
        let connections = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // The pool notices a dead connection by the query that fails on it.
            .test_before_acquire(false)
            .connect_lazy_with(shared);
        Self {
            pool: Pool::new(connections, is_lent),
            options: Arc::new(options),
        }
    }

    /// A connection of one's own, outside the pool and past any pooler.
    pub async fn connect(&self) -> sqlx::Result<PgConnection> {
        timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&self.options))
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
    }

    /// For what has no single user: definer functions, and keys.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A transaction that sees `user`'s rows alone, to read them.
    pub async fn as_user(&self, user: UserId) -> sqlx::Result<Transaction<'static, Postgres>> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query!(
            r#"SELECT set_config('tollgate.user', $1, true) AS "user""#,
            user.to_string()
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(transaction)
    }

    /// A transaction that sees and touches `user`'s rows alone, and that may write: nobody else
    /// changes anything of theirs until it ends, and they are not gone meanwhile.
    pub async fn writing_as(
        &self,
        user: UserId,
    ) -> Result<Transaction<'static, Postgres>, NotWriting> {
        let mut transaction = self.pool.begin().await?;
        let is_active =
            sqlx::query_scalar!(r#"SELECT auth.act_for($1) AS "is_active!""#, user.uuid())
                .fetch_one(&mut *transaction)
                .await?;
        if is_active {
            Ok(transaction)
        } else {
            Err(NotWriting::NotActive)
        }
    }

    /// Whether the schema has what this build needs: it is the one that it knows, or a newer one, which
    /// takes nothing away from processes of before.
    pub async fn is_current(&self) -> sqlx::Result<bool> {
        let version =
            sqlx::query_scalar!("SELECT max(version) FROM _sqlx_migrations WHERE success")
                .fetch_one(&self.pool)
                .await?;
        Ok(version >= MIGRATOR.iter().map(|migration| migration.version).max())
    }
}

/// How a schema stands to the one that this build knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Schema {
    /// It is the same.
    Current,
    /// There is none, or an older one.
    Older,
    /// A later build has migrated it.
    Newer,
}

/// Looks at the schema.
pub async fn schema(db: &mut PgConnection) -> sqlx::Result<Schema> {
    let is_there =
        sqlx::query_scalar!(r#"SELECT to_regclass('_sqlx_migrations') IS NOT NULL AS "is_there!""#)
            .fetch_one(&mut *db)
            .await?;
    if !is_there {
        return Ok(Schema::Older);
    }
    let version = sqlx::query_scalar!("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(db)
        .await?;
    let ours = MIGRATOR.iter().map(|migration| migration.version).max();
    Ok(match version.cmp(&ours) {
        Ordering::Less => Schema::Older,
        Ordering::Equal => Schema::Current,
        Ordering::Greater => Schema::Newer,
    })
}

/// What the role of a pooler is.
pub struct Pooled {
    /// Whether it may what requests may.
    pub is_runtime: bool,
    /// Whether it may more.
    pub is_more: bool,
    /// Whether its statements and idle transactions end by themselves.
    pub has_end: bool,
}

/// Looks at it.
pub async fn pooled(db: &Pool) -> sqlx::Result<Pooled> {
    sqlx::query_as!(
        Pooled,
        r#"SELECT pg_has_role('tollgate_app', 'USAGE') AS "is_runtime!",
                  rolsuper OR rolbypassrls OR rolcreaterole AS "is_more!",
                  current_setting('statement_timeout') <> '0'
                  AND current_setting('idle_in_transaction_session_timeout') <> '0' AS "has_end!"
           FROM pg_roles WHERE rolname = current_user"#
    )
    .fetch_one(db)
    .await
}

/// Whether it was the database that failed, and not the query.
pub fn is_outage(error: &sqlx::Error) -> bool {
    if was_cut_short(error) {
        return true;
    }
    match error {
        // A line that is cut while Postgres is greeted is a protocol error.
        sqlx::Error::Io(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::Protocol(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed => true,
        // Connection exceptions, no more of something (room, memory, connections), shutting down or
        // starting up, what the system under it refused, and a transaction that idled too long.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "53", "57P", "58", "25P03"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// Whether Postgres ended a statement that took too long or would have waited for ever. Nothing
/// of it was done.
pub fn was_cut_short(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| ["57014", "40P01", "55P03"].contains(&code.as_ref()))
}

/// One turn of what is done from time to time; an error if the database does not answer at all.
pub async fn turn<T, E: From<sqlx::Error>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(LONGEST_TURN, work)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
}

/// Gives this connection's statements less time than others have.
pub async fn hurry(db: &mut PgConnection, longest: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT set_config('statement_timeout', $1, false) AS was",
        longest.as_millis().to_string()
    )
    .fetch_one(db)
    .await?;
    Ok(())
}
