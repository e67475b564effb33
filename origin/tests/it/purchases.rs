//! Buying credits, until Stripe's page takes over.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use serde_json::json;
use sqlx::PgPool;
use tests::{Fault, StripeFake};

use crate::{
    shop::{KEY, PACKAGES, PURCHASES, SECRET, Shop, WEBHOOK, packages},
    support::{Origin, text},
};

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn packages_are_offered_to_anybody_until_they_are_removed(db: PgPool) {
    let shop = Shop::open(&db).await;
    let list = async || {
        let request = Request::get(PACKAGES).body(Body::empty());
        shop.origin.send(request.expect("a request")).await.body
    };
    assert_eq!(
        list().await,
        json!([
            {"id": "credits-350", "credits": 350, "priceCents": 350, "currency": "eur"},
            {"id": "credits-700", "credits": 700, "priceCents": 700, "currency": "eur"},
            {"id": "credits-1400", "credits": 1400, "priceCents": 1400, "currency": "eur"},
            {"id": "credits-2800", "credits": 2800, "priceCents": 2800, "currency": "eur"},
        ])
    );
    packages(
        &db,
        &[
            "set",
            "tiny",
            "--credits=0.5",
            "--price-cents=99",
            "--currency=usd",
        ],
    )
    .await;
    packages(
        &db,
        &["set", "credits-700", "--credits=750", "--price-cents=700"],
    )
    .await;
    for id in ["credits-350", "credits-1400", "credits-2800"] {
        packages(&db, &["remove", id]).await;
    }
    assert_eq!(
        list().await,
        json!([
            {"id": "credits-700", "credits": 750, "priceCents": 700, "currency": "eur"},
            {"id": "tiny", "credits": 0.5, "priceCents": 99, "currency": "usd"},
        ])
    );
    assert_eq!(shop.choose("tiny").await.status, StatusCode::OK);
    shop.choose("credits-350")
        .await
        .is_problem(404, "NOT_FOUND");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_purchase_leads_to_a_page_and_is_listed(db: PgPool) {
    let shop = Shop::open(&db).await;
    let first = shop.choose("credits-350").await;
    let answer = shop.choose("credits-1400").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let id = text(&answer.body["purchaseId"]);
    let session = shop.stripe.sessions().pop().expect("a session");
    let url = text(&answer.body["checkoutUrl"]);
    assert!(url.ends_with(&session.id), "{url}");
    assert_eq!(session.made_with[1], id, "the purchase is the key");
    for (name, value) in [
        ("mode", "payment"),
        ("client_reference_id", id.as_str()),
        ("success_url", "http://127.0.0.1:8787"),
        ("cancel_url", "http://127.0.0.1:8787"),
        ("line_items[0][quantity]", "1"),
        ("line_items[0][price_data][unit_amount]", "1400"),
        ("line_items[0][price_data][currency]", "eur"),
        (
            "line_items[0][price_data][product_data][name]",
            "1400 credits",
        ),
        ("adaptive_pricing[enabled]", "false"),
        ("metadata[purchaseId]", id.as_str()),
        ("metadata[userId]", shop.ada.id.as_str()),
        ("payment_intent_data[metadata][purchaseId]", id.as_str()),
        (
            "payment_intent_data[metadata][userId]",
            shop.ada.id.as_str(),
        ),
    ] {
        assert_eq!(session.form.get(name).map(String::as_str), Some(value));
    }
    let listed = shop.purchases().await;
    assert_eq!(listed[1]["id"], first.body["purchaseId"]);
    assert!(listed[0]["createdAt"].is_string());
    let mut latest = listed[0].clone();
    latest["createdAt"].take();
    assert_eq!(
        latest,
        json!({
            "id": id, "packageId": "credits-1400", "credits": 1400, "priceCents": 1400, "currency": "eur",
            "status": "pending", "createdAt": null, "paidAt": null, "refundedCredits": 0,
        })
    );
    shop.has(0).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn everybody_sees_their_own_purchases(db: PgPool) {
    let shop = Shop::open(&db).await;
    shop.checkout().await;
    let eve = shop.origin.join("eve@example.org").await;
    let of_eve = shop.origin.get(PURCHASES, &eve.access).await;
    assert_eq!(of_eve.body, json!([]));
    assert_eq!(shop.purchases().await.as_array().map(Vec::len), Some(1));
    let request = Request::get(PURCHASES).body(Body::empty());
    let nobody = shop.origin.send(request.expect("a request")).await;
    nobody.is_problem(401, "UNAUTHENTICATED");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_unknown_package_is_not_sold(db: PgPool) {
    let shop = Shop::open(&db).await;
    let answer = shop.choose("credits-351").await;
    answer.is_problem(404, "NOT_FOUND");
    assert_eq!(answer.body["detail"], "Unknown package");
    assert!(shop.stripe.sessions().is_empty());
    assert_eq!(shop.purchases().await, json!([]));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn without_keys_nothing_is_sold_and_nothing_heard(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let body = json!({"packageId": "credits-350"});
    let answer = origin.post(PURCHASES, Some(&ada.access), &body).await;
    answer.is_problem(503, "PAYMENTS_NOT_CONFIGURED");
    let answer = origin.post(WEBHOOK, None, &json!({})).await;
    answer.is_problem(503, "PAYMENTS_NOT_CONFIGURED");
    assert_eq!(origin.get(PURCHASES, &ada.access).await.body, json!([]));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn after_paying_nobody_is_led_to_a_page_that_is_no_apps(db: PgPool) {
    let shop = Shop::open(&db).await;
    sqlx::query(
        "INSERT INTO auth.apps (id, name, key_hash, origins, permissions, disabled_at) VALUES
             ('a', 'A', sha256('a'), '{https://a.example.org}', '{}', NULL),
             ('b', 'B', sha256('b'), '{https://b.example.org}', '{}', now())",
    )
    .execute(&db)
    .await
    .expect("apps");
    let choose = async |success: &str, cancel: &str| {
        let body = json!({"packageId": "credits-350", "successUrl": success, "cancelUrl": cancel});
        shop.origin
            .post(PURCHASES, Some(&shop.ada.access), &body)
            .await
    };
    let good = "https://a.example.org/thanks?x=1";
    let answer = choose(good, "http://127.0.0.1:8787/back").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let session = shop.stripe.sessions().pop().expect("a session");
    assert_eq!(session.form["success_url"], good);
    assert_eq!(session.form["cancel_url"], "http://127.0.0.1:8787/back");

    for bad in [
        "https://b.example.org/",
        "https://a.example.org.evil.example/",
        "https://a.example.org:444/",
        "https://a.example.org@evil.example/",
        "http://a.example.org/",
        "javascript:alert(1)",
        "//a.example.org/",
    ] {
        for (answer, pointer) in [
            (choose(bad, good).await, "/successUrl"),
            (choose(good, bad).await, "/cancelUrl"),
        ] {
            answer.is_problem(400, "VALIDATION_FAILED");
            assert_eq!(answer.pointers(), [pointer], "{bad}");
        }
    }
    assert_eq!(shop.stripe.sessions().len(), 1);
    assert_eq!(shop.purchases().await.as_array().map(Vec::len), Some(1));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_broken_connection_is_tried_once_more_and_makes_one_page(db: PgPool) {
    let shop = Shop::open(&db).await;
    shop.stripe.fail_next([Fault::HangUp]);
    shop.checkout().await;
    assert_eq!(shop.stripe.sessions().len(), 1);

    shop.stripe.fail_next([Fault::HangUp, Fault::HangUp]);
    let answer = shop.choose("credits-350").await;
    answer.is_problem(502, "PAYMENT_PROVIDER_FAILED");
    assert_eq!(shop.latest().await[0], "failed");
    shop.has(0).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_provider_that_fails_is_not_our_fault_and_says_nothing_to_clients(db: PgPool) {
    let shop = Shop::open(&db).await;
    for status in [302, 400, 429, 500] {
        shop.stripe.fail_next([Fault::Status(status)]);
        let answer = shop.choose("credits-350").await;
        answer.is_problem(502, "PAYMENT_PROVIDER_FAILED");
        assert!(!answer.body.to_string().contains(KEY));
    }
    assert!(
        shop.stripe.sessions().is_empty(),
        "a refusal is not asked again"
    );

    let wrong = StripeFake::start("sk_test_other", SECRET)
        .await
        .expect("a Stripe");
    let origin = Shop::replica(&db, &wrong).await;
    let body = json!({"packageId": "credits-350"});
    let answer = origin.post(PURCHASES, Some(&shop.ada.access), &body).await;
    answer.is_problem(502, "PAYMENT_PROVIDER_FAILED");
    drop(wrong);
    let answer = origin.post(PURCHASES, Some(&shop.ada.access), &body).await;
    answer.is_problem(502, "PAYMENT_PROVIDER_FAILED");
}
