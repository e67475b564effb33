//! The tools that tasks call: cargo, rustup, npm and what npm installed. Each is at the version
//! that this repository pins, and is fetched when it is missing.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use nix::unistd::Uid;
pub use tests::root;
use tokio::process::Command;

use crate::steps::say;

/// The oldest Node that runs npm for us. What needs a newer one gets it from `node_modules`.
const OLDEST_NODE: u32 = 20;

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The origin, as `cargo build` makes it.
pub fn origin_program() -> PathBuf {
    target_dir().join("debug/origin")
}

/// `cargo` with these arguments, in the checkout. Queries are checked against `.sqlx`, whatever
/// `DATABASE_URL` says: that database may have no schema yet.
pub fn cargo(args: &[&str]) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(args)
        .current_dir(root())
        .env("SQLX_OFFLINE", "true");
    cargo
}

/// A program of `node_modules`, run by the Node of `node_modules`.
pub fn node_tool(name: &str) -> Command {
    let programs = root().join("node_modules/.bin");
    let mut path = programs.clone().into_os_string();
    if let Some(rest) = env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    let mut tool = Command::new(programs.join(name));
    tool.current_dir(root()).env("PATH", path);
    tool
}

/// Wrangler, which neither reports its use nor asks for updates, and logs into the folder `logs`.
pub fn wrangler(logs: &Path) -> Command {
    let mut wrangler = node_tool("wrangler");
    wrangler
        .env("WRANGLER_HIDE_BANNER", "true")
        .env("WRANGLER_LOG_PATH", logs)
        .env("WRANGLER_SEND_METRICS", "false");
    wrangler
}

/// Runs `command` to its end; an error unless it succeeds. It dies with the task.
pub async fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot run {shown}"))?;
    ensure!(status.success(), "{shown} failed ({status})");
    Ok(())
}

/// Runs `command` to its end and returns what it printed.
pub async fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {shown}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{shown} failed ({})\n{errors}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes sure that the Rust toolchain can compile for `target`.
pub async fn add_rust_target(target: &str) -> Result<()> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]);
    let library = output(rustc.current_dir(root())).await?;
    if Path::new(library.trim()).is_dir() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", target]).current_dir(root());
    run(&mut rustup).await
}

/// Makes `node_modules` what `package-lock.json` says, unless it is so already.
pub async fn install_node_modules() -> Result<()> {
    let lock = fs::read(root().join("package-lock.json"))?;
    let installed = root().join("node_modules/.installed-lock");
    if fs::read(&installed).is_ok_and(|earlier| earlier == lock) {
        return Ok(());
    }
    let version = output(Command::new("node").arg("--version"))
        .await
        .context("Tollgate's tools need Node: https://nodejs.org")?;
    let version = version.trim().trim_start_matches('v');
    let major = version.split('.').next().and_then(|part| part.parse().ok());
    ensure!(
        major >= Some(OLDEST_NODE),
        "Node is {version}, and {OLDEST_NODE} is the oldest that will do"
    );
    // Silent on engines: what needs a newer Node than this npm's runs under the one it installs.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--loglevel=error", "--no-progress"])
        .current_dir(root());
    run(&mut npm).await?;
    fs::write(installed, lock)?;
    Ok(())
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    format!("`{}`", words.join(" "))
}

/// A program of this machine; of Debian's package of the same name, where this is one and we are root.
pub async fn debian(name: &str) -> Option<PathBuf> {
    of_debian(name, name).await
}

/// A program of this machine; of this package of Debian's, where this is one and we are root.
pub async fn of_debian(package: &str, name: &str) -> Option<PathBuf> {
    let installed = || {
        let path = env::var_os("PATH")?;
        env::split_paths(&path)
            .chain([PathBuf::from("/usr/sbin")])
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    };
    if installed().is_none() {
        install(package).await;
    }
    installed()
}

/// Installs a package of Debian's, where this is one and we are root.
pub async fn install(package: &str) {
    if !Path::new("/etc/debian_version").is_file() || !Uid::effective().is_root() {
        return;
    }
    say(&format!("fetching {package} for the tests"));
    let install = async {
        let mut update = Command::new("apt-get");
        output(update.args(["update", "--quiet"])).await?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        install.args(["install", "--yes", "--quiet", "--no-install-recommends"]);
        output(install.arg(package)).await
    };
    if let Err(why) = install.await {
        say(&format!("no {package} by apt-get: {why:#}"));
    }
}
