//! `bench replicas`: what a second origin adds. Each is held to a part of one CPU, so that it is what
//! there is too little of, on a machine that has not enough for both, Postgres and the generator.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use ::tests::free_ports;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::task::{block_in_place, yield_now};

use super::{Figure, Goal, median, sign_in::Ours};
use crate::{
    balancer,
    children::Child,
    origin::{self, Origin},
    postgres::{self, Durability, free_port},
    secrets::Secrets,
    tools, up,
};

const ROUNDS: usize = 5;
/// What each origin may take of one CPU, in microseconds of each ten milliseconds.
const SHARE_MICROS: u32 = 1_500;
const OF_MICROS: u32 = 10_000;
const NAMES: [&str; 2] = ["origin-1", "origin-2"];

/// Refreshes at one origin, and at two behind the same kind of balancer.
pub async fn measure(seconds: u64) -> Result<Vec<Figure>> {
    let build = ["build", "--release", "--package", "origin"];
    tools::run(&mut tools::cargo(&build)).await?;
    let data = tempfile::tempdir()?;
    // As for `bench ledger`: Postgres may run as another user.
    fs::set_permissions(data.path(), Permissions::from_mode(0o755))?;
    let shares = [Share::make(NAMES[0])?, Share::make(NAMES[1])?];
    let mut children = Vec::new();
    let measured = tokio::select! {
        measured = run(data.path(), &shares, &mut children, Duration::from_secs(seconds)) => measured,
        told = up::told_to_stop() => told.and_then(|()| bail!("stopped before the end")),
    };
    while let Some(child) = children.pop() {
        child.stop().await;
    }
    measured
}

async fn run(
    data: &Path,
    shares: &[Share; 2],
    children: &mut Vec<Child>,
    within: Duration,
) -> Result<Vec<Figure>> {
    let secrets = Secrets::load_or_make(data)?;
    let (postgres, database_url) = postgres::start(data, &secrets, Durability::Full).await?;
    children.push(postgres);
    let [alone, both] = [free_port()?, free_port()?];
    let mut ports = Vec::new();
    for (name, share) in NAMES.into_iter().zip(shares) {
        let [_, port] = free_ports()?;
        let mut command = Origin {
            program: &share.wrap(data, &tools::target_dir().join("release/origin"))?,
            port,
            public_url: &format!("http://127.0.0.1:{both}"),
            database_url: &database_url,
            limit_scale: 1_000_000,
            secrets: &secrets,
        }
        .serve()?;
        command.env("REFRESH_GRACE", "0s").env("RUST_LOG", "warn");
        let mut origin = Child::start(name, command, Signal::SIGTERM, data)?;
        origin.answers(&origin::ready_url(port)).await?;
        children.push(origin);
        ports.push(port);
    }
    for (port, origins) in [(alone, &ports[..1]), (both, &ports[..])] {
        // Two of one name have a folder each.
        let folder = data.join(port.to_string());
        fs::create_dir(&folder)?;
        let balancer = balancer::start(&folder, port, origins).await?;
        children.push(balancer.context("replicas need haproxy")?);
    }
    let [alone, both] = [alone, both].map(|port| format!("127.0.0.1:{port}"));
    let mut people = block_in_place(|| Ours::sign_up(&both))?;
    let mut rounds: [Vec<f64>; 2] = Default::default();
    for number in 1..=ROUNDS {
        eprintln!("round {number} of {ROUNDS}");
        // Or nobody would hear Ctrl-C.
        yield_now().await;
        for (address, round) in [&alone, &both].into_iter().zip(&mut rounds) {
            let refreshed = block_in_place(|| {
                people.go_to(address)?;
                people.refresh(within)
            });
            round.push(refreshed?);
        }
    }
    let [alone, both] = rounds.map(median);
    Ok(vec![Figure {
        bench: "replicas",
        case: format!(
            "refresh, each origin {}% of a CPU",
            100 * SHARE_MICROS / OF_MICROS
        ),
        unit: "a second",
        ours: both,
        peer: "one origin",
        theirs: alone,
        ratio: both / alone,
        goal: Some(Goal::AtLeast(1.7)),
    }])
}

/// A part of a CPU, by a control group of either version; gone when it is dropped.
struct Share(PathBuf);

impl Share {
    fn make(name: &str) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").is_file();
        let parent = if is_v2 {
            root.to_owned()
        } else {
            root.join("cpu")
        };
        let group = parent.join(format!("tollgate-{name}"));
        let told = || -> std::io::Result<()> {
            fs::create_dir_all(&group)?;
            if is_v2 {
                fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
                return fs::write(group.join("cpu.max"), format!("{SHARE_MICROS} {OF_MICROS}"));
            }
            fs::write(group.join("cpu.cfs_period_us"), OF_MICROS.to_string())?;
            fs::write(group.join("cpu.cfs_quota_us"), SHARE_MICROS.to_string())
        };
        told().with_context(|| {
            format!(
                "holding a program to a part of a CPU by {} needs root",
                group.display()
            )
        })?;
        Ok(Self(group))
    }

    /// A program that is the other one in this group.
    fn wrap(&self, data: &Path, program: &Path) -> Result<PathBuf> {
        let name = self.0.file_name().context("a group has a name")?;
        let wrapper = data.join(name);
        let (group, program) = (self.0.display(), program.display());
        let text =
            format!("#!/bin/sh\necho $$ > '{group}/cgroup.procs' && exec '{program}' \"$@\"\n");
        fs::write(&wrapper, text)?;
        fs::set_permissions(&wrapper, Permissions::from_mode(0o755))?;
        Ok(wrapper)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Whoever looks finds an empty group at worst.
        let _ = fs::remove_dir(&self.0);
    }
}
