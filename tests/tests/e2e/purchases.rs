//! Buying credits: Stripe's page is left out, Stripe's own library tells that it was paid.

use std::env;

use anyhow::Result;
use serde_json::{Value, json};
use tests::{Answer, root};
use tokio::process::Command;

use crate::rig::Person;

const PURCHASES: &str = "/api/v1/credits/purchases";
const BALANCE: &str = "/api/v1/credits/balance";

/// Delivers an event about `object`, signed with `secret`; gives the status of the answer.
async fn deliver(
    ada: &Person,
    id: &str,
    r#type: &str,
    object: &Value,
    secret: &str,
) -> Result<String> {
    let event = json!({
        "id": id, "object": "event", "api_version": "2026-10-28.endive", "created": tests::now().timestamp(),
        "livemode": false, "type": r#type, "data": {"object": object},
    });
    let delivered = Command::new(root().join("node_modules/.bin/node"))
        .arg(root().join("tests/tests/e2e/stripe.mjs"))
        .args([
            &ada.edge.url("/api/v1/webhooks/stripe"),
            secret,
            &event.to_string(),
        ])
        .output()
        .await?;
    assert!(delivered.status.success(), "{delivered:?}");
    Ok(String::from_utf8_lossy(&delivered.stdout).trim().to_owned())
}

#[tokio::test]
async fn what_stripe_says_was_paid_is_credited_once_and_taken_back_with_the_money() -> Result<()> {
    let ada = Person::sign_up().await?;
    let secret = env::var("STACK_WEBHOOK_SECRET")?;
    let packages = Answer::to(ada.edge.get("/api/v1/credits/packages"))
        .await?
        .ok();
    let package = packages.body[0].clone();
    let wish = json!({"packageId": package["id"]});
    let bought = ada.post(PURCHASES, &wish).await?.ok().body;
    let url = bought["checkoutUrl"].as_str().unwrap_or_default();
    let user = ada.get("/api/v1/auth/validate").await?.ok().body["payload"]["sub"].clone();
    let payment = format!("pi_{}", bought["purchaseId"].as_str().unwrap_or_default());
    let session = json!({
        "id": url.rsplit('/').next(), "object": "checkout.session", "payment_status": "paid",
        "payment_intent": payment, "amount_total": package["priceCents"], "currency": package["currency"],
        "metadata": {"purchaseId": bought["purchaseId"], "userId": user},
    });
    let completed = "checkout.session.completed";
    let id = |name: &str| format!("evt_{name}_{payment}");

    assert_eq!(
        deliver(&ada, &id("1"), completed, &session, "whsec_other").await?,
        "400"
    );
    assert_eq!(ada.get(BALANCE).await?.ok().body["balance"], 0);
    for _ in 0..2 {
        assert_eq!(
            deliver(&ada, &id("1"), completed, &session, &secret).await?,
            "200"
        );
        assert_eq!(
            ada.get(BALANCE).await?.ok().body["balance"],
            package["credits"]
        );
    }

    let charge = json!({"object": "charge", "payment_intent": payment, "amount_refunded": package["priceCents"]});
    assert_eq!(
        deliver(&ada, &id("2"), "charge.refunded", &charge, &secret).await?,
        "200"
    );
    assert_eq!(ada.get(BALANCE).await?.ok().body["balance"], 0);
    let listed = ada.get(PURCHASES).await?.ok().body;
    assert_eq!(listed[0]["id"], bought["purchaseId"]);
    assert_eq!(listed[0]["refundedCredits"], package["credits"]);
    Ok(())
}
