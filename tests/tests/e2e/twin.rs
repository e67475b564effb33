//! The real origin once more, beside the stack's and with its secrets, for what the stack's is set up
//! otherwise; a worker in front of it; and what an operator does at the command line.

use std::{env, fs::File, process::Stdio, time::Duration};

use anyhow::Result;
use reqwest::Url;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tests::{
    Client, Script, Worker, free_ports, operator,
    origin::{self, Origin},
};
use tokio::process::Child;

use crate::rig::within;

/// A second origin and its worker, which end when this is dropped. The worker believes
/// `CF-Connecting-IP`, which Cloudflare sets.
pub struct Twin {
    pub edge: Client,
    /// Where its origin answers.
    pub origin_url: String,
    database_url: String,
    _worker: Worker,
    _origin: Child,
}

impl Twin {
    /// Starts an origin on the stack's database that is told `settings` and scales its quotas; the
    /// edge's are out of the way.
    pub async fn start(limit_scale: u32, settings: &[(&str, &str)]) -> Result<Self> {
        Self::on(env::var("DATABASE_URL")?, limit_scale, settings).await
    }

    /// As [`Self::start`], on a new database of this name: what is done to it concerns no other test.
    pub async fn apart(name: &str, limit_scale: u32, settings: &[(&str, &str)]) -> Result<Self> {
        let stack = env::var("DATABASE_URL")?;
        let mut db = PgConnection::connect(&stack).await?;
        // The stack may have been tested before.
        for sql in [
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("CREATE DATABASE {name}"),
        ] {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut db).await?;
        }
        let mut database_url = Url::parse(&stack)?;
        database_url.set_path(name);
        Self::on(database_url.into(), limit_scale, settings).await
    }

    async fn on(database_url: String, limit_scale: u32, settings: &[(&str, &str)]) -> Result<Self> {
        let secrets = operator::secrets()?;
        let public_url = env::var("EDGE_URL")?;
        let [_, port] = free_ports()?;
        let mut origin = Origin {
            program: &operator::program()?,
            port,
            public_url: &public_url,
            database_url: &database_url,
            limit_scale,
            secrets: &secrets,
        }
        .serve()?;
        let log = operator::data_dir()?.join(format!("logs/origin-{port}.log"));
        let log = File::create(log)?;
        let origin = origin
            .env_remove("REDIS_URL")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let private = Client::new(&origin::ready_url(port));
        within(
            Duration::from_secs(30),
            "the origin can serve",
            async || {
                let ready = private.get("").send().await;
                ready.is_ok_and(|answer| answer.status() == 200)
            },
        )
        .await;
        let origin_url = format!("http://127.0.0.1:{port}");
        let script = Script::edge(&public_url, &origin_url)?
            .var("EDGE_PROOF_KEY", secrets.get("EDGE_PROOF_KEY")?)
            .var("LIMIT_SCALE", "1000");
        let worker = Worker::start(&script).await?;
        Ok(Self {
            edge: Client::new(&worker.url),
            origin_url,
            database_url,
            _worker: worker,
            _origin: origin,
        })
    }

    /// What its operator does: `origin …`, and what it prints.
    pub async fn operate(&self, task: &[&str]) -> Result<String> {
        operator::operate_on(&self.database_url, task).await
    }

    /// Lets the time pass that a key is published before it signs.
    pub async fn pass_notice(&self) -> Result<()> {
        let mut db = PgConnection::connect(&self.database_url).await?;
        sqlx::query("UPDATE auth.signing_keys SET activate_at = now() WHERE state = 'next'")
            .execute(&mut db)
            .await?;
        Ok(())
    }
}
