//! Writes batches, and answers each operation once what became of it is on disk.
//!
//! A lane's batch is committed without a wait for the disk, so that the rows which it holds are
//! free and the next batch can begin; one flush then makes durable all that the lanes have
//! written meanwhile, and only then is anybody answered. Should the flush fail, nobody knows
//! whether those batches have survived: they are asked for by their ids, and done again if not.

use std::{sync::Arc, time::Duration};

use metrics::{counter, histogram};
use sqlx::PgConnection;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use crate::{
    config::CreditsConfig,
    db::{self, Db},
};

use super::{
    Error,
    ledger::{self, Outcome},
    operation::Operation,
};

/// Less than an operation's patience, so that a batch which one wallet holds up can be split in
/// time.
const LONGEST_STATEMENT: Duration = Duration::from_secs(3);
/// Longer than Postgres lets a statement run: only a dead line takes that long.
const LONGEST_CALL: Duration = Duration::from_secs(6);
/// Batches that may wait for one flush; lanes that are further ahead of the disk wait too.
const MOST_UNFLUSHED: usize = 16;

/// An operation in the queue.
pub struct Job {
    pub operation: Operation,
    pub give_up_at: Instant,
    pub answer: oneshot::Sender<Result<(Operation, Outcome), Error>>,
}

impl Job {
    /// Answers that it was not done, or that nobody knows.
    pub fn refuse(self, why: Error) {
        let _ = self.answer.send(Err(why));
    }
}

/// A batch that is written and may not be on disk yet.
pub struct Unflushed {
    batch: Vec<Job>,
    outcomes: Vec<Outcome>,
}

impl Unflushed {
    fn answer(self) {
        for (job, outcome) in self.batch.into_iter().zip(self.outcomes) {
            // Whoever has gone away is charged all the same, and told when they ask again.
            let _ = job.answer.send(Ok((job.operation, outcome)));
        }
    }
}

/// A connection over which batches are written.
pub struct Writer {
    db: Db,
    rules: CreditsConfig,
    connection: Option<PgConnection>,
    /// Who flushes; without it, each batch is on disk when it is written.
    flusher: Option<mpsc::Sender<Unflushed>>,
}

impl Writer {
    /// Connects when there is something to write.
    pub fn new(db: &Db, rules: CreditsConfig, flusher: Option<mpsc::Sender<Unflushed>>) -> Self {
        Self {
            db: db.clone(),
            rules,
            connection: None,
            flusher,
        }
    }

    /// Writes a batch, and answers each of it. When the database refuses the whole, each is
    /// written by itself, so that only the one that is to blame fails.
    /// `again` says that there was an attempt before whose end is unknown.
    pub async fn write(&mut self, batch: Vec<Job>, again: bool) {
        let Err(refused) = self.write_whole(batch, again).await else {
            return;
        };
        if refused.batch.len() == 1 {
            refused.answer();
            return;
        }
        tracing::warn!(error = %refused.why, "a batch failed; its operations are tried one by one");
        counter!("tollgate_ledger_split_batches_total").increment(1);
        for job in refused.batch {
            if Instant::now() > job.give_up_at {
                let done = if refused.again {
                    Error::Unclear(None)
                } else {
                    Error::QueueFull
                };
                job.refuse(done);
            } else if let Err(alone) = self.write_whole(vec![job], refused.again).await {
                alone.answer();
            }
        }
    }

