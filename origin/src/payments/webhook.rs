//! Webhooks: whether an event is Stripe's, and what it says that matters here. Pure.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::Sha256;
use shared::ids::{PurchaseId, UserId};
use zeroize::Zeroizing;

/// How far from now a signature may have been made, before or after.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// What Stripe signs its events with. While it is rotated there are several.
#[derive(Clone)]
pub struct WebhookSecrets(Arc<[Zeroizing<String>]>);

impl WebhookSecrets {
    /// Comma-separated secrets; none of them may be empty.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let secrets = text.split(',').map(str::trim);
        secrets
            .map(|secret| (!secret.is_empty()).then(|| secret.to_owned().into()))
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Whether `header`, the `Stripe-Signature` of `body`, was made with one of them around
    /// `now`: `t=<seconds>,v1=<hex of HMAC-SHA-256 over "t.body">`, with a `v1` for each secret.
    pub(super) fn check(
        &self,
        header: &str,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), BadSignature> {
        let (mut made_at, mut signatures) = (None, Vec::new());
        for part in header.split(',') {
            match part.trim().split_once('=') {
                Some(("t", text)) => made_at = Some(text),
                Some(("v1", text)) => signatures.extend(hex::decode(text)),
                _ => {}
            }
        }
        let made_at = made_at.ok_or(BadSignature::Missing)?;
        let is_ours = self.0.iter().any(|secret| {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
                .expect("HMAC takes a key of any length");
            mac.update(made_at.as_bytes());
            mac.update(b".");
            mac.update(body);
            let mut matches = signatures
                .iter()
                .map(|signature| mac.clone().verify_slice(signature));
            matches.any(|verdict| verdict.is_ok())
        });
        if !is_ours {
            return Err(BadSignature::Wrong);
        }
        let made_at = made_at.parse().ok().and_then(DateTime::from_timestamp_secs);
        match made_at {
            Some(made_at) if (now - made_at).abs() <= TOLERANCE => Ok(()),
            _ => Err(BadSignature::Stale),
        }
    }
}

/// Why an event is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadSignature {
    /// There is none.
    #[error("there is no Stripe-Signature with a time in it")]
    Missing,
    /// Another secret's, or another body's.
    #[error("the signature is not one of this body with our secret")]
    Wrong,
    /// Made too long ago, or ahead of our clock.
    #[error("the signature was not made within five minutes of now")]
    Stale,
}

/// An event, and what it says.
#[derive(Debug, PartialEq)]
pub struct Event {
    /// Its id; the same however often it is delivered.
    pub id: String,
    /// Its type, as Stripe calls it.
    pub r#type: String,
    /// When Stripe made it.
    pub said_at: DateTime<Utc>,
    /// What it is about.
    pub news: News,
}

/// What an event says about a purchase or about its money.
#[derive(Debug, PartialEq)]
pub enum News {
    /// A checkout session has come to a state.
    Checkout {
        /// For which purchase.
        purchase: PurchaseId,
        /// Whose.
        user: UserId,
        /// The session.
        session: String,
        /// `pending`, `paid`, `failed` or `expired`.
        state: &'static str,
        /// What pays for it.
        payment: Option<String>,
        /// How much that is, in the smallest unit of `currency`.
        cents: Option<i64>,
        /// ISO 4217, in small letters.
        currency: Option<String>,
    },
    /// So much of a payment is refunded, all refunds together.
    Charge {
        /// Which payment.
        payment: String,
        /// In the smallest unit of its currency.
        cents: i64,
    },
    /// One refund was made, or has failed.
    Refund {
        /// Of which payment.
        payment: String,
        /// Which refund.
        id: String,
        /// In the smallest unit of the payment's currency.
        cents: i64,
        /// Whether the money came back to us.
        failed: bool,
    },
    /// A payment is or was disputed.
    Dispute {
        /// Which payment.
        payment: String,
        /// Which dispute.
        id: String,
        /// `inquiry`, `open`, `won` or `lost`.
        standing: &'static str,
    },
    /// Nothing that matters here.
    Nothing(Unconcerned),
}

/// Why an event is of no concern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unconcerned {
    /// Not one of the types that say something about purchases.
    UnknownType,
    /// A status that Stripe did not have when this was written.
    UnknownStatus,
    /// It happened in an account that is connected to ours.
    AnotherAccount,
    /// A test where money is real, or the other way round.
    AnotherMode,
    /// The account sells something else, too.
    NotOurs,
}

