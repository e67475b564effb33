//! The batcher: operations that come at once are written at once. While one batch is being
//! written the next one fills, so that an idle ledger waits for nothing and a busy one shares
//! each flush to disk among many.
//!
//! One lane writes them, over a connection of its own, so that no two batches of this process want the same
//! row. An operation that was queued is carried out, whether or not anybody still waits for it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use metrics::{counter, histogram};
use sqlx::PgConnection;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
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

/// How many are taken at once, besides those that wait: more would only make the first of them
/// wait longer.
const MOST_IN_A_BATCH: usize = 256;
/// How long an operation may wait for its turn, or its unclear end be looked into.
const PATIENCE: Duration = Duration::from_secs(5);
/// Less than the patience, so that a batch which one wallet holds up can be split in time.
const LONGEST_STATEMENT: Duration = Duration::from_secs(3);
/// Longer than Postgres lets a statement run: only a dead line takes that long.
const LONGEST_CALL: Duration = Duration::from_secs(6);

/// An operation in the queue.
struct Job {
    operation: Operation,
    give_up_at: Instant,
    answer: oneshot::Sender<Result<(Operation, Outcome), Error>>,
}

/// The queue, and the task that empties it.
pub struct Batcher {
    /// Gone once it drains.
    queue: RwLock<Option<mpsc::Sender<Job>>>,
    lane: Mutex<Option<JoinHandle<()>>>,
}

impl Batcher {
    /// A lane that is idle until something comes. As many wait for it as the rules say.
    pub fn start(db: Db, rules: CreditsConfig) -> Self {
        let (queue, jobs) = mpsc::channel(rules.ledger_queue);
        let lane = Lane {
            db,
            rules,
            connection: None,
            waiting: Vec::new(),
            jobs,
        };
        Self {
            queue: RwLock::new(Some(queue)),
            lane: Mutex::new(Some(tokio::spawn(lane.run()))),
        }
    }

    /// How many operations wait for their turn.
    pub fn queued(&self) -> usize {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let waiting = |queue: &mpsc::Sender<Job>| queue.max_capacity() - queue.capacity();
        queue.as_ref().map_or(0, waiting)
    }

    /// Does it with whatever else there is to do; gives it back with what became of it.
    pub async fn submit(&self, operation: Operation) -> Result<(Operation, Outcome), Error> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            operation,
            give_up_at: Instant::now() + PATIENCE,
            answer,
        };
        let queued = {
            let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
            queue
                .as_ref()
                .is_some_and(|queue| queue.try_send(job).is_ok())
        };
        if !queued {
            counter!("tollgate_ledger_refused_total").increment(1);
            return Err(Error::QueueFull);
        }
        answered.await.map_err(|_| Error::Unclear(None))?
    }

    /// Carries out what is queued, and takes nothing more.
    pub async fn drain(&self) {
        self.queue
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let lane = self
            .lane
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(lane) = lane
            && lane.await.is_err()
        {
            tracing::error!("the ledger's lane panicked");
        }
    }
}

struct Lane {
    db: Db,
    rules: CreditsConfig,
    connection: Option<PgConnection>,
    /// What could not be in the batch before: it shares a key or a hold with one of that.
    waiting: Vec<Job>,
    jobs: mpsc::Receiver<Job>,
}

impl Lane {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.write(batch).await;
        }
    }

    /// All that is there, but no two with the same claim. Nothing when the queue is closed.
    async fn next_batch(&mut self) -> Option<Vec<Job>> {
        let mut come = std::mem::take(&mut self.waiting);
        // Those that wait leave room for others, or one key sent often would hold up everybody.
        let most = come.len() + MOST_IN_A_BATCH;
        if come.is_empty() {
            come.push(self.jobs.recv().await?);
        }
        while come.len() < most
            && let Ok(job) = self.jobs.try_recv()
        {
            come.push(job);
        }
        let (mut batch, mut claims) = (Vec::new(), HashSet::new());
        for job in come {
            if Instant::now() > job.give_up_at {
                refuse(job, Error::QueueFull);
            } else if claims.insert(job.operation.claim()) {
                batch.push(job);
            } else if self.waiting.len() < MOST_IN_A_BATCH {
                self.waiting.push(job);
            } else {
                refuse(job, Error::QueueFull);
            }
        }
        // As `credits.post_batch` wants them.
        batch.sort_by_key(|job| (job.operation.user, !job.operation.settles()));
        Some(batch)
    }

    /// Writes a batch, and answers each of it. When the database refuses the whole, each is
    /// written by itself, so that only the one that is to blame fails.
    async fn write(&mut self, batch: Vec<Job>) {
        let Err(refused) = self.write_whole(batch, false).await else {
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
                refuse(job, done);
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
                    answer(batch, outcomes);
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
                refuse(job, Error::Unclear(Some(why.clone())));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
        Ok(())
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
        let called = ledger::post(&mut connection, &operations, again, self.rules);
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
            refuse(job, error);
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

fn answer(batch: Vec<Job>, outcomes: Vec<Outcome>) {
    for (job, outcome) in batch.into_iter().zip(outcomes) {
        // Whoever has gone away is charged all the same, and told when they ask again.
        let _ = job.answer.send(Ok((job.operation, outcome)));
    }
}

fn refuse(job: Job, why: Error) {
    let _ = job.answer.send(Err(why));
}
