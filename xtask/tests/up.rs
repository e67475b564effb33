//! `cargo xtask up`, as a person starts and stops it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tests::free_ports;

#[test]
fn up_goes_without_a_trace_and_comes_again_even_after_it_was_killed() -> Result<()> {
    let data = tempfile::tempdir()?;
    let ports = free_ports()?;
    for end in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGINT] {
        let mut up = up(data.path(), ports)?;
        wait_until_ready(&mut up, ports)?;
        let groups = groups(data.path())?;
        assert_eq!(groups.len(), 3, "Postgres, the origin and the edge");
        kill(Pid::from_raw(up.id().try_into()?), end)?;
        let ended = up.wait()?;
        // Who is killed can stop nobody; the next one does.
        if end != Signal::SIGKILL {
            assert!(ended.success(), "{end} is a good end");
            assert!(groups.into_iter().all(is_gone));
            assert!(ports.into_iter().all(is_free));
        }
    }
    Ok(())
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() -> Result<()> {
    let data = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let ended = up(data.path(), [port, free_ports()?[1]])?.wait_with_output()?;
    assert!(!ended.status.success());
    let said = String::from_utf8(ended.stderr)?;
    assert!(said.contains(&format!("port {port}")), "{said}");
    assert!(said.contains("EDGE_PORT"), "{said}");
    Ok(())
}

fn up(data_dir: &Path, [edge, origin]: [u16; 2]) -> Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .arg("up")
        .env("DATA_DIR", data_dir)
        .env("EDGE_PORT", edge.to_string())
        .env("ORIGIN_PORT", origin.to_string())
        .env_remove("DATABASE_URL")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command.spawn()?)
}

/// Reads until the line that says so, and no further: who listens no more stops nothing.
fn wait_until_ready(up: &mut Child, [edge, origin]: [u16; 2]) -> Result<()> {
    let output = up.stdout.take().context("it is piped")?;
    let ready = format!("ready edge=http://127.0.0.1:{edge} origin=http://127.0.0.1:{origin}");
    for line in BufReader::new(output).lines() {
        if line? == ready {
            return Ok(());
        }
    }
    bail!("it ended before it was ready")
}

/// The process groups that run, by what they note about themselves.
fn groups(data_dir: &Path) -> Result<Vec<Pid>> {
    let notes = fs::read_dir(data_dir.join("run"))?;
    notes
        .map(|note| Ok(Pid::from_raw(fs::read_to_string(note?.path())?.parse()?)))
        .collect()
}

fn is_gone(group: Pid) -> bool {
    killpg(group, None) == Err(Errno::ESRCH)
}

fn is_free(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_err()
}
