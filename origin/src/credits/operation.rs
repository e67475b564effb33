//! What is asked of a wallet so often that it goes through the batch: a charge, a hold, and the
//! settlement of one.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::{
    api::{AppId, Charge, IdempotencyKey, Metadata, OpenHold},
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
    /// The edge, for what is behind it: by the token of a person whose session must still live or,
    /// to settle what it has opened, by none.
    Edge(Option<SessionId>),
}

impl By {
    /// The session that must live.
    pub const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Person(session) => Some(*session),
            Self::Edge(session) => *session,
            Self::App(_) => None,
        }
    }

    /// As whom holds are opened, and settled by nobody else.
    pub fn opener(&self) -> String {
        match self {
            Self::Person(_) => "user".to_owned(),
            Self::App(app) => format!("app:{}", app.as_str()),
            Self::Edge(_) => "edge".to_owned(),
        }
    }
}

/// One thing to be done, with the id that it has from before its first attempt: what a retry
/// after a lost connection finds itself by.
#[derive(Clone, Debug)]
pub struct Operation {
    id: TransactionId,
    fingerprint: [u8; 32],
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
    Spend(Charge),
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
            fingerprint: [0; 32],
            user,
            by,
            order,
        };
        // Here, where it is done for many at once, and not between two batches.
        operation.fingerprint = fingerprint(&operation.values());
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

    /// What is charged, unless it settles.
    const fn charge(&self) -> Option<&Charge> {
        match &self.order {
            Order::Spend(charge) => Some(charge),
            Order::Hold(order) => Some(&order.charge),
            Order::Capture { .. } | Order::Void { .. } => None,
        }
    }

    /// How much, where it says.
    pub fn amount(&self) -> Option<Credits> {
        match self.order {
            Order::Capture { amount, .. } => amount,
            _ => self.charge().map(|charge| charge.amount.credits()),
        }
    }

    /// The app that charges or, of a settlement, whose key asks.
    pub fn app(&self) -> Option<&str> {
        let app = match (self.charge(), &self.by) {
            (Some(charge), _) => &charge.app_id,
            (None, By::App(app)) => app,
            (None, By::Person(_) | By::Edge(_)) => return None,
        };
        Some(app.as_str())
    }

    /// For what.
    pub fn description(&self) -> Option<&str> {
        self.charge().map(|charge| charge.description.as_str())
    }

    /// What the app added.
    pub fn metadata(&self) -> Option<&Value> {
        let metadata = self.charge()?.metadata.as_ref();
        metadata.map(Metadata::as_value)
    }

    /// The caller's name for it. A person's keys, an app's and the edge's are apart, or a person could
    /// take the key of a charge that the app is about to make; no client's key has a tab in it.
    pub fn key(&self) -> Option<String> {
        let key = self.charge()?.idempotency_key.as_ref();
        let key = key.map(IdempotencyKey::as_str)?;
        Some(match self.by {
            By::Person(_) => key.to_owned(),
            By::App(_) => format!("app\t{key}"),
            By::Edge(_) => format!("edge\t{key}"),
        })
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

    /// A hash of the values that were asked for.
    pub const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The values that were asked for. Objects are sorted by name, so that it is the values that
    /// count and not how they were written.
    fn values(&self) -> Value {
        json!([
            self.kind(),
            self.amount().map(Credits::thousandths),
            self.app(),
            self.description(),
            self.metadata(),
            self.lifetime_secs(),
        ])
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
