//! The load: charges under new keys, with some keys sent again and some users who cannot pay.
//! Every answer is checked.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::users::Users;
use crate::bench::load::{Connection, header, open, together};

/// Enough that one is free whenever a request is due.
const OPEN_CONNECTIONS: usize = 256;
/// Later than this, a request was not sent on time.
const LATE: Duration = Duration::from_millis(1);

/// No key is ever sent for two charges.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

/// What came of a load.
#[derive(Default)]
pub struct Outcome {
    /// Requests that were answered.
    pub uses: u32,
    /// Charges that were answered, each of one credit.
    pub charges: u32,
    /// How long each of those charges took, in no order.
    pub latencies: Vec<Duration>,
    /// Requests that were sent later than they were due.
    pub late: u32,
    /// From the first request to the last answer.
    pub took: Duration,
}

impl Outcome {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        f64::from(self.uses) / self.took.as_secs_f64()
    }

    fn of(connections: Vec<Self>, took: Duration) -> Self {
        let mut all = Self {
            took,
            ..Self::default()
        };
        for one in connections {
            all.uses += one.uses;
            all.charges += one.charges;
            all.latencies.extend(one.latencies);
            all.late += one.late;
        }
        all
    }
}

/// Each connection sends its next request when the last one is answered.
pub fn closed(
    users: &Users,
    turns: &[usize],
    connections: usize,
    within: Duration,
) -> Result<Outcome> {
    let next = AtomicU32::new(0);
    let mut connections = open(&users.address, connections)?;
    let begun = Instant::now();
    let outcomes = together(&mut connections, |_, connection| {
        let mut spender = Spender::new(connection, users, turns);
        while begun.elapsed() < within {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            spender.take_turn(turn, Instant::now())?;
        }
        Ok(spender.outcome)
    })?;
    Ok(Outcome::of(outcomes, begun.elapsed()))
}

/// Requests are due at a fixed rate, whether or not those before them are answered. How long
/// one takes counts from when it was due: whoever had to wait for a connection waited too.
pub fn scheduled(
    users: &Users,
    turns: &[usize],
    a_second: f64,
    within: Duration,
) -> Result<Outcome> {
    let next = AtomicU32::new(0);
    let mut connections = open(&users.address, OPEN_CONNECTIONS)?;
    let begun = Instant::now();
    let outcomes = together(&mut connections, |_, connection| {
        let mut spender = Spender::new(connection, users, turns);
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let after = Duration::from_secs_f64(f64::from(turn) / a_second);
            if after >= within {
                return Ok(spender.outcome);
            }
            let due = begun + after;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            spender.outcome.late += u32::from(due.elapsed() > LATE);
            spender.take_turn(turn, due)?;
        }
    })?;
    Ok(Outcome::of(outcomes, begun.elapsed()))
}

/// What a request is about. Its number decides, so that every load is the same mix.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Charge,
    /// The connection's last charge once more, by its key.
    Repeat,
    /// Somebody who cannot pay.
    Broke,
}

impl Kind {
    /// Of twenty turns, two are repeats and one is somebody's who is broke.
    const fn of(turn: u32) -> Self {
        match turn % 20 {
            3 | 13 => Self::Repeat,
            8 => Self::Broke,
            _ => Self::Charge,
        }
    }
}

/// A connection with what it sent last.
struct Spender<'a> {
    connection: &'a mut Connection,
    users: &'a Users,
    turns: &'a [usize],
    charge: Vec<u8>,
    refused: Vec<u8>,
    outcome: Outcome,
}

impl<'a> Spender<'a> {
    fn new(connection: &'a mut Connection, users: &'a Users, turns: &'a [usize]) -> Self {
        Self {
            connection,
            users,
            turns,
            charge: Vec::new(),
            refused: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    /// Sends one request, which was due then, and holds its answer to what it must be.
    fn take_turn(&mut self, turn: u32, due: Instant) -> Result<()> {
        let drawn = self.turns[turn as usize % self.turns.len()];
        let kind = match Kind::of(turn) {
            Kind::Repeat if self.charge.is_empty() => Kind::Charge,
            kind => kind,
        };
        let key = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        let request = match kind {
            Kind::Charge => {
                self.users.rich[drawn].charge(&mut self.charge, key);
                &self.charge
            }
            Kind::Repeat => &self.charge,
            Kind::Broke => {
                let broke = &self.users.broke;
                broke[drawn % broke.len()].charge(&mut self.refused, key);
                &self.refused
            }
        };
        let answer = self.connection.ask(request)?;
        let replayed = header(answer.head, "idempotency-replayed").is_some();
        match (kind, answer.status, replayed) {
            (Kind::Charge, 200, false) => {
                self.outcome.charges += 1;
                self.outcome.latencies.push(due.elapsed());
            }
            (Kind::Repeat, 200, true) | (Kind::Broke, 402, false) => {}
            _ => bail!("{kind:?}: {}", answer.shown()),
        }
        self.outcome.uses += 1;
        Ok(())
    }
}
