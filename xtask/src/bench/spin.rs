//! `bench spin`: our component under the WASI host of the tests, behind HTTP, beside one that only
//! answers, which is the most that this host can do.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use tests::Issuer;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    task::block_in_place,
};

use super::{
    Figure, Goal,
    edge::{TOKENS, VALIDATE, requests, take_turns},
    load::{drive, serve_origin},
};
use crate::{edge, tools};

/// The host is built for speed, but not for hours.
const PROFILE: [&str; 2] = [
    "profile.release.lto=false",
    "profile.release.codegen-units=16",
];

/// Lets both verify nothing new.
pub async fn measure(seconds: u64) -> Result<Vec<Figure>> {
    let component = edge::build_component().await?;
    let mut cargo = tools::cargo(&["build", "--release", "--package", "edge"]);
    cargo.args(["--target", edge::WASI, "--example", "hello-spin"]);
    tools::run(&mut cargo).await?;
    let mut cargo = tools::cargo(&["build", "--release", "--package", "tests"]);
    cargo.args(["--example", "spin_host"]);
    cargo.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
    tools::run(&mut cargo).await?;

    let issuer = Issuer::new("http://127.0.0.1", 7);
    let origin = serve_origin(serde_json::to_string(&issuer.jwks())?)?;
    let ours = Host::start(&component, &issuer, &origin).await?;
    let hello = component.with_file_name("examples/hello_spin.wasm");
    let hello = Host::start(&hello, &issuer, &origin).await?;
    let requests = requests(&issuer, VALIDATE, TOKENS);
    let round = Duration::from_secs(seconds);
    let [ours, theirs] = block_in_place(|| {
        let contestants = [ours.address.as_str(), &hello.address];
        for address in contestants {
            drive(address, &requests, 1, Duration::MAX)?;
        }
        take_turns(contestants, |address, _| {
            drive(address, &requests, usize::MAX, round)
        })
    })?;
    Ok(vec![Figure {
        bench: "spin",
        case: "warm".to_owned(),
        unit: "requests/s",
        ours,
        peer: "hello",
        theirs,
        ratio: ours / theirs,
        goal: Some(Goal::AtLeast(0.8)),
    }])
}

/// A component that is served.
struct Host {
    address: String,
    _process: Child,
}

impl Host {
    async fn start(component: &Path, issuer: &Issuer, origin: &str) -> Result<Self> {
        let program = tools::target_dir().join("release/examples/spin_host");
        let mut process = tokio::process::Command::new(program)
            .args([issuer.url(), &format!("http://{origin}")])
            .env("SPIN_COMPONENT", component)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = process.stdout.take().context("its output")?;
        let address = BufReader::new(said).lines().next_line().await?;
        Ok(Self {
            address: address.context("the host did not start")?,
            _process: process,
        })
    }
}
