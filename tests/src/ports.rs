//! Ports for a stack, below those that the system gives to outgoing connections, where another
//! program's connection could sit on one a moment later.

use std::{
    net::TcpListener,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

const FIRST: u32 = 20_000;
const TRIPLES: u32 = 4_000;

/// A free port for the edge and one for the origin, whose next one, for its health, is free too.
pub fn free_ports() -> Result<[u16; 2]> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..TRIPLES)
        .find_map(|_| {
            // Each process begins elsewhere, and none gives the same twice.
            let turn = TAKEN.fetch_add(1, Ordering::Relaxed);
            let edge = FIRST + 3 * (process::id().wrapping_mul(7).wrapping_add(turn) % TRIPLES);
            let edge = u16::try_from(edge).ok()?;
            (edge..edge + 3).all(free).then_some([edge, edge + 1])
        })
        .context("no three ports in a row are free")
}
