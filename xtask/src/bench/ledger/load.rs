//! The load: charges under new keys, with some keys sent again and some users who cannot pay.
//! Every answer is checked.
//!
//! One thread serves all connections: changing between a thread for each would take much of the machine
//! that is measured. It waits by `epoll`, which makes a single charge look slower than it is; so a
//! connection that has the thread to itself is waited for in its own `read`.

use std::{
    cell::Cell,
    net,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use futures_util::{
    future::{Either, try_join_all},
    io::{AllowStdIo, AsyncReadExt, AsyncWriteExt},
};
use tokio::{net::TcpStream, runtime, time::sleep_until};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::users::Users;
use crate::bench::load::{Answer, header};

/// Enough that one is free whenever a request is due.
const OPEN_CONNECTIONS: usize = 256;
/// Later than this, a request was not sent on time; timers have steps of a millisecond.
const LATE: Duration = Duration::from_millis(2);

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
    let next = Cell::new(0);
    all_at_once(users, turns, connections, async |mut spender, begun| {
        while begun.elapsed() < within {
            let turn = next.replace(next.get() + 1);
            spender.take_turn(turn, Instant::now()).await?;
        }
        Ok(spender.outcome)
    })
}

/// Requests are due at a fixed rate, whether or not those before them are answered. How long
/// one takes counts from when it was due: whoever had to wait for a connection waited too.
pub fn scheduled(
    users: &Users,
    turns: &[usize],
    a_second: f64,
    within: Duration,
) -> Result<Outcome> {
    let next = Cell::new(0);
    all_at_once(
        users,
        turns,
        OPEN_CONNECTIONS,
        async |mut spender, begun| {
            loop {
                let turn = next.replace(next.get() + 1);
                let after = Duration::from_secs_f64(f64::from(turn) / a_second);
                if after >= within {
                    return Ok(spender.outcome);
                }
                let due = begun + after;
                sleep_until(due.into()).await;
                spender.outcome.late += u32::from(due.elapsed() > LATE);
                spender.take_turn(turn, due).await?;
            }
        },
    )
}

/// Lets each of so many connections do the same, from the moment that all are open.
fn all_at_once<'a>(
    users: &'a Users,
    turns: &'a [usize],
    connections: usize,
    work: impl AsyncFn(Spender<'a>, Instant) -> Result<Outcome>,
) -> Result<Outcome> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let alone = connections == 1;
        let spenders = (0..connections).map(|_| Spender::connect(users, turns, alone));
        let spenders = spenders.collect::<Result<Vec<_>>>()?;
        let begun = Instant::now();
        let work = spenders.into_iter().map(|spender| work(spender, begun));
        Ok(Outcome::of(try_join_all(work).await?, begun.elapsed()))
    })
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
    stream: Either<AllowStdIo<net::TcpStream>, Compat<TcpStream>>,
    buffer: Vec<u8>,
    users: &'a Users,
    turns: &'a [usize],
    charge: Vec<u8>,
    refused: Vec<u8>,
    outcome: Outcome,
}

impl<'a> Spender<'a> {
    /// Connects; if it is alone, so that waiting for an answer holds up the thread.
    fn connect(users: &'a Users, turns: &'a [usize], alone: bool) -> Result<Self> {
        let stream = net::TcpStream::connect(&users.address)?;
        stream.set_nodelay(true)?;
        let stream = if alone {
            Either::Left(AllowStdIo::new(stream))
        } else {
            stream.set_nonblocking(true)?;
            Either::Right(TcpStream::from_std(stream)?.compat())
        };
        Ok(Self {
            stream,
            buffer: Vec::new(),
            users,
            turns,
            charge: Vec::new(),
            refused: Vec::new(),
            outcome: Outcome::default(),
        })
    }

    /// Sends one request, which was due then, and holds its answer to what it must be.
    async fn take_turn(&mut self, turn: u32, due: Instant) -> Result<()> {
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
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let answer = loop {
            let mut part = [0; 2048];
            let count = self.stream.read(&mut part).await?;
            ensure!(count > 0, "the connection was closed in the middle");
            self.buffer.extend_from_slice(&part[..count]);
            if let Some(answer) = Answer::whole(&self.buffer)? {
                break answer;
            }
        };
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
