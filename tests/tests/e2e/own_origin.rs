//! The real origin with a database of its own, beside the stack's: what is done to it concerns no
//! other test. And what its operator does at the command line.

use std::{env, fs::File, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use base64ct::{Base64, Encoding};
use reqwest::Url;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tests::{PROOF_KEY, free_ports};
use tokio::process::{Child, Command};

use crate::rig::within;

/// An origin, which ends when this is dropped.
pub struct OwnOrigin {
    /// Where it answers.
    pub url: String,
    database_url: String,
    _process: Child,
}

impl OwnOrigin {
    /// Starts one with a new database of this name; the edge before it is at `public_url`, as its
    /// clients see it.
    pub async fn start(name: &str, public_url: &str) -> Result<Self> {
        let stack = env::var("DATABASE_URL")?;
        let mut db = PgConnection::connect(&stack).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut db)
            .await?;
        let mut database_url = Url::parse(&stack)?;
        database_url.set_path(name);
        let [_, port] = free_ports()?;
        let log = PathBuf::from(env::var("DATA_DIR")?).join(format!("logs/{name}.log"));
        let log = File::create(log)?;
        let process = program(database_url.as_str())?
            .arg("serve")
            .env("LISTEN", format!("127.0.0.1:{port}"))
            .env("PRIVATE_LISTEN", format!("127.0.0.1:{}", port + 1))
            .env("PUBLIC_URL", public_url)
            .env("LIMIT_SCALE", "1000")
            .env("REQUIRE_EMAIL_VERIFICATION", "false")
            .env("REFRESH_TOKEN_KEYS", format!("1:{}", key(2)))
            .env("EMAIL_HASH_KEY", key(3))
            .env("EDGE_PROOF_KEY", Base64::encode_string(&PROOF_KEY))
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let ready = format!("http://127.0.0.1:{}/health/ready", port + 1);
        within(Duration::from_secs(30), "the origin is ready", async || {
            let answer = reqwest::get(&ready).await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        Ok(Self {
            url: format!("http://127.0.0.1:{port}"),
            database_url: database_url.into(),
            _process: process,
        })
    }

    /// `origin keys …`: what it prints.
    pub async fn keys(&self, task: &[&str]) -> Result<String> {
        said(program(&self.database_url)?.arg("keys").args(task)).await
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

/// What the stack's operator does: `origin …`, and what it prints.
pub async fn operate(task: &[&str]) -> Result<String> {
    said(program(&env::var("DATABASE_URL")?)?.args(task)).await
}

/// The program with its database, and with keys that are no stack's.
fn program(database_url: &str) -> Result<Command> {
    let mut program = Command::new(env::var_os("ORIGIN_PROGRAM").context("run by xtask")?);
    program
        .env_remove("REDIS_URL")
        .env("DATABASE_URL", database_url)
        .env("KEY_ENCRYPTION_KEY", key(4));
    Ok(program)
}

async fn said(command: &mut Command) -> Result<String> {
    let ended = command.output().await?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(String::from_utf8(ended.stdout)?)
}

/// 32 bytes.
fn key(of: u8) -> String {
    Base64::encode_string(&[of; 32])
}
