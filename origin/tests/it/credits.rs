use axum::http::StatusCode;
use futures_util::future::{join, join_all};
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Origin, add_lot, assert_ledger_adds_up, count};

const USE: &str = "/api/v1/credits/use";
const BALANCE: &str = "/api/v1/credits/balance";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_spend_is_answered_and_listed(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let body = json!({"amount": 0.02, "appId": "app", "description": "a picture", "metadata": {"size": [1, 2]}});
    let answer = origin.post(USE, Some(&ada.access), &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(
        (
            &answer.body["newBalance"],
            &answer.body["freeCreditsRemaining"]
        ),
        (&json!(0), &json!(154.98))
    );
    let listed = origin
        .get("/api/v1/credits/transactions", &ada.access)
        .await
        .body;
    assert_eq!(listed[0], answer.body["transaction"]);
    assert_eq!(
        listed.as_array().map(Vec::len),
        Some(3),
        "the bonus, the day's, the spend"
    );
    assert_ledger_adds_up(&db).await;
}

/// A client that lost our answer asks again, and pays once.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn repeating_a_spend_charges_once(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let first = origin.spend(&ada, 10.0, Some("k")).await;
    origin.spend(&ada, 1.0, None).await;
    let again = origin.spend(&ada, 10.0, Some("k")).await;
    assert_eq!(again.body, first.body);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert!(!first.headers.contains_key("idempotency-replayed"));
    origin
        .spend(&ada, 11.0, Some("k"))
        .await
        .is_problem(422, "IDEMPOTENCY_MISMATCH");
    assert!((origin.spendable(&ada).await - 144.0).abs() < f64::EPSILON);
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_key_used_at_once_charges_once(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let answers = join_all((0..32).map(|_| origin.spend(&ada, 10.0, Some("k")))).await;
    assert!(
        answers.iter().all(|answer| answer.body == answers[0].body),
        "{answers:?}"
    );
    let replayed = answers
        .iter()
        .filter(|answer| answer.headers.contains_key("idempotency-replayed"))
        .count();
    assert_eq!(replayed, 31);
    assert!((origin.spendable(&ada).await - 145.0).abs() < f64::EPSILON);
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_key_belongs_to_its_user_and_app(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (ada, eve) = (
        origin.join("ada@example.org").await,
        origin.join("eve@example.org").await,
    );
    let order =
        |app: &str| json!({"amount": 1, "appId": app, "description": "d", "idempotencyKey": "k"});
    for (person, app) in [(&ada, "one"), (&ada, "two"), (&eve, "one")] {
        let answer = origin.post(USE, Some(&person.access), &order(app)).await;
        assert!(
            answer.status == StatusCode::OK && !answer.headers.contains_key("idempotency-replayed")
        );
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_refusal_is_not_remembered(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let refused = origin.spend(&ada, 1000.0, Some("k")).await;
    refused.is_problem(402, "INSUFFICIENT_CREDITS");
    assert_eq!(
        (&refused.body["available"], &refused.body["required"]),
        (&json!(155), &json!(1000))
    );
    assert_eq!(
        origin.spend(&ada, 10.0, Some("k")).await.status,
        StatusCode::OK
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn spends_at_once_never_overdraw(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let answers = join_all((0..40).map(|_| origin.spend(&ada, 10.0, None))).await;
    let spent = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::OK)
        .count();
    assert_eq!(spent, 15, "155 credits pay for fifteen tens");
    assert!(
        answers
            .iter()
            .all(|answer| [200, 402].contains(&answer.status.as_u16())),
        "{answers:?}"
    );
    assert!((origin.spendable(&ada).await - 5.0).abs() < f64::EPSILON);
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_days_credits_come_once_whoever_looks_first(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let looks = join_all((0..16).map(|_| origin.get(BALANCE, &ada.access)));
    let spends = join_all((0..16).map(|_| origin.spend(&ada, 1.0, None)));
    join(looks, spends).await;
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM credits.grants WHERE source = 'daily'"
        )
        .await,
        1
    );
    assert_eq!(count(&db, "SELECT count(*) FROM credits.daily").await, 1);

    sqlx::query("UPDATE credits.balances SET daily_on = daily_on - 1")
        .execute(&db)
        .await
        .expect("a new day");
    sqlx::query("UPDATE credits.daily SET day = day - 1")
        .execute(&db)
        .await
        .expect("a new day");
    let balance = origin.get(BALANCE, &ada.access).await.body;
    assert_eq!(balance["freeCreditsRemaining"], 144, "150 + 5 - 16 + 5");
    assert_eq!(balance["dailyFreeCredits"], 5);
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_has_expired_cannot_be_spent_and_is_taken_out_of_the_books(db: PgPool) {
    let origin = Origin::start_with(
        &db,
        &["--credits-daily-expires=true", "--credits-signup-bonus=0"],
    )
    .await;
    let ada = origin.join("ada@example.org").await;
    assert!((origin.spendable(&ada).await - 5.0).abs() < f64::EPSILON);
    origin.spend(&ada, 2.0, None).await;
    for statement in [
        "UPDATE credits.grants SET expires_at = now()",
        "UPDATE credits.balances SET due_at = now()",
    ] {
        sqlx::query(statement)
            .execute(&db)
            .await
            .expect("it expires");
    }
    let refused = origin.spend(&ada, 1.0, None).await;
    refused.is_problem(402, "INSUFFICIENT_CREDITS");
    assert_eq!(refused.body["available"], 0.0);
    let listed = origin
        .get("/api/v1/credits/transactions", &ada.access)
        .await
        .body;
    assert_eq!(
        (&listed[0]["type"], &listed[0]["amount"]),
        (&json!("expiry"), &json!(3))
    );
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn free_goes_before_paid_then_the_soonest_expiry_then_the_oldest(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let ada = origin.join("ada@example.org").await;
    for (kind, expires) in [
        ("paid", None),
        ("free", None),
        ("free", Some(9)),
        ("free", Some(1)),
        ("free", None),
    ] {
        add_lot(&db, kind, 1_000, expires).await;
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        origin.spend(&ada, 1.0, None).await;
        order.push(
            count(
                &db,
                "SELECT lot FROM credits.burned ORDER BY version DESC LIMIT 1",
            )
            .await,
        );
    }
    assert_eq!(order, [4, 3, 2, 5, 1]);
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn pages_follow_one_another_without_gap_or_repeat(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    for _ in 0..5 {
        origin.spend(&ada, 1.0, None).await;
    }
    let all = origin
        .get("/api/v1/credits/transactions", &ada.access)
        .await;
    assert!(!all.headers.contains_key("link"));
    let mut pages = Vec::new();
    let mut next = Some("/api/v1/credits/transactions?limit=3".to_owned());
    while let Some(path) = next {
        let page = origin.get(&path, &ada.access).await;
        pages.extend(page.body.as_array().expect("a page").clone());
        next = page.headers.get("link").map(|link| {
            let link = link.to_str().expect("text");
            link.trim_start_matches('<')
                .trim_end_matches(">; rel=\"next\"")
                .to_owned()
        });
    }
    assert_eq!(json!(pages), all.body);
    let shifted = origin
        .get("/api/v1/credits/transactions?limit=2&offset=5", &ada.access)
        .await
        .body;
    assert_eq!(
        shifted.as_array(),
        pages.get(5..7).map(<[_]>::to_vec).as_ref()
    );
    let bad = origin
        .get("/api/v1/credits/transactions?limit=many", &ada.access)
        .await;
    bad.is_problem(400, "INVALID_REQUEST");
}

/// The clock went back after a later day was granted: nothing is granted twice, nothing fails.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_clock_that_jumps_grants_no_day_twice(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    origin.spend(&ada, 1.0, None).await;
    for statement in [
        "UPDATE credits.daily SET day = day + 1",
        "UPDATE credits.balances SET daily_on = daily_on + 1",
    ] {
        sqlx::query(statement).execute(&db).await.expect("a jump");
    }
    assert_eq!(origin.spend(&ada, 1.0, None).await.status, StatusCode::OK);
    assert!((origin.spendable(&ada).await - 153.0).abs() < f64::EPSILON);
    assert_ledger_adds_up(&db).await;
}
