//! Tollgate's origin: signs people in and keeps their prepaid credits, on Postgres.
//!
//! A folder for each feature (`accounts`, `sessions`, `second_factor`, `security_events`, `keys`,
//! `revocations`, `mail`, `links`, `outside`, `oidc`, `apps`, `credits`, `payments`, `export`, `admin`), each with its routes, its SQL and its rules.
//! Around them: `front` (what every request passes), `forgery` (whose pages may send what),
//! `door` (how bodies come in), `error` (how anything goes wrong), `db` (whose rows a connection sees), `seal` (what the database must not
//! know), `rim` (the clock and randomness), `openapi` (what is said of every call), `telemetry` and `traces` (what operators see). Start with [`router`].

mod accounts;
mod app;
mod checkup;
mod cookies;
mod credits;
mod db;
mod door;
mod error;
mod export;
mod forgery;
mod front;
mod limits;
mod links;
mod outside;
mod pages;
mod seal;
mod second_factor;
mod sessions;

pub mod admin;
pub mod apps;
pub mod cli;
pub mod config;
pub mod health;
pub mod keys;
pub mod mail;
pub mod oidc;
pub mod openapi;
pub mod payments;
pub mod revocations;
pub mod rim;
pub mod security_events;
pub mod telemetry;
pub mod traces;

pub use accounts::{Imported, clear_words, import_users};
pub use app::{App, router};
pub use checkup::{Finding, check_up};
pub use credits::verification;
pub use db::{IDLE_LIMIT, MIGRATOR};
pub use front::{Client, DEADLINE};
pub use seal::SealingKeys;
pub use second_factor::reseal as reseal_second_factors;
