//! The batcher: operations that come at once are written at once. While one batch is being
//! written the next one fills, so that an idle ledger waits for nothing and a busy one shares
//! each flush to disk among many.
//!
//! Users are dealt out to a few lanes, each with a connection of its own, so that no two batches
//! of this process want the same row. An operation that was queued is carried out, whether or
//! not anybody still waits for it.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError, RwLock},
    time::Duration,
};

use metrics::counter;
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, yield_now},
    time::Instant,
};

use crate::{config::CreditsConfig, db::Db};

use super::{
    Error,
    ledger::Outcome,
    operation::Operation,
    writer::{Flusher, Job, Writer},
};

const LANES: usize = 2;
/// How many are taken at once, besides those that wait: more would only make the first of them
/// wait longer.
const MOST_IN_A_BATCH: usize = 256;
/// How long an operation may wait for its turn, or its unclear end be looked into.
const PATIENCE: Duration = Duration::from_secs(5);

/// The queues, and the tasks that empty them.
pub struct Batcher {
    /// Gone once it drains.
    queues: RwLock<Vec<mpsc::Sender<Job>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Batcher {
    /// Lanes that are idle until something comes. Each holds `queue` operations at the most.
    pub fn start(db: &Db, rules: CreditsConfig, queue: usize) -> Self {
        let (flusher, unflushed) = Flusher::new(db, rules);
        let (queues, mut tasks): (_, Vec<_>) = (0..LANES)
            .map(|_| {
                let (sender, jobs) = mpsc::channel(queue);
                let lane = Lane {
                    writer: Writer::new(db, rules, Some(unflushed.clone())),
                    waiting: Vec::new(),
                    jobs,
                };
                (sender, tokio::spawn(lane.run()))
            })
            .unzip();
        tasks.push(tokio::spawn(flusher.run()));
        Self {
            queues: RwLock::new(queues),
            tasks: Mutex::new(tasks),
        }
    }

    /// Does it with whatever else there is to do; gives it back with what became of it.
    pub async fn submit(&self, operation: Operation) -> Result<(Operation, Outcome), Error> {
        // The end of a UUIDv7 is random.
        let lane = operation.user.uuid().as_bytes()[15] as usize % LANES;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            operation,
            give_up_at: Instant::now() + PATIENCE,
            answer,
        };
        let queued = {
            let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
            queues
                .get(lane)
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
        self.queues
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a task of the ledger panicked");
            }
        }
    }
}

struct Lane {
    writer: Writer,
    /// What could not be in the batch before: it shares a key or a hold with one of that.
    waiting: Vec<Job>,
    jobs: mpsc::Receiver<Job>,
}

impl Lane {
    async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            self.writer.write(batch, false).await;
        }
    }

    /// All that is there, but no two with the same claim. Nothing when the queue is closed.
    async fn next_batch(&mut self) -> Option<Vec<Job>> {
        let mut come = std::mem::take(&mut self.waiting);
        if come.is_empty() && self.jobs.recv_many(&mut come, MOST_IN_A_BATCH).await == 0 {
            return None;
        }
        // Those that wait leave room for others, or one key sent often would hold up everybody.
        let most = come.len() + MOST_IN_A_BATCH;
        // Requests that are being read come along, for one more in a batch costs little. When a
        // turn of everything else brings none, nothing is waited for.
        loop {
            yield_now().await;
            let before = come.len();
            while come.len() < most
                && let Ok(job) = self.jobs.try_recv()
            {
                come.push(job);
            }
            if come.len() == before || come.len() == most {
                break;
            }
        }
        let (mut batch, mut claims) = (Vec::new(), HashSet::new());
        for job in come {
            if Instant::now() > job.give_up_at {
                job.refuse(Error::QueueFull);
            } else if claims.insert(job.operation.claim()) {
                batch.push(job);
            } else if self.waiting.len() < MOST_IN_A_BATCH {
                self.waiting.push(job);
            } else {
                job.refuse(Error::QueueFull);
            }
        }
        // As `credits.post` wants them.
        batch.sort_by_key(|job| (job.operation.user, !job.operation.settles()));
        Some(batch)
    }
}
