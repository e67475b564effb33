//! Grants and refunds: once for a reference, and never more than was charged.

use axum::http::StatusCode;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{
    Answer, Origin, Person, add_lot, assert_ledger_adds_up, count, let_it_expire,
};

const GRANTS: &str = "/api/v1/credits/grants";
const REFUNDS: &str = "/api/v1/credits/refunds";

async fn scene(db: &PgPool) -> (Origin, Person, Person) {
    let origin = Origin::start_with(db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let ada = origin.join("ada@example.org").await;
    let admin = origin.join_as_admin(db, "root@example.org").await;
    (origin, ada, admin)
}

fn granted(person: &Person, amount: f64, reference: &str) -> Value {
    json!({"userId": person.id, "amount": amount, "reason": "sorry", "referenceId": reference})
}

async fn refund(
    origin: &Origin,
    admin: &Person,
    ada: &Person,
    charge: &Answer,
    amount: Option<f64>,
    reference: &str,
) -> Answer {
    let mut body = json!({
        "userId": ada.id, "transactionId": charge.body["transaction"]["id"],
        "reason": "sorry", "referenceId": reference,
    });
    if let Some(amount) = amount {
        body["amount"] = json!(amount);
    }
    origin.post(REFUNDS, Some(&admin.access), &body).await
}

/// What is left of each lot, the oldest first.
pub async fn left(db: &PgPool) -> Vec<i64> {
    sqlx::query_scalar("SELECT remaining FROM credits.lots ORDER BY version")
        .fetch_all(db)
        .await
        .expect("lots")
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_grant_comes_once_for_its_reference(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    let body = granted(&ada, 7.0, "r");
    let answers = join_all((0..8).map(|_| origin.post(GRANTS, Some(&admin.access), &body))).await;
    for answer in &answers {
        assert_eq!(answer.body, answers[0].body);
        assert_eq!(answer.body["freeCreditsRemaining"], 7);
    }
    let other = granted(&ada, 8.0, "r");
    origin
        .post(GRANTS, Some(&admin.access), &other)
        .await
        .is_problem(422, "IDEMPOTENCY_MISMATCH");
    let mut paid = granted(&ada, 3.0, "s");
    paid["kind"] = json!("paid");
    paid["expiresAt"] = json!("2999-12-31T00:00:00Z");
    let answer = origin.post(GRANTS, Some(&admin.access), &paid).await;
    assert_eq!(answer.body["newBalance"], 3, "{answer:?}");
    assert_eq!(answer.body["transaction"]["description"], "sorry");
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn only_an_admin_stands_at_the_desk_and_only_while_they_are_one(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    let body = granted(&ada, 7.0, "r");
    origin
        .post(GRANTS, Some(&ada.access), &body)
        .await
        .is_problem(403, "FORBIDDEN");
    origin
        .post(GRANTS, None, &body)
        .await
        .is_problem(401, "UNAUTHENTICATED");
    sqlx::query("UPDATE auth.users SET role = 'user'")
        .execute(&db)
        .await
        .expect("an end");
    origin
        .post(GRANTS, Some(&admin.access), &body)
        .await
        .is_problem(403, "FORBIDDEN");
    assert_eq!(count(&db, "SELECT count(*) FROM credits.grants").await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_grant_that_makes_no_sense_is_refused(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    for (field, value) in [
        ("amount", json!(0)),
        ("amount", json!(1_000_000_001)),
        ("kind", json!("gold")),
        ("expiresAt", json!("2001-01-01T00:00:00Z")),
        ("expiresAt", json!("tomorrow")),
        ("referenceId", json!("x".repeat(300))),
        ("reason", json!("")),
    ] {
        let mut body = granted(&ada, 7.0, "r");
        body[field] = value;
        let refused = origin.post(GRANTS, Some(&admin.access), &body).await;
        refused.is_problem(400, "VALIDATION_FAILED");
        assert_eq!(refused.pointers(), [format!("/{field}")]);
    }
    let nobody = json!({"userId": "0197a7c2-0000-7000-8000-000000000000", "amount": 1, "reason": "r", "referenceId": "r"});
    origin
        .post(GRANTS, Some(&admin.access), &nobody)
        .await
        .is_problem(404, "NOT_FOUND");
    let most = granted(&ada, 999_000_000.0, "most");
    assert_eq!(
        origin.post(GRANTS, Some(&admin.access), &most).await.status,
        StatusCode::OK
    );
    let more = granted(&ada, 0.001, "more");
    origin
        .post(GRANTS, Some(&admin.access), &more)
        .await
        .is_problem(400, "VALIDATION_FAILED");
    assert_ledger_adds_up(&db).await;
}

/// The last burned returns first, part by part, and each part once.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn refunds_return_to_the_lots_that_were_burned_and_never_more_than_the_charge(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    for kind in ["paid", "free", "free"] {
        sqlx::query("SELECT credits.save(credits.add_grant(b, gen_random_uuid(), 'gift', $2, 10000, NULL, now())) FROM credits.balances b WHERE user_id = $1::uuid")
            .bind(&ada.id)
            .bind(kind)
            .execute(&db)
            .await
            .expect("a lot");
    }
    let charge = origin.spend(&ada, 25.0, None).await;
    assert_eq!(left(&db).await, [5_000, 0, 0]);
    let first = refund(&origin, &admin, &ada, &charge, Some(8.0), "a").await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    assert_eq!(first.body["transaction"]["type"], "refund");
    assert_eq!(left(&db).await, [10_000, 0, 3_000]);
    let again = refund(&origin, &admin, &ada, &charge, Some(8.0), "a").await;
    assert_eq!(again.body, first.body);
    refund(&origin, &admin, &ada, &charge, Some(9.0), "a")
        .await
        .is_problem(422, "IDEMPOTENCY_MISMATCH");
    let refused = refund(&origin, &admin, &ada, &charge, Some(17.001), "b").await;
    refused.is_problem(422, "REFUND_EXCEEDS_CHARGE");
    assert_eq!(refused.body["left"], 17);
    assert_eq!(
        refund(&origin, &admin, &ada, &charge, None, "c")
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(left(&db).await, [10_000, 10_000, 10_000]);
    refund(&origin, &admin, &ada, &charge, None, "d")
        .await
        .is_problem(422, "REFUND_EXCEEDS_CHARGE");
    let balance = origin
        .get("/api/v1/credits/balance", &ada.access)
        .await
        .body;
    assert_eq!(balance["totalSpent"], 0);
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn of_refunds_at_once_no_two_return_the_same(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    add_lot(&db, "paid", 10_000, None).await;
    let charge = origin.spend(&ada, 10.0, None).await;
    let answers = join_all((0..8).map(|turn| {
        let (origin, admin, ada, charge) = (&origin, &admin, &ada, &charge);
        async move { refund(origin, admin, ada, charge, Some(3.0), &turn.to_string()).await }
    }))
    .await;
    let done = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::OK);
    assert_eq!(done.count(), 3, "{answers:?}");
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_capture_is_refunded_like_a_charge_and_what_is_over_expires(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    add_lot(&db, "free", 10_000, Some(1)).await;
    add_lot(&db, "paid", 10_000, None).await;
    let hold = json!({"amount": 18, "appId": "app", "description": "d", "idempotencyKey": "h"});
    let held = origin
        .post("/api/v1/credits/holds", Some(&ada.access), &hold)
        .await;
    let path = format!(
        "/api/v1/credits/holds/{}/capture",
        held.body["hold"]["id"].as_str().expect("an id")
    );
    let captured = origin
        .post(&path, Some(&ada.access), &json!({"amount": 12}))
        .await;
    assert_eq!(captured.body["newBalance"], 8);
    let_it_expire(&db, "credits.grants").await;
    let back = refund(&origin, &admin, &ada, &captured, None, "r").await;
    assert_eq!(
        (&back.body["newBalance"], &back.body["freeCreditsRemaining"]),
        (&json!(10), &json!(0)),
        "two paid ones return, ten free ones are over: {back:?}"
    );
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn only_a_charge_can_be_refunded(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    let grant = origin
        .post(GRANTS, Some(&admin.access), &granted(&ada, 7.0, "r"))
        .await;
    refund(&origin, &admin, &ada, &grant, None, "r")
        .await
        .is_problem(404, "NOT_FOUND");
    let charge = origin.spend(&ada, 1.0, None).await;
    refund(&origin, &admin, &admin, &charge, None, "r")
        .await
        .is_problem(404, "NOT_FOUND");
}

/// What is used is told by app and day, and a refund takes from the day of its charge.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn usage_is_what_was_charged_less_what_was_refunded(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    add_lot(&db, "paid", 100_000, None).await;
    let charge = origin.spend(&ada, 10.0, None).await;
    origin.spend(&ada, 5.0, None).await;
    let other = json!({"amount": 2, "appId": "other", "description": "d"});
    origin
        .post("/api/v1/credits/use", Some(&ada.access), &other)
        .await;
    refund(&origin, &admin, &ada, &charge, Some(4.0), "r").await;
    let usage = async |query: &str| {
        let path = format!("/api/v1/credits/usage{query}");
        origin.get(&path, &ada.access).await
    };
    let today = origin::rim::now().date_naive();
    assert_eq!(
        usage("").await.body,
        json!([
            {"appId": "app", "day": today, "spent": 11, "uses": 2},
            {"appId": "other", "day": today, "spent": 2, "uses": 1},
        ])
    );
    assert_eq!(
        usage("?by=day").await.body,
        json!([{"day": today, "spent": 13, "uses": 3}])
    );
    assert_eq!(
        usage("?by=app").await.body,
        json!([{"appId": "app", "spent": 11, "uses": 2}, {"appId": "other", "spent": 2, "uses": 1}])
    );
    assert_eq!(usage("?to=2001-01-01").await.body, json!([]));
    for impossible in ["?to=-262143-01-01", "?from=-5000-01-01", "?from=1969-12-31"] {
        usage(impossible).await.is_problem(400, "INVALID_REQUEST");
    }
    usage("?by=week").await.is_problem(400, "INVALID_REQUEST");
    usage("?from=yesterday")
        .await
        .is_problem(400, "INVALID_REQUEST");
}
