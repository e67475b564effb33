//! The whole of Tollgate on this machine: Postgres, the origin, and the edge under Wrangler.
//!
//! What it keeps (the database, secrets, logs) lies in one data folder, which one stack at a
//! time may use.

use std::{
    env,
    fmt::Write,
    fs::{self, File},
    net::TcpListener,
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::future::select_all;
use nix::sys::signal::Signal;
use tests::free_ports;
use tokio::process::Command;

use crate::{
    balancer,
    children::{self, Child},
    edge,
    origin::{self, Origin},
    policy, pooler,
    postgres::{self, Durability, free_port},
    redis,
    secrets::{self, Secrets},
    steps::Steps,
    tools,
};

/// Where the stack is, and what it uses.
#[derive(Args, Clone)]
pub struct Settings {
    /// Port of the edge
    #[arg(long, env = "EDGE_PORT", default_value_t = 8787)]
    pub edge_port: u16,
    /// Port of the origin; the next one has its health and metrics
    #[arg(long, env = "ORIGIN_PORT", default_value_t = 3001)]
    pub origin_port: u16,
    /// Folder of the database, the secrets and the logs
    #[arg(long, env = "DATA_DIR", default_value = ".tollgate")]
    pub data_dir: PathBuf,
    /// Multiplies every quota, for tests and benches
    #[arg(long, env = "LIMIT_SCALE", default_value_t = 1)]
    pub limit_scale: u32,
    /// A file of apps behind the edge, in TOML, with their keys in the variable `UPSTREAM_PROOF_KEYS`
    #[arg(long, env = "POLICY_FILE")]
    pub policy: Option<PathBuf>,
    /// A Postgres that runs already, instead of one of our own
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Whether our own Postgres waits for the disk.
    #[arg(skip = Durability::Full)]
    pub durability: Durability,
    /// Whether it is as operators have it, as far as this machine can: a pooler, a Redis, and two
    /// origins behind a balancer.
    #[arg(skip)]
    pub as_deployed: bool,
    /// What else the origin is told.
    #[arg(skip)]
    pub origin_env: Vec<(&'static str, String)>,
}

impl Settings {
    fn edge_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.edge_port)
    }

    fn origin_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.origin_port)
    }
}

/// Where a stack answers, and what it uses.
pub struct Started {
    /// The edge's public URL.
    pub edge_url: String,
    /// The origin's URL, which only the edge should use.
    pub origin_url: String,
    /// Where each origin listens; the next port has its health and metrics.
    pub origin_ports: Vec<u16>,
    /// The database, as its owner.
    pub database_url: String,
    /// The folder of the secrets and the logs.
    pub data_dir: PathBuf,
    /// Where a pooler listens that is in front of the database.
    pub pooler: Option<String>,
    /// The Redis that the origins use.
    pub redis_url: Option<String>,
}

/// What runs, in the order in which it was started.
pub struct Stack {
    settings: Settings,
    secrets: Secrets,
    children: Vec<Child>,
    redis: Option<Child>,
    _lock: File,
}

impl Stack {
    /// Takes the data folder, and stops what a run that was killed left there.
    pub async fn open(mut settings: Settings) -> Result<Self> {
        let data_dir = env::current_dir()?.join(&settings.data_dir);
        fs::create_dir_all(&data_dir)
            .with_context(|| format!("cannot make {}", data_dir.display()))?;
        settings.data_dir = data_dir.canonicalize()?;
        let lock = File::create(settings.data_dir.join("lock"))?;
        if lock.try_lock().is_err() {
            bail!(
                "Tollgate runs already with the data of {}: stop it, or set DATA_DIR, EDGE_PORT and ORIGIN_PORT",
                settings.data_dir.display()
            );
        }
        children::stop_leftovers(&settings.data_dir).await?;
        Ok(Self {
            secrets: Secrets::load_or_make(&settings.data_dir)?,
            settings,
            children: Vec::new(),
            redis: None,
            _lock: lock,
        })
    }

