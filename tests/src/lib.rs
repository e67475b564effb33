//! What end-to-end tests and benches are made of: workers under workerd ([`Worker`]), tokens of
//! a key of our own ([`Issuer`]), and an origin that one can look into ([`Stub`]).
//!
//! The tests themselves are in `tests/e2e`. `cargo xtask test` runs them beside a whole stack,
//! whose edge and origin they find in `EDGE_URL` and `ORIGIN_URL`.

mod issuer;
mod stub;
mod worker;

pub use issuer::{Issuer, now};
pub use stub::{Seen, Stub};
pub use worker::{Script, Worker, root};
