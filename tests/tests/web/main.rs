//! What people see, in a real Chromium, and relying parties that are other people's programs. All of it
//! goes through the whole stack: `cargo xtask test` says where that is, and where Chromium is.
//!
//! Pictures of the pages are in `target/screens`.

mod parties;
mod people;
mod rig;
mod synapse;
