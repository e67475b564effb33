//! What Stripe tells: one grant for one payment, whatever it delivers and whenever.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Event, StripeFake};

use crate::{
    shop::{KEY, Shop, WEBHOOK, packages},
    support::{Origin, count, text},
};

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_payment_brings_its_credits_once(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    let paid = shop.stripe.pay(&session);
    for _ in 0..3 {
        shop.deliver_all(&paid).await;
    }
    shop.has(350_000).await;
    assert_eq!(shop.latest().await, json!(["paid", 0]));
    assert!(shop.purchases().await[0]["paidAt"].is_string());
    let listed = shop
        .origin
        .get("/api/v1/credits/transactions", &shop.ada.access)
        .await;
    assert_eq!(listed.body[0]["description"], "Purchase of 350 credits");
    let grants = "SELECT count(*) FROM credits.grants WHERE source = 'purchase'";
    assert_eq!(count(&db, grants).await, 1);
}

/// Two replicas hear the same at the same moment, from events that differ and from one that
/// was delivered twice.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn two_replicas_at_once_grant_once(db: PgPool) {
    let shop = Shop::open(&db).await;
    let other = Shop::replica(&db, &shop.stripe).await;
    let urls = [&shop.origin, &other].map(async |origin| origin.serve().await + WEBHOOK);
    let urls = join_all(urls).await;
    for round in 1..=8 {
        let session = shop.checkout().await;
        let completed = shop.stripe.pay_later(&session).remove(0);
        let succeeded = shop.stripe.pay(&session).pop().expect("an event");
        // As Stripe would have said it of a card.
        let body = succeeded
            .body
            .replace("async_payment_succeeded", "completed");
        let again = Event {
            id: format!("{}_again", succeeded.id),
            body: body.replace(&succeeded.id, &format!("{}_again", succeeded.id)),
            ..succeeded.clone()
        };
        let events = [&completed, &succeeded, &again, &succeeded];
        let deliveries = events
            .into_iter()
            .flat_map(|event| urls.iter().map(|url| shop.stripe.deliver(event, url)));
        for answer in join_all(deliveries).await {
            assert_eq!(answer.expect("an answer"), 200);
        }
        shop.has(350_000 * round).await;
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_payment_that_takes_days_grants_when_it_is_there(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    shop.deliver_all(&shop.stripe.pay_later(&session)).await;
    shop.has(0).await;
    assert_eq!(shop.latest().await[0], "pending");
    shop.deliver_all(&shop.stripe.pay(&session)).await;
    shop.has(350_000).await;
    assert_eq!(shop.latest().await[0], "paid");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_was_not_paid_is_marked_and_grants_nothing(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    shop.deliver_all(&shop.stripe.expire(&session)).await;
    assert_eq!(shop.latest().await[0], "expired");
    let session = shop.checkout().await;
    let later = shop.stripe.pay_later(&session);
    shop.deliver_all(&shop.stripe.fail(&session)).await;
    assert_eq!(shop.latest().await[0], "failed");
    shop.deliver_all(&later).await;
    assert_eq!(
        shop.latest().await[0],
        "failed",
        "the older news is no news"
    );
    shop.has(0).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_webhook_that_is_faster_than_the_answer_grants_too(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    sqlx::query("UPDATE credits.purchases SET checkout_session = NULL")
        .execute(&db)
        .await
        .expect("not written down yet");
    shop.deliver_all(&shop.stripe.pay(&session)).await;
    shop.has(350_000).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn money_that_goes_back_takes_its_credits_along_rounded_down(db: PgPool) {
    let shop = Shop::open(&db).await;
    let set = ["set", "thirds", "--credits=10", "--price-cents=300"];
    packages(&db, &set).await;
    let answer = shop.choose("thirds").await;
    let session = shop.stripe.session_of(&text(&answer.body["purchaseId"]));
    shop.deliver_all(&shop.stripe.pay(&session)).await;
    let first = shop.stripe.refund(&session, 100);
    shop.deliver_all(&first).await;
    shop.has(6_667).await;
    let second = shop.stripe.refund(&session, 100);
    shop.deliver_all(&second).await;
    shop.has(3_334).await;
    assert_eq!(shop.latest().await, json!(["paid", 6.666]));
    shop.deliver_all(&first).await;
    shop.has(3_334).await;
    shop.deliver_all(&shop.stripe.refund(&session, 100)).await;
    shop.has(0).await;
    assert_eq!(shop.latest().await[1], 10);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn each_kind_of_event_alone_tells_of_a_refund(db: PgPool) {
    let shop = Shop::open(&db).await;
    for (only, left) in [("charge.refunded", 250_000), ("refund.created", 500_000)] {
        let session = shop.checkout().await;
        shop.deliver_all(&shop.stripe.pay(&session)).await;
        let told = shop.stripe.refund(&session, 100);
        for event in told.iter().filter(|event| event.r#type == only) {
            shop.deliver(event).await;
        }
        shop.has(left).await;
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_older_total_of_refunds_brings_nothing_back(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    shop.deliver_all(&shop.stripe.pay(&session)).await;
    let [older, newer] = [100, 50].map(|cents| shop.stripe.refund(&session, cents).remove(0));
    for event in [newer, older] {
        shop.deliver(&event).await;
        shop.has(200_000).await;
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_refund_that_overtakes_its_payment_takes_effect_with_it(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    let paid = shop.stripe.pay(&session);
    let refunded = shop.stripe.refund(&session, 100);
    shop.deliver_all(&refunded).await;
    assert_eq!(shop.outcome(&refunded[0]).await, "kept");
    shop.has(0).await;
    shop.deliver_all(&paid).await;
    shop.has(250_000).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_refund_that_fails_brings_the_credits_back(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    shop.deliver_all(&shop.stripe.pay(&session)).await;
    let refunded = shop.stripe.refund(&session, 100);
    let failed = shop.stripe.fail_refund(&session);
    let again = shop.stripe.refund(&session, 50);
    shop.deliver_all(&refunded).await;
    shop.has(250_000).await;
    shop.deliver_all(&failed).await;
    shop.has(350_000).await;
    shop.deliver_all(&again).await;
    shop.has(300_000).await;
    shop.deliver_all(&refunded).await;
    shop.has(300_000).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_dispute_takes_everything_until_it_is_won(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    shop.deliver_all(&shop.stripe.pay(&session)).await;
    shop.deliver_all(&shop.stripe.refund(&session, 50)).await;
    shop.deliver_all(&shop.stripe.inquire(&session)).await;
    shop.has(300_000).await;
    let disputed = shop.stripe.dispute(&session);
    shop.deliver_all(&disputed).await;
    shop.has(0).await;
    assert_eq!(shop.latest().await[1], 350);
    shop.deliver_all(&shop.stripe.win(&session)).await;
    shop.has(300_000).await;
    shop.deliver_all(&disputed).await;
    shop.has(300_000).await;
    assert_eq!(shop.latest().await, json!(["paid", 50]));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_dispute_that_is_lost_before_it_is_heard_of_stays_lost(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    let paid = shop.stripe.pay(&session);
    let disputed = shop.stripe.dispute(&session);
    shop.deliver_all(&shop.stripe.lose(&session)).await;
    shop.deliver_all(&paid).await;
    shop.deliver_all(&disputed).await;
    shop.has(0).await;
    assert_eq!(shop.latest().await[1], 350);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_was_spent_before_it_was_paid_back_is_owed_and_paid_by_the_next_purchase(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    shop.deliver_all(&shop.stripe.pay(&session)).await;
    let spent = shop.origin.spend(&shop.ada, 200.0, None).await;
    assert_eq!(spent.status, StatusCode::OK, "{spent:?}");
    shop.deliver_all(&shop.stripe.refund(&session, 350)).await;
    let debt = "SELECT debt FROM credits.balances";
    assert_eq!(count(&db, debt).await, 200_000);
    assert_eq!(count(&db, "SELECT paid FROM credits.balances").await, 0);

    let session = shop.checkout().await;
    shop.deliver_all(&shop.stripe.pay(&session)).await;
    assert_eq!(count(&db, debt).await, 0);
    shop.has(150_000).await;
}

/// Whatever happens to the money of several purchases, in whatever weather the news come.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn any_order_any_number_of_times_comes_to_the_same(db: PgPool) {
    let shop = Shop::open(&db).await;
    let other = Shop::replica(&db, &shop.stripe).await;
    let urls = [&shop.origin, &other].map(async |origin| origin.serve().await + WEBHOOK);
    let urls = join_all(urls).await;
    let stripe = &shop.stripe;
    let mut expected = 0;
    for seed in 0..10 {
        let (mut events, mut sessions) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            sessions.push(shop.checkout().await);
        }
        let [_, late, part, failing, won, lost, never] = sessions.as_slice() else {
            panic!("seven sessions")
        };
        events.extend(stripe.pay_later(late));
        for paid in &sessions[..6] {
            events.extend(stripe.pay(paid));
        }
        events.extend(stripe.expire(never));
        events.extend(stripe.refund(part, 33));
        events.extend(stripe.refund(part, 33));
        events.extend(stripe.refund(failing, 100));
        events.extend(stripe.fail_refund(failing));
        events.extend(stripe.refund(failing, 10));
        events.extend(stripe.dispute(won));
        events.extend(stripe.win(won));
        events.extend(stripe.dispute(lost));
        events.extend(stripe.lose(lost));
        stripe
            .deliver_badly(&events, &urls, seed)
            .await
            .expect("all accepted");
        expected += 3 * 350_000 + (350_000 - 66_000) + (350_000 - 10_000);
        shop.has(expected).await;
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_event_takes_effect_whole_or_not_at_all(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    let paid = shop.stripe.pay(&session).pop().expect("an event");
    let rename = "ALTER TABLE credits.grants RENAME TO moved";
    sqlx::query(rename).execute(&db).await.expect("renamed");
    let answer = shop.post(&paid.body, &shop.stripe.sign(&paid.body)).await;
    answer.is_problem(500, "INTERNAL");
    let back = "ALTER TABLE credits.moved RENAME TO grants";
    sqlx::query(back).execute(&db).await.expect("renamed");
    assert_eq!(shop.latest().await[0], "pending");
    let traces = "SELECT (SELECT count(*) FROM credits.stripe_payments) + (SELECT count(*) FROM credits.stripe_events)";
    assert_eq!(count(&db, traces).await, 0);

    shop.deliver(&paid).await;
    shop.has(350_000).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_webhook_that_is_not_signed_by_stripe_now_is_refused(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    let paid = shop.stripe.pay(&session).pop().expect("an event");
    let stranger = StripeFake::start(KEY, "whsec_two").await.expect("a Stripe");
    let good = shop.stripe.sign(&paid.body);
    let later = format!("t={}", tests::now().timestamp() + 1);
    let shifted = good.replacen(good.split(',').next().unwrap_or_default(), &later, 1);
    for signature in [
        String::new(),
        "t=1,v1=00".to_owned(),
        stranger.sign(&paid.body),
        shop.stripe.sign("{}"),
        shop.stripe
            .sign_at(&paid.body, tests::now().timestamp() - 310),
        shop.stripe
            .sign_at(&paid.body, tests::now().timestamp() + 310),
        shifted,
    ] {
        let answer = shop.post(&paid.body, &signature).await;
        answer.is_problem(400, "WEBHOOK_SIGNATURE_INVALID");
    }
    assert_eq!(
        count(&db, "SELECT count(*) FROM credits.stripe_events").await,
        0
    );
    shop.has(0).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn while_the_secret_is_rotated_both_are_good(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    let paid = shop.stripe.pay(&session).pop().expect("an event");
    let flags = [
        "--stripe-secret-key=sk_test_key",
        "--stripe-webhook-secret=whsec_two, whsec_one",
    ];
    let rotating = Origin::start_with(&db, &flags).await;
    let next = StripeFake::start(KEY, "whsec_two").await.expect("a Stripe");
    for signature in [shop.stripe.sign(&paid.body), next.sign(&paid.body)] {
        let request = Request::post(WEBHOOK).header("stripe-signature", signature);
        let body = Body::from(paid.body.clone());
        let answer = rotating.send(request.body(body).expect("a request")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    shop.has(350_000).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_huge_webhook_is_refused_before_it_is_looked_at(db: PgPool) {
    let shop = Shop::open(&db).await;
    let body = "x".repeat(1024 * 1024);
    let answer = shop.post(&body, &shop.stripe.sign(&body)).await;
    answer.is_problem(413, "BODY_TOO_LARGE");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_is_signed_and_no_event_is_refused(db: PgPool) {
    let shop = Shop::open(&db).await;
    for body in ["", "{", "{}", "[]"] {
        let answer = shop.post(body, &shop.stripe.sign(body)).await;
        answer.is_problem(400, "INVALID_REQUEST");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_does_not_concern_us_is_recorded_and_changes_nothing(db: PgPool) {
    let shop = Shop::open(&db).await;
    let session = shop.checkout().await;
    let paid = shop.stripe.pay(&session).pop().expect("an event");
    let (event, object) = ("", "/data/object");
    let nobodys = json!("01987a3e-5f7a-7cc0-8000-000000000001");
    let cases = [
        ("unknown_type", event, "type", json!("customer.created")),
        ("another_account", event, "account", json!("acct_1")),
        ("another_mode", event, "livemode", json!(true)),
        ("not_ours", object, "metadata", json!({})),
        ("not_ours", "/data/object/metadata", "userId", json!("x")),
        (
            "unknown_purchase",
            "/data/object/metadata",
            "purchaseId",
            nobodys.clone(),
        ),
        (
            "unknown_purchase",
            "/data/object/metadata",
            "userId",
            nobodys,
        ),
        ("mismatch", object, "id", json!("cs_test_other")),
        ("mismatch", object, "amount_total", json!(349)),
        ("mismatch", object, "amount_total", Value::Null),
        ("mismatch", object, "currency", json!("huf")),
        ("mismatch", object, "payment_intent", Value::Null),
    ];
    for (index, (outcome, whose, field, value)) in cases.into_iter().enumerate() {
        let mut event: Value = serde_json::from_str(&paid.body).expect("JSON");
        event["id"] = json!(format!("evt_{index}"));
        event.pointer_mut(whose).expect("an object")[field] = value;
        let event = Event {
            id: format!("evt_{index}"),
            body: event.to_string(),
            ..paid.clone()
        };
        shop.deliver(&event).await;
        assert_eq!(shop.outcome(&event).await, outcome, "{}", event.body);
        assert_eq!(shop.latest().await[0], "pending");
    }
    shop.has(0).await;
    shop.deliver(&paid).await;
    shop.has(350_000).await;
}

/// Somebody else's purchase, or another one of the same person: a payment pays once.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn one_payment_pays_for_one_purchase(db: PgPool) {
    let shop = Shop::open(&db).await;
    let (first, second) = (shop.checkout().await, shop.checkout().await);
    let paid = shop.stripe.pay(&first);
    shop.deliver_all(&paid).await;
    let payment = first.replace("cs_test", "pi");
    let other = shop.stripe.pay(&second).pop().expect("an event");
    let body = other
        .body
        .replace(&second.replace("cs_test", "pi"), &payment);
    let twice = Event { body, ..other };
    shop.deliver(&twice).await;
    assert_eq!(shop.outcome(&twice).await, "mismatch");
    shop.has(350_000).await;
}
