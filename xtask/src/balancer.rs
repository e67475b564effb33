//! An `HAProxy` in front of two origins: the machine's own, or Debian's. A machine that can have none does
//! without.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;
use nix::sys::signal::Signal;
use tokio::process::Command;

use crate::{children::Child, tools::debian};

/// Listens on `port` for the origins on these ports, whose health is one higher.
pub async fn start(data_dir: &Path, port: u16, origins: &[u16]) -> Result<Option<Child>> {
    let Some(program) = debian("haproxy").await else {
        return Ok(None);
    };
    let mut settings = format!(
        "defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    # Another origin is tried where one takes no connection: nothing was asked of it yet.
    retries 3
    option redispatch 1
    option httpchk GET /health/ready
    default-server check inter 500ms fall 1 rise 1
frontend clients
    bind 127.0.0.1:{port}
    default_backend origins
backend origins
    balance roundrobin
"
    );
    for origin in origins {
        let health = origin + 1;
        writeln!(
            settings,
            "    server origin-{origin} 127.0.0.1:{origin} port {health}"
        )?;
    }
    let file = data_dir.join("haproxy.cfg");
    fs::write(&file, settings)?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(file);
    let mut balancer = Child::start("haproxy", command, Signal::SIGTERM, data_dir)?;
    balancer.listens(port).await?;
    Ok(Some(balancer))
}
