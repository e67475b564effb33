//! The gate at the edge. Start with [`gateway`], the path of a request told once.
//!
//! The core (`gateway`, `gate`, `policy`, `authority`, `limits`, `keys`, `revocations`, `pages`, `answers`,
//! `numbers`) knows no platform: what it needs from one is the [`host::Host`] trait. `worker` is Cloudflare's, `spin` is Spin's, and a
//! native build has the core alone, for its tests.

pub mod answers;
pub mod authority;
pub mod config;
pub mod gate;
pub mod gateway;
pub mod host;
pub mod keys;
pub mod limits;
pub mod numbers;
pub mod pages;
pub mod policy;
pub mod revocations;

#[cfg(target_os = "wasi")]
mod spin;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
mod worker;
