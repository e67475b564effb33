//! What end-to-end tests and benches are made of: workers under workerd ([`Worker`]), tokens of
//! a key of our own ([`Issuer`]), an origin that one can look into ([`Stub`]), and a [`Client`].
//!
//! The tests themselves are in `tests/e2e`. `cargo xtask test` runs them beside a whole stack,
//! whose edge they find in `EDGE_URL` and whose logs in `DATA_DIR`.

mod client;
mod issuer;
mod stub;
mod worker;

pub use client::{Answer, Client};
pub use issuer::{Issuer, now};
pub use stub::{Seen, Stub};
pub use worker::{PROOF_KEY, Script, Worker, root};
