//! Programs that run beside us: each in a process group of its own, with a log of its own, and
//! none of them outlives us, not even when we were killed before we could stop them.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use reqwest::StatusCode;
use tokio::{
    net::TcpStream,
    process::{self, Command},
    time::{Instant, sleep, timeout},
};

use crate::steps::say;

/// How long a program may take until it answers.
const START_WITHIN: Duration = Duration::from_mins(1);
/// How long a program may take to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running program and all that it starts.
pub struct Child {
    name: &'static str,
    process: process::Child,
    group: Pid,
    stop: Signal,
    log: PathBuf,
}

impl Child {
    /// Starts `command`, which understands `stop`. Its output goes to `logs/<name>.log` under
    /// `data_dir`.
    ///
    /// Its standard input is an empty locked file that holds its process group: as long as the
    /// program lives the lock is held, and a later run knows whom to stop ([`stop_leftovers`]).
    pub fn start(
        name: &'static str,
        mut command: Command,
        stop: Signal,
        data_dir: &Path,
    ) -> Result<Self> {
        let log = data_dir.join("logs").join(format!("{name}.log"));
        fs::create_dir_all(data_dir.join("logs"))?;
        fs::create_dir_all(data_dir.join("run"))?;
        let output = File::create(&log)?;
        let mut open = File::options();
        open.read(true).write(true).create(true).truncate(true);
        let mut run = open.open(data_dir.join("run").join(name))?;
        run.lock()?;
        let process = command
            .stdin(Stdio::from(run.try_clone()?))
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output))
            .process_group(0)
            // For one that nobody had the time to keep.
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let group = process.id().context("it ended at once")?;
        write!(run, "{group}")?;
        Ok(Self {
            name,
            process,
            group: Pid::from_raw(group.try_into()?),
            stop,
            log,
        })
    }

    /// Its process id, which is its group's as well.
    pub const fn id(&self) -> i32 {
        self.group.as_raw()
    }

    /// Waits until `url`, where this program listens, answers 200.
    pub async fn answers(&mut self, url: &str) -> Result<()> {
        tokio::select! {
            ended = self.ended() => Err(ended),
            answered = timeout(START_WITHIN, answers(url)) => {
                answered.with_context(|| format!("{url} did not answer within {START_WITHIN:?}"))
            }
        }
    }

    /// Waits until it takes connections on this port of this machine.
    pub async fn listens(&mut self, port: u16) -> Result<()> {
        let listening = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            ended = self.ended() => Err(ended),
            listens = timeout(START_WITHIN, listening) => {
                listens.with_context(|| format!("nobody listened on port {port} within {START_WITHIN:?}"))
            }
        }
    }

    /// Waits until it ends, which it should not do by itself, and says what it said last.
    pub async fn ended(&mut self) -> anyhow::Error {
        let how = match self.process.wait().await {
            Ok(status) => status.to_string(),
            Err(why) => why.to_string(),
        };
        let said = fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        anyhow!(
            "{} ended ({how}); the end of {}:\n{last}",
            self.name,
            self.log.display()
        )
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// Stops it and all that it started.
    pub async fn stop(self) {
        let signal = self.stop;
        self.end_by(signal).await;
    }

    /// Ends it and all that it started by a signal that may be rude.
    pub async fn end_by(mut self, signal: Signal) {
        // The wait reaps the leader, without which its group would never be gone.
        let (_, ()) = tokio::join!(self.process.wait(), stop_group(self.group, signal));
    }
}

async fn answers(url: &str) {
    let client = reqwest::Client::new();
    loop {
        let answer = client.get(url).send().await;
        if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Stops what an earlier run left behind when it was killed. The caller holds `data_dir`'s lock.
pub async fn stop_leftovers(data_dir: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(data_dir.join("run")) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        let locked = File::open(&path)?.try_lock();
        if matches!(locked, Err(TryLockError::WouldBlock))
            && let Ok(group) = fs::read_to_string(&path)?.parse()
        {
            say(&format!("stopping {} of an earlier run", path.display()));
            stop_group(Pid::from_raw(group), Signal::SIGINT).await;
        }
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Sends `stop` to every process of `group`, and kills what still runs after [`PATIENCE`].
async fn stop_group(group: Pid, stop: Signal) {
    let _ = killpg(group, stop);
    let deadline = Instant::now() + PATIENCE;
    while killpg(group, None) != Err(Errno::ESRCH) {
        if Instant::now() > deadline {
            let _ = killpg(group, Signal::SIGKILL);
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
