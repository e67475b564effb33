//! The origin's routes on a real Postgres, under the runtime role, by `oneshot`.

mod accounts;
mod apps;
mod bad_input;
mod batcher;
mod credits;
mod desk;
mod edge_proof;
mod guessing;
mod holds;
mod keys;
mod leaving;
mod ledger;
mod line;
mod migrations;
mod moving_in;
mod outage;
mod payments;
mod post;
mod privileges;
mod purchases;
mod refresh;
mod revocations;
mod sessions;
mod shop;
mod support;
