//! Where it happens: two origins behind a balancer, on a Postgres that waits for the disk and has a pooler before
//! it, with a Redis.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tests::free_ports;
use tokio::{process::Command, time::sleep};

use super::{CALM, load::BONUS, slow::Slow};
use crate::{
    balancer,
    children::Child,
    origin, pooler,
    postgres::{self, Cluster, Durability},
    redis,
    secrets::Secrets,
    steps::say,
    tools,
};

/// Replicas.
pub const ORIGINS: usize = 2;
/// Quotas are not what is rehearsed.
const LIMIT_SCALE: u32 = 1_000_000;
const NAMES: [&str; ORIGINS] = ["origin-1", "origin-2"];

/// What runs, and where.
pub struct Site {
    /// Where clients ask.
    pub base: String,
    /// The database, whether it runs or not.
    pub cluster: Cluster,
    /// What the origins know.
    pub secrets: Secrets,
    /// What else each origin is told.
    pub told: [Vec<(&'static str, String)>; ORIGINS],
    /// Between the origins and the database.
    pub slow: Slow,
    /// The key that seals, where it is not the one of the secrets.
    pub sealing: Option<String>,
    ports: [u16; ORIGINS],
    redis_port: u16,
    pooler_url: String,
    pooler: Option<Child>,
    postgres: Option<Child>,
    redis: Option<Child>,
    balancer: Option<Child>,
    origins: [Option<Child>; ORIGINS],
    // Before the folder that it is in.
    disk: Option<Disk>,
    data: TempDir,
}

impl Site {
    /// Prepares it; nothing runs yet.
    pub async fn prepare() -> Result<Self> {
        // Postgres may run as another user, who has to walk in.
        let mut data = tempfile::Builder::new();
        let data = data
            .prefix("tollgate-drill-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()?;
        let secrets = Secrets::load_or_make(data.path())?;
        // Ports that no outgoing connection can take while a server is down.
        let [database_port, slow_port] = free_ports()?;
        let [redis_port, balancer_port] = free_ports()?;
        let [_, first] = free_ports()?;
        let [_, second] = free_ports()?;
        let cluster = Cluster::make(data.path(), &secrets, Durability::Full, database_port).await?;
        Ok(Self {
            base: format!("http://127.0.0.1:{balancer_port}"),
            slow: Slow::listen(slow_port, database_port).await?,
            cluster,
            secrets,
            told: [const { Vec::new() }; ORIGINS],
            sealing: None,
            ports: [first, second],
            redis_port,
            pooler_url: String::new(),
            pooler: None,
            postgres: None,
            redis: None,
            balancer: None,
            origins: [None, None],
            disk: None,
            data,
        })
    }

    /// Starts all of it; returns when it serves.
    pub async fn start(&mut self) -> Result<()> {
        self.start_postgres().await?;
        self.start_pooler().await?;
        self.start_redis().await?;
        for at in 0..ORIGINS {
            self.start_origin(at).await?;
        }
        let port = self.base.rsplit(':').next().context("a port")?.parse()?;
        self.balancer = balancer::start(self.data(), port, &self.ports).await?;
        ensure!(self.balancer.is_some(), "a drill needs haproxy");
        Ok(())
    }

    /// Returns when the balancer has found an origin that serves.
    pub async fn serves(&mut self) -> Result<()> {
        let keys = format!("{}/api/v1/auth/jwks", self.base);
        let balancer = self.balancer.as_mut().context("the balancer runs")?;
        balancer.answers(&keys).await
    }

    /// The folder of all that it keeps.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Where each origin answers, past the balancer.
    pub fn origins(&self) -> [String; ORIGINS] {
        self.ports.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// Starts Postgres; returns when it accepts sessions.
    pub async fn start_postgres(&mut self) -> Result<()> {
        self.postgres = Some(self.cluster.start().await?);
        Ok(())
    }

    async fn start_pooler(&mut self) -> Result<()> {
        let started = pooler::start(self.data(), &self.database_url()?).await?;
        let (pooler, place) = started.context("a drill needs pgbouncer")?;
        self.pooler_url = format!("postgres://{}@{place}/postgres", pooler::USER);
        self.pooler = Some(pooler);
        Ok(())
    }

    /// By the way that can be slow.
    fn database_url(&self) -> Result<String> {
        let password = self.secrets.get("POSTGRES_PASSWORD")?;
        Ok(postgres::url(password, self.slow.port))
    }

    /// Ends Postgres by a signal: SIGINT is a restart's, SIGQUIT is a crash.
    pub async fn end_postgres(&mut self, signal: Signal) -> Result<()> {
        let postgres = self.postgres.take().context("Postgres runs")?;
        postgres.end_by(signal).await;
        Ok(())
    }

    /// Puts the database on a disk of its own, which has so much room.
    pub async fn make_room(&mut self, room: &str) -> Result<()> {
        self.disk = Some(Disk::under(&self.cluster.data, room).await?);
        Ok(())
    }

    /// Waits until Postgres ends by itself.
    pub async fn postgres_ended(&mut self) {
        if let Some(postgres) = &mut self.postgres {
            postgres.ended().await;
        }
    }

    /// Starts Redis, with nothing in it.
    pub async fn start_redis(&mut self) -> Result<()> {
        self.redis = redis::start(self.data(), self.redis_port).await?;
        ensure!(self.redis.is_some(), "a drill needs a Redis");
        Ok(())
    }

    /// Kills Redis.
    pub async fn kill_redis(&mut self) -> Result<()> {
        let redis = self.redis.take().context("Redis runs")?;
        redis.end_by(Signal::SIGKILL).await;
        Ok(())
    }

    /// Starts an origin; returns when it is ready.
    pub async fn start_origin(&mut self, at: usize) -> Result<()> {
        let port = self.ports[at];
        let database = self.database_url()?;
        let mut command = origin::Origin {
            program: &tools::origin_program(),
            port,
            public_url: &self.base,
            database_url: &database,
            limit_scale: LIMIT_SCALE,
            secrets: &self.secrets,
        }
        .serve()?;
        command
            // A password's comparison is not what is rehearsed.
            .env("ARGON2_MEMORY_KIB", "8")
            .env("ARGON2_PASSES", "1")
            .env("CREDITS_SIGNUP_BONUS", BONUS.to_string())
            .env("CREDITS_DAILY", "0")
            .env("DATABASE_POOLER_URL", &self.pooler_url)
            // Four looks of the balancer.
            .env("SHUTDOWN_DELAY", "2s")
            .env(
                "REDIS_URL",
                format!("redis://127.0.0.1:{}", self.redis_port),
            )
            .env("RUST_LOG", "info")
            .envs(self.sealing.iter().map(|key| ("KEY_ENCRYPTION_KEY", key)))
            .envs(self.told[at].iter().cloned());
        let mut origin = Child::start(NAMES[at], command, Signal::SIGTERM, self.data())?;
        origin.answers(&origin::ready_url(port)).await?;
        self.origins[at] = Some(origin);
        Ok(())
    }

    /// Stops an origin by SIGTERM; returns when it has ended.
    pub async fn stop_origin(&mut self, at: usize) -> Result<()> {
        let origin = self.origins[at].take().context("the origin runs")?;
        origin.stop().await;
        Ok(())
    }

    /// Stops and starts each origin, one after the other.
    pub async fn roll(&mut self) -> Result<()> {
        for at in 0..ORIGINS {
            self.stop_origin(at).await?;
            self.start_origin(at).await?;
            sleep(CALM).await;
        }
        Ok(())
    }

    /// What an operator's command says.
    pub async fn operate(&self, arguments: &[&str]) -> Result<String> {
        let mut origin = Command::new(tools::origin_program());
        for name in ["EMAIL_HASH_KEY", "KEY_ENCRYPTION_KEY"] {
            origin.env(name, self.secrets.get(name)?);
        }
        origin
            .args(arguments)
            .envs(self.sealing.iter().map(|key| ("KEY_ENCRYPTION_KEY", key)))
            .env("DATABASE_URL", &self.cluster.url);
        tools::output(&mut origin).await
    }

    /// Compares the ledger with itself, where all was well so far, and stops everything.
    pub async fn end<T>(mut self, good: Result<T>) -> Result<T> {
        let judged = match good {
            Ok(found) => self.operate(&["ledger", "verify"]).await.map(|_| found),
            Err(why) => Err(why),
        };
        for child in [self.balancer.take(), self.redis.take()]
            .into_iter()
            .flatten()
        {
            child.stop().await;
        }
        for origin in self.origins.iter_mut().filter_map(Option::take) {
            origin.end_by(Signal::SIGKILL).await;
        }
        if let Some(postgres) = self.postgres.take() {
            postgres.stop().await;
        }
        if judged.is_err() {
            say(&format!(
                "the logs and the data are in {}",
                self.data.keep().display()
            ));
        }
        judged
    }
}

/// A small disk of memory.
struct Disk(PathBuf);

impl Disk {
    /// Moves what is in a folder onto one.
    async fn under(folder: &Path, room: &str) -> Result<Self> {
        let beside = folder.with_extension("beside");
        fs::rename(folder, &beside)?;
        fs::create_dir(folder)?;
        let owner = fs::metadata(&beside)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", room, "tmpfs"]).arg(folder);
        tools::output(&mut mount).await?;
        let disk = Self(folder.to_owned());
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(beside.join(".")).arg(folder);
        tools::output(&mut copy).await?;
        chown(folder, Some(owner.uid()), Some(owner.gid()))?;
        fs::set_permissions(folder, owner.permissions())?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}
