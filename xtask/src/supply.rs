//! What Tollgate is made of: whether it may be, and the list of it.

use std::{env, path::PathBuf};

use anyhow::Result;
use tokio::process::Command;

use crate::{
    steps::say,
    tools::{self, target_dir},
};

const DENY: [&str; 2] = ["cargo-deny", "0.20.2"];
const CYCLONEDX: [&str; 2] = ["cargo-cyclonedx", "0.5.9"];
/// What is deployed.
const DEPLOYED: [&str; 2] = ["origin", "edge"];

/// Holds dependencies to `deny.toml`: licences, bans and sources. Advisories are asked for by
/// `cargo deny check`, from a machine that reaches their database.
pub async fn allowed() -> Result<()> {
    let check = [
        "check",
        "--allow",
        "duplicate",
        "licenses",
        "bans",
        "sources",
    ];
    let mut deny = cargo_tool(DENY, &["--no-default-features"]).await?;
    tools::run(deny.args(["--locked"]).args(check)).await
}

/// Writes a bill of materials (`CycloneDX`) for each of the deployed, beside its `Cargo.toml`.
pub async fn list() -> Result<()> {
    let mut cyclonedx = cargo_tool(CYCLONEDX, &[]).await?;
    // It writes one for each crate of the workspace.
    cyclonedx.args(["cyclonedx", "--format", "json", "--spec-version", "1.5"]);
    tools::run(cyclonedx.args(["--override-filename", "sbom", "--target", "all"])).await?;
    for package in DEPLOYED {
        say(&format!("{package}/sbom.json"));
    }
    Ok(())
}

/// A subcommand of cargo's at this version, which is built when it is missing.
async fn cargo_tool([name, version]: [&str; 2], features: &[&str]) -> Result<Command> {
    let folder: PathBuf = target_dir().join(format!("tools/{name}-{version}"));
    let program = folder.join("bin").join(name);
    if !program.is_file() {
        let mut install = tools::cargo(&[
            "install",
            "--locked",
            "--quiet",
            "--debug",
            "--version",
            version,
        ]);
        install.arg("--root").arg(&folder).arg(name).args(features);
        // Out of the folder whose toolchain and settings are for Tollgate.
        install.current_dir(env::temp_dir());
        // Cargo builds it in a folder of its own, and takes that away.
        tools::run(&mut install).await?;
    }
    let mut tool = Command::new(program);
    tool.current_dir(tools::root());
    Ok(tool)
}
