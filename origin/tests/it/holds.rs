//! Holds: put aside, charged or returned once, by whoever opened them.

use axum::http::StatusCode;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    desk::left,
    support::{Answer, Origin, Person, add_lot, assert_ledger_adds_up, count, let_it_expire, text},
};

const HOLDS: &str = "/api/v1/credits/holds";

async fn hold(origin: &Origin, person: &Person, amount: f64, key: &str) -> Answer {
    let body =
        json!({"amount": amount, "appId": "app", "description": "a film", "idempotencyKey": key});
    origin.post(HOLDS, Some(&person.access), &body).await
}

async fn open(origin: &Origin, person: &Person, amount: f64) -> String {
    let answer = hold(origin, person, amount, &format!("key {amount}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    text(&answer.body["hold"]["id"])
}

async fn settle(origin: &Origin, person: &Person, id: &str, how: &str, body: &Value) -> Answer {
    let path = format!("{HOLDS}/{id}/{how}");
    origin.post(&path, Some(&person.access), body).await
}

async fn look(origin: &Origin, person: &Person, id: &str) -> Value {
    let answer = origin.get(&format!("{HOLDS}/{id}"), &person.access).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.body
}

async fn is_spendable(origin: &Origin, person: &Person, credits: f64) {
    let spendable = origin.spendable(person).await;
    assert!(
        (spendable - credits).abs() < 1e-9,
        "{spendable} can be spent"
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn held_credits_can_be_charged_and_by_nothing_else(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let opened = hold(&origin, &ada, 150.0, "k").await;
    assert_eq!(
        (
            &opened.body["newBalance"],
            &opened.body["freeCreditsRemaining"]
        ),
        (&json!(0), &json!(5))
    );
    let id = text(&opened.body["hold"]["id"]);
    assert_eq!(look(&origin, &ada, &id).await, opened.body["hold"]);
    origin
        .spend(&ada, 6.0, None)
        .await
        .is_problem(402, "INSUFFICIENT_CREDITS");
    let balance = origin
        .get("/api/v1/credits/balance", &ada.access)
        .await
        .body;
    assert_eq!(
        (&balance["held"], &balance["totalSpent"]),
        (&json!(150), &json!(0))
    );

    let captured = settle(&origin, &ada, &id, "capture", &json!({})).await;
    assert_eq!(captured.status, StatusCode::OK, "{captured:?}");
    assert_eq!(captured.body["transaction"]["type"], "capture");
    assert_eq!(captured.body["transaction"]["description"], "a film");
    assert_eq!(captured.body["transaction"]["amount"], 150);
    let balance = origin
        .get("/api/v1/credits/balance", &ada.access)
        .await
        .body;
    assert_eq!(
        (&balance["held"], &balance["totalSpent"]),
        (&json!(0), &json!(150))
    );
    let listed = origin
        .get("/api/v1/credits/transactions", &ada.access)
        .await
        .body;
    assert_eq!(listed[0], captured.body["transaction"]);
    assert_eq!(look(&origin, &ada, &id).await["status"], "captured");
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn opening_again_with_the_key_opens_nothing(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let answers = join_all((0..8).map(|_| hold(&origin, &ada, 10.0, "k"))).await;
    for answer in &answers {
        assert_eq!(answer.body, answers[0].body);
    }
    let replayed = |answer: &&Answer| answer.headers.contains_key("idempotency-replayed");
    assert_eq!(answers.iter().filter(replayed).count(), 7);
    is_spendable(&origin, &ada, 145.0).await;
    hold(&origin, &ada, 11.0, "k")
        .await
        .is_problem(422, "IDEMPOTENCY_MISMATCH");
    origin
        .spend(&ada, 10.0, Some("k"))
        .await
        .is_problem(422, "IDEMPOTENCY_MISMATCH");
    let keyless = json!({"amount": 1, "appId": "app", "description": "d"});
    let refused = origin.post(HOLDS, Some(&ada.access), &keyless).await;
    refused.is_problem(400, "VALIDATION_FAILED");
    assert_eq!(refused.pointers(), ["/idempotencyKey"]);
}

/// Free was burned first, so it is free that is charged and paid that returns.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_is_not_captured_returns_to_the_lots_it_came_from(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let ada = origin.join("ada@example.org").await;
    add_lot(&db, "paid", 50_000, None).await;
    add_lot(&db, "free", 20_000, Some(9)).await;
    add_lot(&db, "free", 20_000, Some(1)).await;
    let id = open(&origin, &ada, 80.0).await;
    settle(&origin, &ada, &id, "capture", &json!({"amount": 80.001}))
        .await
        .is_problem(422, "HOLD_EXCEEDED");
    let captured = settle(&origin, &ada, &id, "capture", &json!({"amount": 30})).await;
    assert_eq!(
        (
            &captured.body["newBalance"],
            &captured.body["freeCreditsRemaining"]
        ),
        (&json!(50), &json!(10)),
        "{captured:?}"
    );
    assert_eq!(left(&db).await, [50_000, 10_000, 0]);
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_hold_is_settled_once_and_its_settlement_can_be_asked_for_again(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let captured = open(&origin, &ada, 10.0).await;
    let voided = open(&origin, &ada, 20.0).await;
    for (id, how, body) in [
        (&captured, "capture", json!({"amount": 4})),
        (&voided, "void", json!({})),
    ] {
        let first = settle(&origin, &ada, id, how, &body).await;
        let again = settle(&origin, &ada, id, how, &body).await;
        assert_eq!(first.status, StatusCode::OK, "{first:?}");
        assert_eq!(again.body, first.body);
        assert!(!first.headers.contains_key("idempotency-replayed"));
        assert_eq!(again.headers["idempotency-replayed"], "true");
    }
    for (id, how, body) in [
        (&captured, "capture", json!({"amount": 5})),
        (&captured, "capture", json!({})),
        (&captured, "void", json!({})),
        (&voided, "capture", json!({})),
    ] {
        settle(&origin, &ada, id, how, &body)
            .await
            .is_problem(409, "HOLD_SETTLED");
    }
    is_spendable(&origin, &ada, 151.0).await;
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn of_many_who_settle_at_once_one_does(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let id = open(&origin, &ada, 10.0).await;
    let answers = join_all((0..20).map(|turn| {
        let (origin, ada, id) = (&origin, &ada, &id);
        async move {
            let how = if turn % 2 == 0 { "capture" } else { "void" };
            settle(origin, ada, id, how, &json!({})).await
        }
    }))
    .await;
    let first = |answer: &&Answer| {
        answer.status == StatusCode::OK && !answer.headers.contains_key("idempotency-replayed")
    };
    assert_eq!(answers.iter().filter(first).count(), 1, "{answers:?}");
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_hold_whose_time_is_over_returns_by_itself(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let id = open(&origin, &ada, 100.0).await;
    let_it_expire(&db, "credits.holds").await;
    assert_eq!(look(&origin, &ada, &id).await["status"], "expired");
    assert_eq!(origin.spend(&ada, 155.0, None).await.status, StatusCode::OK);
    for how in ["capture", "void"] {
        settle(&origin, &ada, &id, how, &json!({}))
            .await
            .is_problem(409, "HOLD_EXPIRED");
    }
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_capture_after_the_time_is_refused_by_the_first_who_looks(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let id = open(&origin, &ada, 100.0).await;
    let_it_expire(&db, "credits.holds").await;
    settle(&origin, &ada, &id, "capture", &json!({}))
        .await
        .is_problem(409, "HOLD_EXPIRED");
    is_spendable(&origin, &ada, 155.0).await;
    assert_ledger_adds_up(&db).await;
}

/// Nobody comes back for them: the sweep of several replicas at once does.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_nobody_looks_at_is_swept_once(db: PgPool) {
    let origin = Origin::start(&db).await;
    for name in ["ada", "bob", "eve"] {
        let person = origin.join(&format!("{name}@example.org")).await;
        open(&origin, &person, 100.0).await;
    }
    add_lot(&db, "free", 1_000, Some(1)).await;
    let_it_expire(&db, "credits.holds").await;
    let_it_expire(&db, "credits.grants").await;
    let sweeps = join_all(
        (0..4).map(|_| sqlx::query_scalar::<_, i32>("SELECT credits.sweep(100)").fetch_one(&db)),
    )
    .await;
    let swept: i32 = sweeps
        .into_iter()
        .map(|swept| swept.expect("a sweep"))
        .sum();
    assert_eq!(swept, 3);
    assert_eq!(
        count(&db, "SELECT sum(held)::bigint FROM credits.balances").await,
        0
    );
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM credits.transactions WHERE type = 'expiry'"
        )
        .await,
        3
    );
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM credits.balances WHERE due_at IS NOT NULL"
        )
        .await,
        0
    );
    assert_ledger_adds_up(&db).await;
}

/// The part that would return to a lot that is over goes with it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_returns_to_a_lot_that_is_over_expires(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let ada = origin.join("ada@example.org").await;
    add_lot(&db, "free", 10_000, Some(1)).await;
    add_lot(&db, "paid", 10_000, None).await;
    let id = open(&origin, &ada, 15.0).await;
    let_it_expire(&db, "credits.grants").await;
    let voided = settle(&origin, &ada, &id, "void", &json!({})).await;
    assert_eq!(
        (
            &voided.body["newBalance"],
            &voided.body["freeCreditsRemaining"]
        ),
        (&json!(10), &json!(0)),
        "{voided:?}"
    );
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_touches_somebody_elses_hold(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let eve = origin.join("eve@example.org").await;
    let id = open(&origin, &ada, 10.0).await;
    let unknown = "0197a7c2-0000-7000-8000-000000000000";
    for (person, id) in [(&eve, id.as_str()), (&ada, unknown)] {
        for how in ["capture", "void"] {
            settle(&origin, person, id, how, &json!({}))
                .await
                .is_problem(404, "NOT_FOUND");
        }
        let looked = origin.get(&format!("{HOLDS}/{id}"), &person.access).await;
        looked.is_problem(404, "NOT_FOUND");
    }
    settle(&origin, &ada, "none", "void", &json!({}))
        .await
        .is_problem(400, "INVALID_REQUEST");
    assert_eq!(look(&origin, &ada, &id).await["status"], "open");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_settlement_needs_no_body(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let id = open(&origin, &ada, 10.0).await;
    let request = axum::http::Request::post(format!("{HOLDS}/{id}/void"))
        .header("authorization", format!("Bearer {}", ada.access))
        .body(axum::body::Body::empty())
        .expect("a request");
    assert_eq!(origin.send(request).await.status, StatusCode::OK);
}

/// Settlements of one connection, of which Postgres remembers how it planned the first.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_hold_can_end_in_any_way_after_any_other(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    for (amount, how, body) in [
        (1.0, "capture", json!({})),
        (2.0, "capture", json!({"amount": 0.5})),
        (3.0, "void", json!({})),
        (4.0, "capture", json!({})),
    ] {
        let id = open(&origin, &ada, amount).await;
        let answer = settle(&origin, &ada, &id, how, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{amount}: {answer:?}");
    }
    is_spendable(&origin, &ada, 149.5).await;
    assert_ledger_adds_up(&db).await;
}

/// Each call returns some of very many; none of them can be captured meanwhile.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn very_many_holds_that_end_at_once_hold_up_nobody(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let last = open(&origin, &ada, 1.0).await;
    for turn in 0..150 {
        let opened = hold(&origin, &ada, 0.1, &turn.to_string()).await;
        assert_eq!(opened.status, StatusCode::OK, "{opened:?}");
    }
    let_it_expire(&db, "credits.holds").await;
    let swept = "SELECT credits.sweep(1)::bigint";
    assert_eq!(count(&db, swept).await, 1);
    let open = "SELECT count(*) FROM credits.holds WHERE state = 'open'";
    assert_eq!(count(&db, open).await, 51);
    settle(&origin, &ada, &last, "capture", &json!({}))
        .await
        .is_problem(409, "HOLD_EXPIRED");
    assert_eq!(count(&db, open).await, 0);
    assert_ledger_adds_up(&db).await;
}
