//! What is tortured: a Postgres that waits for the disk, two origins on it, and a proxy in front
//! of each of the three. What it keeps lies in one folder.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use nix::sys::signal::Signal;
use tests::{StripeFake, free_ports};
use tokio::{process::Command, time::Instant};

use super::{
    model::{BOUGHT, PACKAGE, PRICE_CENTS},
    proxy::{Habit, Proxy},
};
use crate::{
    children::Child,
    origin,
    postgres::{self, Cluster, Durability},
    secrets::Secrets,
    tools,
};

/// Replicas of the origin.
pub const ORIGINS: usize = 2;
/// What every account starts with.
pub const SIGNUP_BONUS: u32 = 1_000_000;

/// One request of so many never hears its answer, or is not even heard.
const REQUESTS_A_CUT: Habit = Habit::OneOf(12);
/// An origin's connection to Postgres says so many things at the most before it is cut.
const MESSAGES_A_CUT: Habit = Habit::Within(150);
/// For how long an origin is started again that ends instead.
const START_WITHIN: Duration = Duration::from_mins(1);
/// Quotas are not what is tortured.
const LIMIT_SCALE: u32 = 1_000_000;

/// What the origins and their Stripe know each other by.
const STRIPE_KEY: &str = "sk_test_torture";
const STRIPE_WEBHOOK_SECRET: &str = "whsec_torture";

/// The programs and the proxies.
pub struct Rig {
    data_dir: PathBuf,
    secrets: Secrets,
    cluster: Cluster,
    postgres: Option<Child>,
    origins: [Origin; ORIGINS],
    faulty: Arc<AtomicBool>,
    wires: Wires,
    stripe: Arc<StripeFake>,
}

/// The proxies, which outlast what is behind them.
struct Wires {
    database: Proxy,
    origins: [Proxy; ORIGINS],
}

struct Origin {
    name: &'static str,
    port: u16,
    process: Option<Child>,
}

impl Rig {
    /// Prepares all of it, with a network that is sound; nothing runs yet.
    pub async fn prepare(data_dir: &Path, rng: &mut Rng) -> Result<Self> {
        let secrets = Secrets::load_or_make(data_dir)?;
        // Ports that no outgoing connection can take while a server is down.
        let [database_port, database_proxy] = free_ports()?;
        let cluster = Cluster::make(data_dir, &secrets, Durability::Full, database_port).await?;
        let faulty = Arc::new(AtomicBool::new(false));
        let mut listen = async |port, server, habit| {
            Proxy::listen(port, server, habit, rng.fork(), faulty.clone()).await
        };
        let [first_proxy, first] = free_ports()?;
        let [second_proxy, second] = free_ports()?;
        let wires = Wires {
            database: listen(database_proxy, database_port, MESSAGES_A_CUT).await?,
            origins: [
                listen(first_proxy, first, REQUESTS_A_CUT).await?,
                listen(second_proxy, second, REQUESTS_A_CUT).await?,
            ],
        };
        let origin = |name, port| Origin {
            name,
            port,
            process: None,
        };
        Ok(Self {
            data_dir: data_dir.to_owned(),
            secrets,
            cluster,
            postgres: None,
            origins: [origin("origin-1", first), origin("origin-2", second)],
            faulty,
            wires,
            stripe: Arc::new(StripeFake::start(STRIPE_KEY, STRIPE_WEBHOOK_SECRET).await?),
        })
    }

    /// Starts everything; returns when it can serve.
    pub async fn start(&mut self) -> Result<()> {
        self.start_postgres().await?;
        for at in 0..ORIGINS {
            self.start_origin(at).await?;
        }
        Ok(())
    }

    /// Where clients reach the replicas, through the proxies.
    pub fn bases(&self) -> [String; ORIGINS] {
        let base = |proxy: &Proxy| format!("http://127.0.0.1:{}", proxy.port);
        self.wires.origins.each_ref().map(base)
    }

    /// Where people pay.
    pub fn stripe(&self) -> Arc<StripeFake> {
        self.stripe.clone()
    }

    /// The database as its owner, past the proxy.
    pub fn database_url(&self) -> &str {
        &self.cluster.url
    }

    /// Whether connections are cut from now on.
    pub fn set_faulty(&self, faulty: bool) {
        self.faulty.store(faulty, Ordering::Relaxed);
    }

    /// Counts cuts of clients' requests, and of the origins' connections to Postgres.
    pub fn cuts(&self) -> impl Fn() -> [u64; 2] + use<> {
        let counters = self.wires.origins.each_ref().map(Proxy::counter);
        let database = self.wires.database.counter();
        move || [counters.iter().map(|count| count()).sum(), database()]
    }

    /// SIGKILL, in the middle of whatever it does.
    pub async fn kill_origin(&mut self, at: usize) -> Result<()> {
        let Origin { name, process, .. } = &mut self.origins[at];
        let mut process = process
            .take()
            .context("every origin runs between strikes")?;
        ensure!(
            !process.has_ended(),
            "{name} ended by itself: {}",
            process.ended().await
        );
        process.end_by(Signal::SIGKILL).await;
        Ok(())
    }