impl Unconcerned {
    /// As it is recorded.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown_type",
            Self::UnknownStatus => "unknown_status",
            Self::AnotherAccount => "another_account",
            Self::AnotherMode => "another_mode",
            Self::NotOurs => "not_ours",
        }
    }
}

/// Reads an event whose signature is good. `is_live` says whether our money is real.
pub fn read(body: &[u8], is_live: bool) -> serde_json::Result<Event> {
    let envelope: Envelope<'_> = serde_json::from_slice(body)?;
    let object = envelope.data.object.get();
    let news = match envelope.r#type.as_str() {
        _ if envelope.account.is_some() => News::Nothing(Unconcerned::AnotherAccount),
        _ if envelope.livemode != is_live => News::Nothing(Unconcerned::AnotherMode),
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            let session: Session = serde_json::from_str(object)?;
            let state = match session.payment_status.as_str() {
                "paid" => "paid",
                _ => "pending",
            };
            session.news(state)
        }
        "checkout.session.async_payment_failed" => {
            serde_json::from_str::<Session>(object)?.news("failed")
        }
        "checkout.session.expired" => serde_json::from_str::<Session>(object)?.news("expired"),
        "charge.refunded" => serde_json::from_str::<Charge>(object)?.news(),
        "charge.refund.updated" | "refund.created" | "refund.updated" | "refund.failed" => {
            serde_json::from_str::<Refund>(object)?.news()
        }
        "charge.dispute.created"
        | "charge.dispute.updated"
        | "charge.dispute.closed"
        | "charge.dispute.funds_withdrawn"
        | "charge.dispute.funds_reinstated" => serde_json::from_str::<Dispute>(object)?.news(),
        _ => News::Nothing(Unconcerned::UnknownType),
    };
    Ok(Event {
        said_at: DateTime::from_timestamp_secs(envelope.created).unwrap_or_default(),
        id: envelope.id,
        r#type: envelope.r#type,
        news,
    })
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: String,
    r#type: String,
    created: i64,
    livemode: bool,
    account: Option<String>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Session {
    id: String,
    payment_status: String,
    payment_intent: Option<String>,
    amount_total: Option<i64>,
    currency: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    purchase_id: Option<String>,
    user_id: Option<String>,
}

impl Session {
    fn news(self, state: &'static str) -> News {
        let metadata = self.metadata.unwrap_or_default();
        let purchase = metadata.purchase_id.and_then(|id| id.parse().ok());
        let user = metadata.user_id.and_then(|id| id.parse().ok());
        let (Some(purchase), Some(user)) = (purchase, user) else {
            return News::Nothing(Unconcerned::NotOurs);
        };
        News::Checkout {
            purchase,
            user,
            session: self.id,
            state,
            payment: self.payment_intent,
            cents: self.amount_total,
            currency: self.currency,
        }
    }
}

#[derive(Deserialize)]
struct Charge {
    payment_intent: Option<String>,
    amount_refunded: i64,
}

impl Charge {
    fn news(self) -> News {
        let Some(payment) = self.payment_intent else {
            return News::Nothing(Unconcerned::NotOurs);
        };
        News::Charge {
            payment,
            cents: self.amount_refunded,
        }
    }
}

#[derive(Deserialize)]
struct Refund {
    id: String,
    payment_intent: Option<String>,
    amount: i64,
    status: Option<String>,
}

impl Refund {
    fn news(self) -> News {
        let Some(payment) = self.payment_intent else {
            return News::Nothing(Unconcerned::NotOurs);
        };
        News::Refund {
            payment,
            id: self.id,
            cents: self.amount,
            failed: matches!(self.status.as_deref(), Some("failed" | "canceled")),
        }
    }
}

#[derive(Deserialize)]
struct Dispute {
    id: String,
    payment_intent: Option<String>,
    status: String,
}

impl Dispute {
    fn news(self) -> News {
        let Some(payment) = self.payment_intent else {
            return News::Nothing(Unconcerned::NotOurs);
        };
        let standing = match self.status.as_str() {
            // Somebody asks; the money is still here.
            "warning_needs_response" | "warning_under_review" | "warning_closed" => "inquiry",
            // An appeal is against a loss: the money is away until it is won.
            "needs_response" | "under_review" | "appeal_needs_response" | "appeal_under_review" => {
                "open"
            }
            "won" => "won",
            // `prevented` was given in to before it began.
            "lost" | "prevented" => "lost",
            _ => return News::Nothing(Unconcerned::UnknownStatus),
        };
        News::Dispute {
            payment,
            id: self.id,
            standing,
        }
    }
}

#[cfg(test)]
mod tests;