    /// Writes a batch; gives it back when the database refuses it. While an attempt's end is
    /// unknown it is asked for: the ids tell what has been done. `again` says that there was
    /// such an attempt before.
    async fn write_whole(&mut self, mut batch: Vec<Job>, mut again: bool) -> Result<(), Refused> {
        let mut pause = Duration::from_millis(10);
        while !batch.is_empty() {
            let why = match self.attempt(&batch, again).await {
                Ok(outcomes) => {
                    self.hand_on(Unflushed { batch, outcomes }).await;
                    return Ok(());
                }
                Err(Failed::BeforeSending(why)) if again => why,
                Err(Failed::Unclear(why)) => why,
                Err(Failed::BeforeSending(why) | Failed::Refused(why)) => {
                    return Err(Refused { batch, why, again });
                }
            };
            tracing::warn!(error = %why, "the end of a batch is unclear; asking again");
            counter!("tollgate_ledger_unclear_batches_total").increment(1);
            again = true;
            let now = Instant::now();
            let (hopeless, rest) = batch.into_iter().partition(|job| job.give_up_at <= now);
            batch = rest;
            let why = Arc::new(why);
            for job in hopeless {
                job.refuse(Error::Unclear(Some(why.clone())));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
        Ok(())
    }

    /// Whether a batch is left to the flusher. One that is alone is not: the flush would be a
    /// second trip for it.
    fn leaves_to_flusher(&self, batch: &[Job]) -> bool {
        self.flusher.is_some() && batch.len() > 1
    }

    async fn hand_on(&self, written: Unflushed) {
        match &self.flusher {
            Some(flusher) if self.leaves_to_flusher(&written.batch) => {
                // It ends after all who send to it.
                let _ = flusher.send(written).await;
            }
            _ => written.answer(),
        }
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        let mut connection = self.db.connect().await?;
        db::hurry(&mut connection, LONGEST_STATEMENT).await?;
        Ok(connection)
    }

    async fn attempt(&mut self, batch: &[Job], again: bool) -> Result<Vec<Outcome>, Failed> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await.map_err(Failed::BeforeSending)?,
        };
        let operations: Vec<&Operation> = batch.iter().map(|job| &job.operation).collect();
        counter!("tollgate_ledger_batches_total").increment(1);
        counter!("tollgate_ledger_operations_total").increment(batch.len() as u64);
        let begun = Instant::now();
        let called = ledger::post(
            &mut connection,
            &operations,
            again,
            self.leaves_to_flusher(batch),
            self.rules,
        );
        match timeout(LONGEST_CALL, called).await {
            Ok(Ok(outcomes)) if outcomes.len() != batch.len() => Err(Failed::Unclear(
                sqlx::Error::Protocol("a batch has other answers than operations".into()),
            )),
            Ok(Ok(outcomes)) => {
                histogram!("tollgate_ledger_batch_seconds").record(begun.elapsed().as_secs_f64());
                self.connection = Some(connection);
                Ok(outcomes)
            }
            Ok(Err(why)) if db::is_outage(&why) && !db::was_cut_short(&why) => {
                Err(Failed::Unclear(why))
            }
            Ok(Err(why)) => {
                self.connection = Some(connection);
                Err(Failed::Refused(why))
            }
            Err(_) => Err(Failed::Unclear(sqlx::Error::PoolTimedOut)),
        }
    }
}

/// Makes durable what the lanes have written, and answers it.
pub struct Flusher {
    writer: Writer,
    unflushed: mpsc::Receiver<Unflushed>,
}

impl Flusher {
    /// With the end that lanes hand their batches to.
    pub fn new(db: &Db, rules: CreditsConfig) -> (Self, mpsc::Sender<Unflushed>) {
        let (sender, unflushed) = mpsc::channel(MOST_UNFLUSHED);
        let writer = Writer::new(db, rules, None);
        (Self { writer, unflushed }, sender)
    }

    /// Until the last lane has ended.
    pub async fn run(mut self) {
        let mut written = Vec::new();
        while self.unflushed.recv_many(&mut written, MOST_UNFLUSHED).await > 0 {
            match self.writer.flush().await {
                Ok(()) => written.drain(..).for_each(Unflushed::answer),
                Err(why) => {
                    tracing::warn!(error = %why, "a flush failed; its batches are asked for");
                    for unclear in written.drain(..) {
                        self.writer.write(unclear.batch, true).await;
                    }
                }
            }
        }
    }
}

impl Writer {
    async fn flush(&mut self) -> sqlx::Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let begun = Instant::now();
        timeout(LONGEST_CALL, ledger::flush(&mut connection))
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)??;
        histogram!("tollgate_ledger_flush_seconds").record(begun.elapsed().as_secs_f64());
        self.connection = Some(connection);
        Ok(())
    }
}

/// A batch that was not written.
struct Refused {
    batch: Vec<Job>,
    why: sqlx::Error,
    again: bool,
}

impl Refused {
    fn answer(self) {
        let why = Arc::new(self.why);
        for job in self.batch {
            let error = if self.again {
                Error::Unclear(Some(why.clone()))
            } else {
                Error::Batch(why.clone())
            };
            job.refuse(error);
        }
    }
}

enum Failed {
    /// There was no connection: nothing has been done.
    BeforeSending(sqlx::Error),
    /// The connection broke: it may have been done.
    Unclear(sqlx::Error),
    /// Postgres said no: nothing has been done.
    Refused(sqlx::Error),
}
