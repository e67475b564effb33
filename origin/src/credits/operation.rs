//! What is asked of a wallet so often that it goes through the batch: a charge, a hold, and the
//! settlement of one.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::{
    api::{AppId, IdempotencyKey, Metadata, OpenHold, UseCredits},
    credits::Credits,
    ids::{SessionId, TransactionId, UserId},
};

/// Who asks.
#[derive(Clone, Debug)]
pub enum By {
    /// The person whose wallet it is; the session of their token must still live.
    Person(SessionId),
    /// An app, by its key; the person must have had a session with it.
    App(AppId),
}

/// One thing to be done, with the id that it has from before its first attempt: what a retry
/// after a lost connection finds itself by.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The id of the transaction that it becomes.
    pub id: TransactionId,
    /// Whose wallet.
    pub user: UserId,
    /// Who asks.
    pub by: By,
    /// What is asked.
    pub order: Order,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Order {
    /// A charge.
    Spend(UseCredits),
    /// Credits put aside for a charge.
    Hold(OpenHold),
    /// The charge of a hold; all of it without an amount.
    Capture {
        /// Which hold.
        hold: TransactionId,
        /// How much of it.
        amount: Option<Credits>,
    },
    /// The end of a hold without a charge.
    Void {
        /// Which hold.
        hold: TransactionId,
    },
}

/// What two operations of one batch must not share: the second would not see the first.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Claim {
    /// An idempotency key of an app.
    Key(UserId, String, String),
    /// A hold.
    Hold(UserId, TransactionId),
}

impl Operation {
    /// What it claims for itself in a batch.
    pub fn claim(&self) -> Option<Claim> {
        match (&self.order, self.key()) {
            (Order::Capture { hold, .. } | Order::Void { hold }, _) => {
                Some(Claim::Hold(self.user, *hold))
            }
            (_, Some(key)) => {
                let app = self.app().unwrap_or_default().to_owned();
                Some(Claim::Key(self.user, app, key))
            }
            (_, None) => None,
        }
    }

    /// Whether it gives back, which a batch does before it takes.
    pub const fn settles(&self) -> bool {
        matches!(self.order, Order::Capture { .. } | Order::Void { .. })
    }

    /// What the ledger calls it.
    pub const fn kind(&self) -> &'static str {
        match self.order {
            Order::Spend(_) => "spend",
            Order::Hold(_) => "hold",
            Order::Capture { .. } => "capture",
            Order::Void { .. } => "void",
        }
    }

    /// How much, where it says.
    pub fn amount(&self) -> Option<Credits> {
        match &self.order {
            Order::Spend(order) => Some(order.amount.credits()),
            Order::Hold(order) => Some(order.amount.credits()),
            Order::Capture { amount, .. } => *amount,
            Order::Void { .. } => None,
        }
    }

    /// The app that charges or, of a settlement, whose key asks.
    pub fn app(&self) -> Option<&str> {
        match (&self.order, &self.by) {
            (Order::Spend(order), _) => Some(order.app_id.as_str()),
            (Order::Hold(order), _) => Some(order.app_id.as_str()),
            (_, By::App(app)) => Some(app.as_str()),
            (_, By::Person(_)) => None,
        }
    }

    /// For what.
    pub fn description(&self) -> Option<&str> {
        match &self.order {
            Order::Spend(order) => Some(order.description.as_str()),
            Order::Hold(order) => Some(order.description.as_str()),
            Order::Capture { .. } | Order::Void { .. } => None,
        }
    }

    /// What the app added.
    pub fn metadata(&self) -> Option<&Value> {
        match &self.order {
            Order::Spend(order) => order.metadata.as_ref().map(Metadata::as_value),
            Order::Hold(order) => order.metadata.as_ref().map(Metadata::as_value),
            Order::Capture { .. } | Order::Void { .. } => None,
        }
    }

    /// The caller's name for it. A person's keys and an app's are apart, or a person could take
    /// the key of a charge that the app is about to make; no client's key has a tab in it.
    pub fn key(&self) -> Option<String> {
        let key = self.client_key()?;
        Some(match self.by {
            By::Person(_) => key.to_owned(),
            By::App(_) => format!("app\t{key}"),
        })
    }

    fn client_key(&self) -> Option<&str> {
        let key = match &self.order {
            Order::Spend(order) => order.idempotency_key.as_ref(),
            Order::Hold(order) => order.idempotency_key.as_ref(),
            Order::Capture { .. } | Order::Void { .. } => None,
        };
        key.map(IdempotencyKey::as_str)
    }

    /// The hold that it settles.
    pub const fn hold(&self) -> Option<TransactionId> {
        match self.order {
            Order::Capture { hold, .. } | Order::Void { hold } => Some(hold),
            Order::Spend(_) | Order::Hold(_) => None,
        }
    }

    /// How long a hold lives, in seconds.
    pub fn lifetime_secs(&self) -> i32 {
        match &self.order {
            Order::Hold(order) => order.expires_in.secs().into(),
            _ => 0,
        }
    }

    /// A hash of the values that were asked for. Objects are sorted by name, so that it is the
    /// values that count and not how they were written.
    pub fn fingerprint(&self) -> [u8; 32] {
        let values = json!([
            self.kind(),
            self.amount().map(Credits::thousandths),
            self.app(),
            self.description(),
            self.metadata(),
            self.lifetime_secs(),
        ]);
        fingerprint(&values)
    }
}

/// A hash of values, to tell the same request from another.
pub fn fingerprint(values: &Value) -> [u8; 32] {
    Sha256::digest(values.to_string()).into()
}
