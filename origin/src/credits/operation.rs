//! What is asked of a wallet so often that it goes through the batch: a charge, a hold, and the
//! settlement of one.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::{
    api::{AppId, IdempotencyKey, Metadata, OpenHold, UseCredits},
    credits::Credits,
    ids::{SessionId, TransactionId, UserId},
};
use uuid::Uuid;

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
    id: TransactionId,
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

impl Operation {
    /// Something to be done. What has an idempotency key is named by it; `fresh` names what has none.
    pub fn new(fresh: TransactionId, user: UserId, by: By, order: Order) -> Self {
        let mut operation = Self {
            id: fresh,
            user,
            by,
            order,
        };
        if let Some(key) = operation.key() {
            operation.id = id_by_key(operation.app().unwrap_or_default(), &key);
        }
        operation
    }

    /// The id of the transaction that it becomes.
    pub const fn id(&self) -> TransactionId {
        self.id
    }

    /// What no two of a batch must share, for the second would not see the first.
    pub fn claim(&self) -> (UserId, TransactionId) {
        (self.user, self.hold().unwrap_or(self.id))
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

/// The name of what has a key: the first half of a SHA-256, as a UUID of version 8 (RFC 9562 §5.8).
/// Neither part can hold a line break.
fn id_by_key(app: &str, key: &str) -> TransactionId {
    let hash: [u8; 32] = Sha256::digest(format!("{app}\n{key}")).into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    Uuid::new_v8(half).into()
}

/// A hash of values, to tell the same request from another.
pub fn fingerprint(values: &Value) -> [u8; 32] {
    Sha256::digest(values.to_string()).into()
}
