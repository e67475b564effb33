//! What end-to-end tests and benches are made of: workers under workerd ([`Worker`]), tokens of
//! a key of our own ([`Issuer`]), an origin that one can look into ([`Stub`]), a Stripe that
//! misbehaves as the real one does ([`StripeFake`]), a [`Cache`] for workers, the real [`origin`]
//! with its [`secrets`] and its [`operator`], and a [`Client`].
//!
//! `tests/gateway` holds the edge to one suite of cases on each of its platforms. `tests/e2e` is
//! about the worker and about the whole: `cargo xtask test` runs it beside a stack, whose edge it
//! finds in `EDGE_URL` and whose logs in `DATA_DIR`. `tests/web` is about what people see of the whole.

mod cache;
mod client;
mod issuer;
pub mod operator;
pub mod origin;
mod ports;
pub mod secrets;
pub mod shown;
mod stripe;
mod stub;
mod worker;

pub use cache::Cache;
pub use client::{Answer, Client};
pub use issuer::{Issuer, now};
pub use ports::free_ports;
pub use stripe::{Event, Fault, Session, StripeFake};
pub use stub::{Seen, Stub, Told};
pub use worker::{PROOF_KEY, Script, Worker, root};
