//! A shop: an origin that sells credits, somebody who buys, and the Stripe between them.

use std::future::Future;

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, PgPool};
use tests::{Event, StripeFake};

use crate::support::{Answer, Origin, Person, assert_ledger_adds_up, count, text};

pub const PACKAGES: &str = "/api/v1/credits/packages";
pub const PURCHASES: &str = "/api/v1/credits/purchases";
pub const WEBHOOK: &str = "/api/v1/webhooks/stripe";
pub const KEY: &str = "sk_test_key";
pub const SECRET: &str = "whsec_one";

/// An origin with somebody who buys, and the Stripe that it buys from.
pub struct Shop {
    pub origin: Origin,
    pub stripe: StripeFake,
    pub ada: Person,
    pub db: PgPool,
}

impl Shop {
    pub async fn open(db: &PgPool) -> Self {
        let stripe = StripeFake::start(KEY, SECRET).await.expect("a Stripe");
        let origin = Self::replica(db, &stripe).await;
        Self {
            ada: origin.join("ada@example.org").await,
            origin,
            stripe,
            db: db.clone(),
        }
    }

    /// An origin on the same database. Nothing is free there, so that what was bought is all
    /// there is.
    pub async fn replica(db: &PgPool, stripe: &StripeFake) -> Origin {
        let flags = [
            format!("--stripe-secret-key={KEY}"),
            format!("--stripe-webhook-secret={SECRET}"),
            format!("--stripe-api-base={}", stripe.url),
            "--credits-signup-bonus=0".to_owned(),
            "--credits-daily=0".to_owned(),
        ];
        Origin::start_with(db, &flags.each_ref().map(String::as_str)).await
    }

    pub async fn choose(&self, package: &str) -> Answer {
        let body = json!({"packageId": package});
        self.origin
            .post(PURCHASES, Some(&self.ada.access), &body)
            .await
    }

    /// Chooses 350 credits for €3.50; gives the checkout session.
    pub async fn checkout(&self) -> String {
        let answer = self.choose("credits-350").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        self.stripe.session_of(&text(&answer.body["purchaseId"]))
    }

    pub async fn deliver(&self, event: &Event) {
        let answer = self.post(&event.body, &self.stripe.sign(&event.body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }

    pub async fn deliver_all(&self, events: &[Event]) {
        for event in events {
            self.deliver(event).await;
        }
    }

    pub async fn post(&self, body: &str, signature: &str) -> Answer {
        let request = Request::post(WEBHOOK).header("stripe-signature", signature);
        let body = Body::from(body.to_owned());
        self.origin
            .send(request.body(body).expect("a request"))
            .await
    }

    pub async fn purchases(&self) -> Value {
        self.origin.get(PURCHASES, &self.ada.access).await.body
    }

    /// The latest purchase: `[status, refundedCredits]`.
    pub async fn latest(&self) -> Value {
        let latest = &self.purchases().await[0];
        json!([latest["status"], latest["refundedCredits"]])
    }

    pub async fn outcome(&self, event: &Event) -> String {
        sqlx::query_scalar("SELECT outcome FROM credits.stripe_events WHERE id = $1")
            .bind(&event.id)
            .fetch_one(&self.db)
            .await
            .expect("it was recorded")
    }

    /// Insists on what can be spent, in thousandths, and on books that add up.
    #[track_caller]
    pub fn has(&self, thousandths: i64) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let paid = count(&self.db, "SELECT sum(paid)::bigint FROM credits.balances").await;
            assert_eq!(paid, thousandths, "at {place}");
            assert_ledger_adds_up(&self.db).await;
        }
    }
}

/// Runs the command as an operator does.
pub async fn packages(db: &PgPool, args: &[&str]) {
    let program = env!("CARGO_BIN_EXE_origin");
    let output = tokio::process::Command::new(program)
        .arg("packages")
        .args(args)
        .env("DATABASE_URL", db.connect_options().to_url_lossy().as_str())
        .output()
        .await
        .expect("the origin's program");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(args[1]), "{said}");
}
