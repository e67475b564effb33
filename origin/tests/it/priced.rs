//! Holds of priced routes: opened by the edge with somebody's token, and settled by the edge alone.

use serde_json::{Value, json};
use shared::{api::PRICED_HOLDS, proof::Purpose};
use sqlx::PgPool;

use crate::{
    edge,
    support::{Answer, Origin, Person, Service, assert_ledger_adds_up, let_it_expire, text},
};

const HOLDS: &str = "/api/v1/credits/holds";

/// Asks as the edge does.
async fn ask(origin: &Origin, target: &str, token: Option<&str>, body: &Value) -> Answer {
    let body = body.to_string();
    let purpose = Purpose::Internal(body.as_bytes());
    edge::ask(origin, ("POST", target), purpose, token, body.clone()).await
}

/// Puts a price aside.
async fn open(origin: &Origin, token: Option<&str>, price: f64, key: Option<&str>) -> Answer {
    let body = json!({"amount": price, "appId": "notes", "description": "POST /notes",
        "idempotencyKey": key, "expiresIn": 90});
    ask(origin, PRICED_HOLDS, token, &body).await
}

async fn opened(origin: &Origin, ada: &Person, price: f64, key: &str) -> String {
    let answer = open(origin, Some(&ada.access), price, Some(key)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    text(&answer.body["hold"]["id"])
}

async fn settle(origin: &Origin, hold: &str, how: &str, body: &Value) -> Answer {
    ask(origin, &format!("{PRICED_HOLDS}/{hold}/{how}"), None, body).await
}

async fn can_spend(origin: &Origin, ada: &Person, credits: f64) {
    let spendable = origin.spendable(ada).await;
    assert!((spendable - credits).abs() < 1e-9, "{spendable}");
}

/// The token may be over when the answer is there: the session ends here before the edge settles.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_edge_settles_what_it_has_opened_whatever_became_of_the_token(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let [captured, lowered, voided] = [
        opened(&origin, &ada, 5.0, "1").await,
        opened(&origin, &ada, 6.0, "2").await,
        opened(&origin, &ada, 7.0, "3").await,
    ];
    can_spend(&origin, &ada, 137.0).await;
    let out = "/api/v1/auth/logout-all";
    let answer = origin.post(out, Some(&ada.access), &json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    for (hold, how, body, amount) in [
        (&captured, "capture", json!({"userId": ada.id}), json!(5)),
        (
            &lowered,
            "capture",
            json!({"userId": ada.id, "amount": 2.5}),
            json!(2.5),
        ),
        (&voided, "void", json!({"userId": ada.id}), json!(7)),
    ] {
        for replayed in [false, true] {
            let answer = settle(&origin, hold, how, &body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.body["transaction"]["amount"], amount);
            assert_eq!(
                answer.headers.contains_key("idempotency-replayed"),
                replayed
            );
        }
    }
    let ada = origin.login("ada@example.org").await;
    can_spend(&origin, &ada, 147.5).await;
    let usage = origin
        .get("/api/v1/credits/usage?by=app", &ada.access)
        .await;
    assert_eq!(usage.body[0]["appId"], "notes", "{usage:?}");
    assert_ledger_adds_up(&db).await;
}

/// With one's own token a call could be had and its price taken back.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_else_settles_it_and_the_edge_nothing_else(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let notes = Service::add(&db, "notes", &[origin::apps::Permission::Charge], 0).await;
    notes.meets(&db, &ada).await;
    let priced = opened(&origin, &ada, 5.0, "1").await;
    for (how, body) in [("capture", json!({"amount": 0.001})), ("void", json!({}))] {
        let path = format!("{HOLDS}/{priced}/{how}");
        let own = origin.post(&path, Some(&ada.access), &body).await;
        own.is_problem(404, "NOT_FOUND");
        let mut body = body;
        body["userId"] = json!(ada.id);
        let by_app = origin.post_as(&notes, &path, &body).await;
        by_app.is_problem(404, "NOT_FOUND");
    }
    let look = origin.get(&format!("{HOLDS}/{priced}"), &ada.access).await;
    look.is_problem(404, "NOT_FOUND");

    let body = json!({"amount": 1, "appId": "notes", "description": "d", "idempotencyKey": "1"});
    let own = origin.post(HOLDS, Some(&ada.access), &body).await;
    let mut body = body;
    body["userId"] = json!(ada.id);
    let by_app = origin.post_as(&notes, HOLDS, &body).await;
    for answer in [own, by_app] {
        assert_eq!(
            answer.status, 200,
            "the edge's keys are its own: {answer:?}"
        );
        let hold = text(&answer.body["hold"]["id"]);
        let answer = settle(&origin, &hold, "void", &json!({"userId": ada.id})).await;
        answer.is_problem(404, "NOT_FOUND");
    }
    can_spend(&origin, &ada, 148.0).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_price_is_put_aside_by_who_has_it_under_the_edges_proof(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let other = origin.login("ada@example.org").await;
    let short = open(&origin, Some(&ada.access), 156.0, Some("1")).await;
    short.is_problem(402, "INSUFFICIENT_CREDITS");
    assert_eq!(short.body["available"], 155);
    let nobody = open(&origin, None, 1.0, Some("1")).await;
    nobody.is_problem(401, "UNAUTHENTICATED");
    let no_key = open(&origin, Some(&ada.access), 1.0, None).await;
    no_key.is_problem(400, "VALIDATION_FAILED");
    let body = json!({"amount": 1, "appId": "notes", "description": "d", "idempotencyKey": "1"});
    let bare = origin.post(PRICED_HOLDS, Some(&ada.access), &body).await;
    bare.is_problem(403, "EDGE_PROOF_INVALID");
    let out = origin
        .post("/api/v1/auth/logout", Some(&other.access), &json!({}))
        .await;
    assert_eq!(out.status, 200, "{out:?}");
    let ended = open(&origin, Some(&other.access), 1.0, Some("1")).await;
    ended.is_problem(401, "SESSION_REVOKED");
    let hold = opened(&origin, &ada, 1.0, "1").await;
    let whose = settle(&origin, &hold, "void", &json!({})).await;
    whose.is_problem(400, "VALIDATION_FAILED");
    let_it_expire(&db, "credits.holds").await;
    let late = settle(&origin, &hold, "capture", &json!({"userId": ada.id})).await;
    late.is_problem(409, "HOLD_EXPIRED");
    can_spend(&origin, &ada, 155.0).await;
}
