//! A network that fails: a TCP proxy that cuts connections where it hurts most, around the
//! moment in which a request has been handed over and its answer has not.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

/// The longest that a connection goes on between a part of it being handed over and its cut.
const LONGEST_DELAY_MILLIS: u64 = 10;

/// How often a proxy cuts.
#[derive(Clone, Copy)]
pub enum Habit {
    /// One connection of so many, at the first thing that its client says.
    OneOf(u32),
    /// Every connection, at one of so many things that its client says.
    Within(u32),
}

/// A proxy in front of one port of this machine.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    cuts: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on `port` and passes on to `server`. It cuts only while `faulty` holds.
    pub async fn listen(
        port: u16,
        server: u16,
        habit: Habit,
        mut rng: Rng,
        faulty: Arc<AtomicBool>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .context("the proxy's port is taken")?;
        let port = listener.local_addr()?.port();
        let cuts = Arc::new(AtomicU64::new(0));
        let counted = cuts.clone();
        let task = tokio::spawn(async move {
            loop {
                // Nothing but a lack of files makes it fail, and that passes.
                let Ok((client, _)) = listener.accept().await else {
                    sleep(Duration::from_millis(50)).await;
                    continue;
                };
                let plan = Plan::draw(habit, &mut rng);
                let (cuts, faulty) = (counted.clone(), faulty.clone());
                tokio::spawn(async move {
                    if carry(client, server, plan, &faulty)
                        .await
                        .is_ok_and(Cut::was)
                    {
                        cuts.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Self { port, cuts, task })
    }

    /// Counts the connections that it has cut.
    pub fn counter(&self) -> impl Fn() -> u64 + use<> {
        let cuts = self.cuts.clone();
        move || cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where a connection is cut.
struct Plan {
    /// At which thing that the client says; 0 is never.
    turn: u32,
    place: Place,
    delay: Duration,
}

#[derive(Clone, Copy)]
enum Place {
    /// A part of it reaches the server.
    Before,
    /// It has reached the server, which may or may not have begun with it.
    After,
    /// The server has done it and answers; a part of the answer reaches the client.
    Answer,
}

impl Plan {
    fn draw(habit: Habit, rng: &mut Rng) -> Self {
        let turn = match habit {
            Habit::OneOf(connections) => u32::from(rng.u32(0..connections) == 0),
            Habit::Within(turns) => rng.u32(1..=turns),
        };
        let place = match rng.u8(0..4) {
            0 => Place::Before,
            1 => Place::After,
            _ => Place::Answer,
        };
        let delay = Duration::from_millis(rng.u64(0..=LONGEST_DELAY_MILLIS));
        Self { turn, place, delay }
    }
}

/// How a connection ended.
#[derive(Eq, PartialEq)]
enum Cut {
    ByUs,
    ByThem,
}

impl Cut {
    fn was(self) -> bool {
        self == Self::ByUs
    }
}

/// Passes bytes both ways until somebody, or the plan, ends it. Returning closes both sides.
async fn carry(
    mut client: TcpStream,
    server: u16,
    plan: Plan,
    faulty: &AtomicBool,
) -> io::Result<Cut> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut said, mut answered) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut turn = 0;
    loop {
        let is_due = turn > 0 && turn == plan.turn && faulty.load(Ordering::Relaxed);
        tokio::select! {
            count = client.read(&mut said) => {
                let said = &said[..count?];
                if said.is_empty() {
                    return Ok(Cut::ByThem);
                }
                turn += 1;
                let is_due = turn == plan.turn && faulty.load(Ordering::Relaxed);
                match plan.place {
                    Place::Before if is_due => {
                        server.write_all(&said[..said.len() / 2]).await?;
                        return Ok(Cut::ByUs);
                    }
                    Place::After if is_due => {
                        server.write_all(said).await?;
                        sleep(plan.delay).await;
                        return Ok(Cut::ByUs);
                    }
                    _ => server.write_all(said).await?,
                }
            }
            count = server.read(&mut answered) => {
                let answered = &answered[..count?];
                if answered.is_empty() {
                    return Ok(Cut::ByThem);
                }
                if is_due {
                    client.write_all(&answered[..answered.len() / 2]).await?;
                    return Ok(Cut::ByUs);
                }
                client.write_all(answered).await?;
            }
        }
    }
}
