//! `cargo xtask up`: the stack, until it is told to stop.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    stack::{Settings, Stack, Started},
    steps::say,
};

/// Runs everything until Ctrl-C, SIGTERM or SIGHUP, or until a part of it ends.
pub async fn up(settings: Settings) -> Result<()> {
    let mut stack = Stack::open(settings).await?;
    let ended = tokio::select! {
        ended = async {
            let Started { edge_url, origin_url, data_dir, .. } = stack.start().await?;
            say(&format!("ready edge={edge_url} origin={origin_url}"));
            say(&format!("mail  lands in {}, links and all", data_dir.join("mail").display()));
            say(&format!("try   curl {edge_url}/api/v1/auth/jwks   (Ctrl-C stops everything)"));
            Err(stack.ended().await)
        } => ended,
        told = told_to_stop() => told,
    };
    stack.stop().await;
    ended
}

/// Waits for the signals that end a task.
pub async fn told_to_stop() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    say("stopping");
    Ok(())
}
