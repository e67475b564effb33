//! A checkout session, and the objects that events show of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A checkout session, and what became of its money.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// What pays for it, once somebody does.
    pub payment_intent: Option<String>,
    /// What it was made with, by the names of the form.
    pub form: BTreeMap<String, String>,
    /// The `Stripe-Version` and the `Idempotency-Key` that it was made with.
    pub made_with: [String; 2],
    pub(super) is_complete: bool,
    pub(super) is_paid: bool,
    pub(super) refunds: Vec<(String, i64, bool)>,
    pub(super) disputes: usize,
}

impl Session {
    pub(super) fn complete(&mut self) {
        self.is_complete = true;
        self.payment_intent = Some(self.id.replace("cs_test", "pi"));
    }

    fn cents(&self) -> i64 {
        self.form["line_items[0][price_data][unit_amount]"]
            .parse()
            .expect("an amount")
    }

    fn currency(&self) -> &str {
        &self.form["line_items[0][price_data][currency]"]
    }

    fn metadata(&self, prefix: &str) -> Value {
        let of = |name: &str| self.form.get(&format!("{prefix}[{name}]"));
        json!({"purchaseId": of("purchaseId"), "userId": of("userId")})
    }

    pub(super) fn checkout(&self, status: &str) -> Value {
        json!({
            "id": self.id,
            "object": "checkout.session",
            "amount_total": self.cents(),
            "client_reference_id": self.form.get("client_reference_id"),
            "currency": self.currency(),
            "livemode": false,
            "metadata": self.metadata("metadata"),
            "mode": "payment",
            "payment_intent": self.payment_intent,
            "payment_status": if self.is_paid { "paid" } else { "unpaid" },
            "status": status,
        })
    }

    pub(super) fn intent(&self) -> Value {
        json!({
            "id": self.payment_intent,
            "object": "payment_intent",
            "amount": self.cents(),
            "currency": self.currency(),
            "metadata": self.metadata("payment_intent_data[metadata]"),
            "status": "succeeded",
        })
    }

    pub(super) fn charge(&self) -> Value {
        let refunded: i64 = self
            .refunds
            .iter()
            .filter(|(_, _, stands)| *stands)
            .map(|(_, cents, _)| cents)
            .sum();
        json!({
            "id": self.id.replace("cs_test", "ch"),
            "object": "charge",
            "amount": self.cents(),
            "amount_refunded": refunded,
            "currency": self.currency(),
            "disputed": self.disputes > 0,
            "metadata": self.metadata("payment_intent_data[metadata]"),
            "payment_intent": self.payment_intent,
            "refunded": refunded == self.cents(),
        })
    }

    pub(super) fn refund(&self, index: usize) -> Value {
        let (id, cents, stands) = &self.refunds[index];
        json!({
            "id": id,
            "object": "refund",
            "amount": cents,
            "charge": self.id.replace("cs_test", "ch"),
            "currency": self.currency(),
            "payment_intent": self.payment_intent,
            "status": if *stands { "succeeded" } else { "failed" },
        })
    }

    pub(super) fn dispute(&self, status: &str) -> Value {
        json!({
            "id": format!("du_{}_{}", self.id, self.disputes),
            "object": "dispute",
            "amount": self.cents(),
            "charge": self.id.replace("cs_test", "ch"),
            "currency": self.currency(),
            "payment_intent": self.payment_intent,
            "status": status,
        })
    }
}
