//! The clients: each tells one story after another, each about one of the users, and remembers
//! what it asked and what it heard.

use std::{
    iter::repeat_n,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use fastrand::Rng;
use futures_util::future::try_join_all;
use shared::credits::Credits;
use tests::{Event, StripeFake};
use tokio::time::{Instant, sleep};

use super::{
    api::Api,
    model::{Kind, Operation, Record, Verdict},
    rig::ORIGINS,
    stories::{Done, Story, USERS},
};

/// Clients at once.
pub const CLIENTS: usize = 32;

const APPS: [&str; 3] = ["atlas", "bazaar", "canvas"];

/// Between two stories of a client, at the most.
const LONGEST_PAUSE_MILLIS: u64 = 20;
/// Before something is asked again whose answer was unclear.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a question may stay open once everything runs again.
const CLEAR_WITHIN: Duration = Duration::from_secs(90);

/// What all clients have done so far.
#[derive(Default)]
pub struct Tally {
    /// Things that were asked.
    pub asked: AtomicU64,
    /// Of these, acknowledged.
    pub done: AtomicU64,
    /// Times that something was asked again because its answer was unclear.
    pub retried: AtomicU64,
}

/// One client.
pub struct Client {
    name: String,
    api: Arc<Api>,
    tally: Arc<Tally>,
    give_up_at: Instant,
    records: Vec<Record>,
}

impl Client {
    /// A client that has not asked for anything.
    pub fn new(name: String, api: Arc<Api>, tally: Arc<Tally>, until: Instant) -> Self {
        Self {
            name,
            api,
            tally,
            give_up_at: until + CLEAR_WITHIN,
            records: Vec::new(),
        }
    }

    /// Tells stories until then, and the last one to its end; returns what it asked.
    pub async fn run(mut self, mut rng: Rng, until: Instant) -> Result<Vec<Record>> {
        while Instant::now() < until {
            let pause = rng.u64(0..=LONGEST_PAUSE_MILLIS);
            sleep(Duration::from_millis(pause)).await;
            // Each has its own: how a story ends changes nothing in the next.
            Story::new(&mut self, rng.fork()).tell().await?;
            let mut rng = rng.fork();
            if rng.u8(0..4) == 0 {
                self.repeat(&mut rng).await?;
            }
        }
        Ok(self.records)
    }

    /// Leaves every other user with next to nothing.
    pub async fn impoverish(mut self, mut rng: Rng, bonus: Credits) -> Result<Vec<Record>> {
        for user in (1..USERS).step_by(2) {
            Story::impoverish(&mut self, rng.fork(), user, bonus).await?;
        }
        Ok(self.records)
    }

    /// Asks once more for anything that was asked before, long ago or just now.
    async fn repeat(&mut self, rng: &mut Rng) -> Result<()> {
        let at = rng.usize(0..self.records.len().max(1));
        let operation = self.records.get(at).map(|record| &record.operation);
        if operation.is_some_and(|operation| operation.kind.is_repeatable()) {
            self.attempt(at, rng).await?;
        }
        Ok(())
    }

    /// Asks until the answer is clear, if it may be asked again at all; returns the transaction,
    /// or the hold, and its amount, if it was done.
    pub async fn ask(
        &mut self,
        user: usize,
        kind: Kind,
        amount: Option<i64>,
        rng: &mut Rng,
    ) -> Result<Done> {
        let at = self.begin(user, kind, amount);
        self.attempt(at, rng).await?;
        Ok(self.records[at].done.clone())
    }

    /// Asks for two ways in which a hold can end, at the same time.
    pub async fn race(&mut self, user: usize, ways: [(Kind, Option<i64>); 2]) -> Result<()> {
        let at = ways.map(|(kind, amount)| self.begin(user, kind, amount));
        let [one, other] = at.map(|at| &self.records[at].operation);
        let (one, other) = tokio::join!(self.api.ask(one, 0), self.api.ask(other, 1));
        for (at, verdict) in at.into_iter().zip([one?, other?]) {
            self.hear(at, [verdict]);
            self.clear(at, 0).await?;
        }
        Ok(())
    }

    /// Where it pays.
    pub fn stripe(&self) -> &StripeFake {
        &self.api.stripe
    }

    /// Delivers each event up to three times, all at once and to either replica, each time until
    /// it is accepted.
    pub async fn deliver(&self, events: &[Event], rng: &mut Rng) -> Result<()> {
        let mut due = Vec::new();
        for event in events {
            due.extend(repeat_n(event, rng.usize(1..=3)));
        }
        rng.shuffle(&mut due);
        let deliveries = due
            .into_iter()
            .map(|event| self.deliver_once(event, rng.usize(0..ORIGINS)));
        try_join_all(deliveries.collect::<Vec<_>>()).await?;
        Ok(())
    }

    async fn deliver_once(&self, event: &Event, mut replica: usize) -> Result<()> {
        while !self.api.deliver(event, replica).await {
            ensure!(
                Instant::now() < self.give_up_at,
                "{event:?} is never accepted"
            );
            sleep(PAUSE).await;
            replica = (replica + 1) % ORIGINS;
        }
        Ok(())
    }

    /// Makes up an operation; returns where its record is.
    fn begin(&mut self, user: usize, kind: Kind, amount: Option<i64>) -> usize {
        let at = self.records.len();
        self.records.push(Record::new(Operation {
            name: format!("{}-{at}", self.name),
            user,
            app: APPS[at % APPS.len()],
            amount: amount.and_then(Credits::from_thousandths),
            kind,
        }));
        self.tally.asked.fetch_add(1, Relaxed);
        at
    }

    /// Asks for it, now and then from both replicas at once.
    async fn attempt(&mut self, at: usize, rng: &mut Rng) -> Result<()> {
        let (replica, twice) = (rng.usize(0..ORIGINS), rng.u8(0..8) == 0);
        let operation = &self.records[at].operation;
        if twice && operation.kind.is_repeatable() {
            let (one, other) = tokio::join!(self.api.ask(operation, 0), self.api.ask(operation, 1));
            self.hear(at, [one?, other?]);
        } else {
            let verdict = self.api.ask(operation, replica).await?;
            self.hear(at, [verdict]);
        }
        self.clear(at, replica).await
    }

    /// Asks again, of one replica after the other, until the answer is clear.
    async fn clear(&mut self, at: usize, mut replica: usize) -> Result<()> {
        while self.records[at].is_open && self.records[at].operation.kind.is_repeatable() {
            let operation = &self.records[at].operation;
            ensure!(
                Instant::now() < self.give_up_at,
                "{operation:?} stays unclear"
            );
            self.tally.retried.fetch_add(1, Relaxed);
            sleep(PAUSE).await;
            replica = (replica + 1) % ORIGINS;
            let verdict = self.api.ask(operation, replica).await?;
            self.hear(at, [verdict]);
        }
        Ok(())
    }

    fn hear(&mut self, at: usize, verdicts: impl IntoIterator<Item = Verdict>) {
        let record = &mut self.records[at];
        let was_done = record.done.is_some();
        record.hear(verdicts);
        if record.done.is_some() && !was_done {
            self.tally.done.fetch_add(1, Relaxed);
        }
    }
}