    /// Starts it until it can serve. A cut connection may end a start; whoever runs an origin
    /// starts it again.
    pub async fn start_origin(&mut self, at: usize) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let command = self.origin(at)?;
            let Origin { name, port, .. } = self.origins[at];
            keep_log(&self.data_dir, name)?;
            let mut process = Child::start(name, command, Signal::SIGTERM, &self.data_dir)?;
            match process.answers(&origin::ready_url(port)).await {
                Ok(()) => {
                    self.origins[at].process = Some(process);
                    return Ok(());
                }
                Err(why) => ensure!(Instant::now() < deadline, why),
            }
        }
    }

    /// Waits until every origin can serve again, by itself.
    pub async fn recovered(&mut self) -> Result<()> {
        for Origin { port, process, .. } in &mut self.origins {
            if let Some(process) = process {
                process.answers(&origin::ready_url(*port)).await?;
            }
        }
        Ok(())
    }

    /// SIGQUIT, Postgres's immediate shutdown: no checkpoint, no goodbye. What was committed is
    /// in its log, from which it recovers when it is started.
    pub async fn crash_postgres(&mut self) -> Result<()> {
        let mut postgres = self
            .postgres
            .take()
            .context("Postgres runs between strikes")?;
        ensure!(
            !postgres.has_ended(),
            "Postgres ended by itself: {}",
            postgres.ended().await
        );
        postgres.end_by(Signal::SIGQUIT).await;
        Ok(())
    }

    /// Starts Postgres on the same data and port.
    pub async fn start_postgres(&mut self) -> Result<()> {
        keep_log(&self.data_dir, "postgres")?;
        self.postgres = Some(self.cluster.start().await?);
        Ok(())
    }

    /// Ends everything that may be under way, as an operator would, and Postgres once more
    /// without warning; then starts it anew, with a network that is sound.
    pub async fn settle(&mut self) -> Result<()> {
        self.set_faulty(false);
        for origin in &mut self.origins {
            if let Some(process) = origin.process.take() {
                process.stop().await;
            }
        }
        self.crash_postgres().await?;
        self.start().await
    }

    /// Has the origin compare all that is in the ledger with itself; returns what it says.
    pub async fn verify(&self) -> Result<String> {
        self.operate(&["ledger", "verify"]).await
    }

    /// How often Postgres saw a transaction begin on a connection on which another was left open.
    pub fn left_open(&self) -> Result<usize> {
        let mut times = 0;
        for log in fs::read_dir(self.data_dir.join("logs"))? {
            let log = log?;
            if log.file_name().to_string_lossy().starts_with("postgres") {
                let text = fs::read(log.path())?;
                times += String::from_utf8_lossy(&text)
                    .matches("there is already a transaction in progress")
                    .count();
            }
        }
        Ok(times)
    }

    /// Offers the package that people buy.
    pub async fn offer(&self) -> Result<()> {
        let credits = format!("--credits={}.{:03}", BOUGHT / 1_000, BOUGHT % 1_000);
        let price = format!("--price-cents={PRICE_CENTS}");
        let set = ["packages", "set", PACKAGE, &credits, &price];
        self.operate(&set).await.map(drop)
    }

    /// What an operator's command says.
    async fn operate(&self, arguments: &[&str]) -> Result<String> {
        let mut origin = Command::new(tools::origin_program());
        origin
            .args(arguments)
            .env("DATABASE_URL", &self.cluster.url);
        tools::output(&mut origin).await
    }

    /// Stops all of it.
    pub async fn stop(self) {
        for origin in self.origins {
            if let Some(process) = origin.process {
                process.stop().await;
            }
        }
        if let Some(postgres) = self.postgres {
            postgres.stop().await;
        }
    }

    fn origin(&self, at: usize) -> Result<Command> {
        let database_url = postgres::url(
            self.secrets.get("POSTGRES_PASSWORD")?,
            self.wires.database.port,
        );
        // Both speak for one Tollgate: a token of one is good at the other.
        let public_url = format!("http://127.0.0.1:{}", self.wires.origins[0].port);
        let mut origin = origin::Origin {
            program: &tools::origin_program(),
            port: self.origins[at].port,
            public_url: &public_url,
            database_url: &database_url,
            limit_scale: LIMIT_SCALE,
            secrets: &self.secrets,
        }
        .serve()?;
        origin
            .env("ARGON2_MEMORY_KIB", "8")
            .env("ARGON2_PASSES", "1")
            .env("CREDITS_SIGNUP_BONUS", SIGNUP_BONUS.to_string())
            // Whether midnight was passed is not what is tortured.
            .env("CREDITS_DAILY", "0")
            .env("STRIPE_SECRET_KEY", STRIPE_KEY)
            .env("STRIPE_WEBHOOK_SECRET", STRIPE_WEBHOOK_SECRET)
            .env("STRIPE_API_BASE", &self.stripe.url)
            .env("RUST_LOG", "info");
        Ok(origin)
    }
}

/// Every start writes a log of its own: the one before it gets a number.
fn keep_log(data_dir: &Path, name: &str) -> Result<()> {
    let logs = data_dir.join("logs");
    let mut earlier = (1..).map(|number| logs.join(format!("{name}.{number}.log")));
    let free = earlier.find(|log| !log.exists());
    let log = logs.join(format!("{name}.log"));
    match free {
        Some(free) if log.exists() => Ok(fs::rename(log, free)?),
        _ => Ok(()),
    }
}
