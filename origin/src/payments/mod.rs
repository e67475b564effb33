//! Payments: credits for money, which Stripe collects on a page of its own. A purchase is written
//! down before Stripe hears of it; what it brings, Stripe's events decide. They come late, twice
//! and in any order: `webhook` reads what one says, and the database brings the ledger to what
//! all of them come to.

mod routes;
mod store;
mod stripe;
mod webhook;

pub use routes::{buy, offered, router, webhook};
pub use store::{ListedPackage, list_packages, remove_package, set_package};
pub use stripe::{SecretKey, Stripe};
pub use webhook::WebhookSecrets;

/// Why nothing was bought, or not heard.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator has not said how to reach Stripe.
    #[error("payments are not configured")]
    NotConfigured,
    /// No such package, or not any more.
    #[error("there is no such package")]
    UnknownPackage,
    /// Stripe is away, or refused.
    #[error("no checkout page")]
    Provider(#[from] stripe::NoPage),
    /// Not Stripe's, or not from now.
    #[error(transparent)]
    Signature(#[from] webhook::BadSignature),
    /// Stripe's, and not as we know its events.
    #[error("an event that cannot be read")]
    Unreadable(#[from] serde_json::Error),
    /// The database failed.
    #[error("payments in the database")]
    Database(#[from] sqlx::Error),
}
