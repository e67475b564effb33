//! `cargo xtask policy`: what an operator adds to policy.toml, before it is deployed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Subcommand;
use serde_json::Value;

use crate::steps::say;

/// Cloudflare takes no variable that is larger (its limits of Workers, "Environment variables").
const MAX_VARIABLE_BYTES: usize = 5 * 1_024;

/// What can be done with a policy.
#[derive(Subcommand)]
pub enum Policy {
    /// Name every mistake of a file, or of every POLICY of wrangler.toml
    Check {
        /// TOML, as under [vars.POLICY]
        file: Option<PathBuf>,
    },
}

/// Does it.
pub fn run(policy: &Policy) -> Result<()> {
    let Policy::Check { file } = policy;
    let policies = match file {
        Some(file) => vec![(file.display().to_string(), read(file)?)],
        None => of_wrangler(&table(Path::new("wrangler.toml"))?),
    };
    for (place, json) in &policies {
        check(json).with_context(|| place.clone())?;
    }
    for (place, _) in &policies {
        say(&format!("good  {place}, on policy.toml"));
    }
    if policies.is_empty() {
        say("good  wrangler.toml adds nothing to policy.toml");
    }
    Ok(())
}

/// A policy in TOML, as JSON.
pub fn read(file: &Path) -> Result<String> {
    Ok(table(file)?.to_string())
}

fn table(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let table: toml::Table = text.parse().with_context(|| file.display().to_string())?;
    Ok(serde_json::to_value(table)?)
}

/// Every policy of a deployment, and where it is.
fn of_wrangler(wrangler: &Value) -> Vec<(String, String)> {
    let environments = wrangler["env"].as_object().into_iter().flatten();
    let environments = environments.map(|(name, told)| (format!("env.{name}.vars.POLICY"), told));
    let all = [("vars.POLICY".to_owned(), wrangler)].into_iter();
    let told = all
        .chain(environments)
        .map(|(place, told)| (place, &told["vars"]["POLICY"]));
    told.filter(|(_, policy)| !policy.is_null())
        .map(|(place, policy)| (place, policy.to_string()))
        .collect()
}

fn check(json: &str) -> Result<()> {
    ::edge::policy::Policy::shipped(Some(json), 1).map_err(|why| anyhow!("{why}"))?;
    ensure!(
        json.len() <= MAX_VARIABLE_BYTES,
        "it has {} bytes as JSON, and a variable of Cloudflare at most {MAX_VARIABLE_BYTES}",
        json.len()
    );
    Ok(())
}
