//! Tollgate's origin: signs people in and keeps their prepaid credits, on Postgres.
//!
//! A folder for each feature (`accounts`, `sessions`, `keys`, `mail`, `links`, `apps`, `credits`,
//! `payments`), each with its routes, its SQL and its rules. Around them: `front` (what every request passes), `door`
//! (how bodies come in), `error` (how anything goes wrong), `db` (whose rows a connection sees),
//! `rim` (the clock and randomness). Start with [`router`].

mod accounts;
mod app;
mod cookies;
mod credits;
mod db;
mod door;
mod error;
mod front;
mod limits;
mod links;
mod pages;
mod sessions;

pub mod apps;
pub mod config;
pub mod health;
pub mod keys;
pub mod mail;
pub mod payments;
pub mod rim;
pub mod telemetry;

pub use app::{App, router};
pub use credits::verification;
pub use db::MIGRATOR;
