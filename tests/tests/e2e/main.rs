//! Tollgate from end to end: the worker as it is built, under workerd.
//!
//! `tour`, `identity`, `mail`, `devices`, `outside`, `purchases`, `revocations` and `bad_input` go
//! through the whole stack, under `wrangler dev` and with a real origin; `rotation` has a worker and a
//! real origin of its own; the others start a worker of their own in front of an origin that they look
//! into.

mod bad_input;
mod devices;
mod forwarding;
mod hostile_tokens;
mod identity;
mod keys;
mod limits;
mod mail;
mod outside;
mod own_origin;
mod purchases;
mod revocations;
mod rig;
mod rotation;
mod tour;
mod verifier;