    /// Builds and starts everything; returns when all of it answers.
    pub async fn start(&mut self) -> Result<Started> {
        self.check_ports()?;
        let mut steps = Steps::of(6);
        steps
            .step("installing tools", tools::install_node_modules())
            .await?;
        steps
            .step("building the origin", async {
                tools::run(&mut tools::cargo(&["build", "--package", "origin"])).await
            })
            .await?;
        steps.step("building the edge", edge::build()).await?;
        let database_url = steps
            .step("starting Postgres", self.start_postgres())
            .await?;
        self.tell_operator(&database_url)?;
        let (mut pooler, mut redis_url) = (None, None);
        if self.settings.as_deployed {
            pooler = self.start_pooler(&database_url).await?;
            redis_url = self.start_redis().await?;
        }
        let origin_ports = steps
            .step("starting the origin", self.start_origins(&database_url))
            .await?;
        steps.step("starting the edge", self.start_edge()).await?;
        Ok(Started {
            edge_url: self.settings.edge_url(),
            origin_url: self.settings.origin_url(),
            origin_ports,
            data_dir: self.settings.data_dir.clone(),
            database_url,
            pooler,
            redis_url,
        })
    }

    /// Kills the Redis, if there is one.
    pub async fn kill_redis(&mut self) {
        if let Some(redis) = self.redis.take() {
            redis.end_by(Signal::SIGKILL).await;
        }
    }

    /// Waits until one of the programs ends, which none should.
    pub async fn ended(&mut self) -> anyhow::Error {
        let ends = self
            .children
            .iter_mut()
            .map(|child| Box::pin(child.ended()));
        select_all(ends).await.0
    }

    /// Stops everything, last started first.
    pub async fn stop(mut self) {
        while let Some(child) = self.children.pop() {
            child.stop().await;
        }
        self.kill_redis().await;
    }

    fn check_ports(&self) -> Result<()> {
        let Settings {
            edge_port,
            origin_port,
            ..
        } = self.settings;
        for (port, what, variable) in [
            (edge_port, "the edge", "EDGE_PORT"),
            (origin_port, "the origin", "ORIGIN_PORT"),
            (origin_port + 1, "the origin's health", "ORIGIN_PORT"),
        ] {
            if TcpListener::bind(("127.0.0.1", port)).is_err() {
                bail!("port {port}, for {what}, is taken: free it, or set {variable} to another");
            }
        }
        Ok(())
    }

    /// What `origin …` commands on this database need, for a shell.
    fn tell_operator(&self, database_url: &str) -> Result<()> {
        let mut text = format!("DATABASE_URL='{database_url}'\n");
        for name in ["KEY_ENCRYPTION_KEY", "EMAIL_HASH_KEY"] {
            writeln!(text, "{name}='{}'", self.secrets.get(name)?)?;
        }
        secrets::write_private(&self.settings.data_dir.join("operator.env"), &text)
    }

    /// Starts a pooler, if this machine can have one; returns where it listens.
    async fn start_pooler(&mut self, database_url: &str) -> Result<Option<String>> {
        let data_dir = &self.settings.data_dir;
        let Some((pooler, place)) = pooler::start(data_dir, database_url).await? else {
            return Ok(None);
        };
        self.children.push(pooler);
        let url = format!("postgres://{}@{place}/postgres", pooler::USER);
        self.settings.origin_env.push(("DATABASE_POOLER_URL", url));
        Ok(Some(place))
    }

    /// Starts a Redis, if this machine can have one; returns its URL.
    async fn start_redis(&mut self) -> Result<Option<String>> {
        let port = free_port()?;
        self.redis = redis::start(&self.settings.data_dir, port).await?;
        Ok(self.redis.is_some().then(|| {
            let url = format!("redis://127.0.0.1:{port}");
            self.settings.origin_env.push(("REDIS_URL", url.clone()));
            url
        }))
    }

