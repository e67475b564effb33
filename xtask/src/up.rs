//! `cargo xtask up`: the stack, until it is told to stop.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use crate::stack::{Settings, Stack};

/// Runs everything until Ctrl-C, SIGTERM or SIGHUP, or until a part of it ends.
pub async fn up(settings: Settings) -> Result<()> {
    let ready = format!(
        "ready edge={} origin={}",
        settings.edge_url(),
        settings.origin_url()
    );
    let hint = format!(
        "try   curl {}/api/v1/auth/jwks   (Ctrl-C stops everything)",
        settings.edge_url()
    );
    let mut stack = Stack::open(settings).await?;
    let ended = tokio::select! {
        ended = async {
            stack.start().await?;
            println!("{ready}\n{hint}");
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
    println!("stopping");
    Ok(())
}
