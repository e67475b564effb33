//! Credits: what somebody has, spends and has spent. Money moves in the database alone, through
//! the functions of the `credits` schema; this is how they are called.

mod ledger;
mod routes;

use shared::credits::Credits;

pub use ledger::{Ledger, Spend};
pub use routes::router;

/// Why credits were not spent, or not shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are fewer than that.
    #[error("{required} credits needed, {available} available")]
    Insufficient {
        /// What could be spent.
        available: Credits,
        /// What should have been.
        required: Credits,
    },
    /// The key was used with other values.
    #[error("the idempotency key was used for something else")]
    Mismatch,
    /// The header and the field name two keys.
    #[error("two idempotency keys")]
    TwoKeys,
    /// The header is no key.
    #[error("the Idempotency-Key header is no key")]
    BadKey,
    /// An account without a wallet, which registration rules out.
    #[error("the account has no wallet")]
    NoWallet,
    /// The schema knows an outcome that this build does not.
    #[error("the ledger answered {0:?}")]
    UnknownOutcome(String),
    /// The database failed.
    #[error("credits in the database")]
    Database(#[from] sqlx::Error),
}
