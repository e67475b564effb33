//! What the edge and the origin must agree on, once for both: what a token says and how it is
//! verified, how credits are counted, how a quota admits, what an error looks like, and how the
//! edge proves itself to those behind it.
//!
//! Everything here is pure: no clock, no I/O, no randomness. Time is a parameter. The crate
//! compiles natively and for both Wasm targets; start with [`jwt::verify`].

pub mod api;
pub mod claims;
pub mod credits;
pub mod gcra;
pub mod ids;
pub mod jwks;
pub mod jwt;
pub mod problem;
pub mod proof;
pub mod revocations;
pub mod tokens;
