//! The connections that requests share: of this process, or those of a pooler that several processes
//! share (PgBouncer in transaction mode). A pooler lends a connection for a transaction at a time, and
//! what one of them has prepared is not there in the next. So each query is a transaction there, and
//! what it prepares has no name.

use futures_util::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Describe, Either, Error, Execute, Executor, PgPool, Postgres, SqlStr, Transaction,
    postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};

/// The connections.
#[derive(Clone, Debug)]
pub struct Pool {
    connections: PgPool,
    is_lent: bool,
}

impl Pool {
    pub(super) const fn new(connections: PgPool, is_lent: bool) -> Self {
        Self {
            connections,
            is_lent,
        }
    }

    /// Begins a transaction. It goes on when the caller is gone, until the transaction is known to be open
    /// and is rolled back. sqlx (0.9.0, its issue 4393) forgets one whose beginning was sent and not waited
    /// for: the connection's next user would write into it, and be told of success, without anybody to
    /// commit that.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, Error> {
        let connection = self.connections.acquire().await?;
        tokio::spawn(Transaction::begin(connection, None))
            .await
            .unwrap_or(Err(Error::WorkerCrashed))
    }

    /// How many connections there are.
    pub fn size(&self) -> u32 {
        self.connections.size()
    }

    /// How many of them nobody uses.
    pub fn num_idle(&self) -> usize {
        self.connections.num_idle()
    }
}

/// A query that leaves nothing prepared behind.
struct Once<E>(E);

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Once<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.0.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, sqlx::error::BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}

impl<'p> Executor<'p> for &'_ Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if !self.is_lent {
            return (&self.connections).fetch_many(query);
        }
        let pool = self.clone();
        let whole = async move {
            let mut transaction = pool.begin().await?;
            let steps = (&mut *transaction).fetch_many(Once(query));
            let steps: Vec<_> = steps.try_collect().await?;
            transaction.commit().await?;
            Ok::<_, Error>(stream::iter(steps.into_iter().map(Ok)))
        };
        whole.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if !self.is_lent {
            return (&self.connections).fetch_optional(query);
        }
        let pool = self.clone();
        let whole = async move {
            let mut transaction = pool.begin().await?;
            let row = (&mut *transaction).fetch_optional(Once(query)).await?;
            transaction.commit().await?;
            Ok(row)
        };
        whole.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        (&self.connections).prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        (&self.connections).describe(sql)
    }
}