    async fn start_postgres(&mut self) -> Result<String> {
        if let Some(url) = &self.settings.database_url {
            return Ok(url.clone());
        }
        let Settings {
            data_dir,
            durability,
            ..
        } = &self.settings;
        let (postgres, url) = postgres::start(data_dir, &self.secrets, *durability).await?;
        self.children.push(postgres);
        Ok(url)
    }

    /// Starts one origin, or two behind a balancer; returns their ports.
    async fn start_origins(&mut self, database_url: &str) -> Result<Vec<u16>> {
        let front = self.settings.origin_port;
        if self.settings.as_deployed {
            let [[_, first], [_, second]] = [free_ports()?, free_ports()?];
            let ports = [first, second];
            if let Some(balancer) = balancer::start(&self.settings.data_dir, front, &ports).await? {
                self.children.push(balancer);
                self.start_origin("origin-1", first, database_url).await?;
                self.start_origin("origin-2", second, database_url).await?;
                return Ok(ports.to_vec());
            }
        }
        self.start_origin("origin", front, database_url).await?;
        Ok(vec![front])
    }

    async fn start_origin(
        &mut self,
        name: &'static str,
        port: u16,
        database_url: &str,
    ) -> Result<()> {
        let settings = &self.settings;
        let program = tools::origin_program();
        let mut origin = Origin {
            program: &program,
            port,
            public_url: &settings.edge_url(),
            database_url,
            limit_scale: settings.limit_scale,
            secrets: &self.secrets,
        }
        .serve()?;
        origin.env("MAIL_DIR", settings.data_dir.join("mail"));
        origin.envs(settings.origin_env.iter().cloned());
        // A line a request, unless somebody wants something else.
        if env::var_os("RUST_LOG").is_none() {
            origin.env("RUST_LOG", "info,origin=debug");
        }
        self.start_child(name, origin, &origin::ready_url(port))
            .await
    }

    /// Runs the edge as an operator tries it: `wrangler dev`, with the secrets in a file.
    async fn start_edge(&mut self) -> Result<()> {
        let settings = &self.settings;
        let variables = settings.data_dir.join("edge.env");
        let mut text = format!(
            "PUBLIC_URL={}\nORIGIN_URL={}\nLIMIT_SCALE={}\nEDGE_PROOF_KEY={}\n",
            settings.edge_url(),
            settings.origin_url(),
            settings.limit_scale,
            self.secrets.get("EDGE_PROOF_KEY")?,
        );
        if let Some(file) = &settings.policy {
            let keys = env::var("UPSTREAM_PROOF_KEYS").unwrap_or_default();
            let policy = policy::read(file)?;
            writeln!(text, "POLICY='{policy}'\nUPSTREAM_PROOF_KEYS={keys}")?;
        }
        secrets::write_private(&variables, &text)?;
        let mut wrangler = tools::wrangler(&settings.data_dir.join("logs/wrangler"));
        wrangler
            .args(["dev", "--local", "--ip", "127.0.0.1"])
            .args(["--port", &settings.edge_port.to_string()])
            .args(["--inspector-port", &free_port()?.to_string()])
            .args(["--show-interactive-dev-session", "false"])
            .arg("--env-file")
            .arg(variables)
            .arg("--persist-to")
            .arg(settings.data_dir.join("edge"))
            .env("CLOUDFLARE_CF_FETCH_ENABLED", "false");
        let health = format!("{}/health", settings.edge_url());
        self.start_child("edge", wrangler, &health).await
    }

    /// Starts a program and waits until `url` answers 200.
    async fn start_child(&mut self, name: &'static str, command: Command, url: &str) -> Result<()> {
        let child = Child::start(name, command, Signal::SIGTERM, &self.settings.data_dir)?;
        self.children.push(child);
        let child = self.children.last_mut().expect("it was pushed just now");
        child.answers(url).await
    }
}
