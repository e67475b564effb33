//! One user's ledger, as the origin shows it.

use serde::Deserialize;
use shared::credits::Credits;

/// An answer of `GET /credits/balance`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Balance {
    /// The paid part.
    #[serde(rename = "balance")]
    pub paid: Credits,
    /// The free part.
    #[serde(rename = "freeCreditsRemaining")]
    pub free: Credits,
    /// What is put aside.
    pub held: Credits,
    /// Everything that came.
    pub total_earned: Credits,
    /// Everything that was charged and not refunded.
    pub total_spent: Credits,
    /// How many transactions there are.
    pub version: usize,
}

/// A transaction, as `GET /credits/transactions` shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its id.
    pub id: String,
    /// What it is.
    pub r#type: String,
    /// How much.
    pub amount: Credits,
    /// Under which name it was asked for.
    pub description: Option<String>,
    /// The paid part after it.
    #[serde(rename = "balanceAfter")]
    pub paid_after: Credits,
    /// The free part after it.
    #[serde(rename = "freeCreditsAfter")]
    pub free_after: Credits,
}

/// What one user's ledger says.
#[derive(Debug)]
pub struct Ledger {
    /// What there is.
    pub balance: Balance,
    /// Every transaction, the oldest first.
    pub rows: Vec<Row>,
}
