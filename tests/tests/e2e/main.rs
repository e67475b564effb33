//! Tollgate from end to end: the worker as it is built, under workerd.
//!
//! `tour`, `identity`, `mail`, `devices`, `moving_in`, `outside`, `purchases`, `revocations`, `schema` and
//! `bad_input` go through the whole stack, under `wrangler dev` and with a real origin. The others start
//! a worker of their own: `bursts`, `guessing`, `insisting` and `rotation` in front of a real origin as well, the
//! rest in front of one that they look into.

mod bad_input;
mod bursts;
mod commands;
mod devices;
mod example;
mod forwarding;
mod guessing;
mod hostile_tokens;
mod identity;
mod insisting;
mod keys;
mod limits;
mod mail;
mod moving_in;
mod operating;
mod outside;
mod purchases;
mod revocations;
mod rig;
mod rotation;
mod schema;
mod streaming;
mod tour;
mod tracing;
mod twin;
mod verifier;
