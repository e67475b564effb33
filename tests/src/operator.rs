//! What an operator of the stack does at the command line.

use std::{env, path::PathBuf};

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::secrets::Secrets;

/// `origin …` on the stack's database, and what it prints.
pub async fn operate(task: &[&str]) -> Result<String> {
    operate_on(&env::var("DATABASE_URL")?, task).await
}

/// The same on another database.
pub async fn operate_on(database_url: &str, task: &[&str]) -> Result<String> {
    let secrets = secrets()?;
    let mut origin = Command::new(program()?);
    for name in ["EMAIL_HASH_KEY", "KEY_ENCRYPTION_KEY"] {
        origin.env(name, secrets.get(name)?);
    }
    let ended = origin
        .env("DATABASE_URL", database_url)
        .args(task)
        .output()
        .await?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(String::from_utf8(ended.stdout)?)
}

/// The origin's program.
pub fn program() -> Result<PathBuf> {
    Ok(env::var("ORIGIN_PROGRAM")?.into())
}

/// Where the stack keeps what it has.
pub fn data_dir() -> Result<PathBuf> {
    Ok(env::var("DATA_DIR")?.into())
}

/// What the stack's parts know.
pub fn secrets() -> Result<Secrets> {
    Secrets::load_or_make(&data_dir()?)
}
