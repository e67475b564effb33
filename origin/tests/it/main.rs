//! The origin's routes on a real Postgres, under the runtime role, by `oneshot`.

mod accounts;
mod bad_input;
mod credits;
mod edge_proof;
mod keys;
mod ledger;
mod outage;
mod privileges;
mod refresh;
mod sessions;
mod support;
