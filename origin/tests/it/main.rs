//! The origin's routes on a real Postgres, under the runtime role, by `oneshot`.

mod accounts;
mod apps;
mod bad_input;
mod batcher;
mod credits;
mod desk;
mod edge_proof;
mod holds;
mod keys;
mod ledger;
mod line;
mod migrations;
mod outage;
mod payments;
mod post;
mod privileges;
mod profile;
mod purchases;
mod recent;
mod refresh;
mod second_factor;
mod second_step;
mod security_events;
mod sessions;
mod shop;
mod support;
