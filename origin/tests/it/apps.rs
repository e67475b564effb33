//! Service keys: what an app's back end may, and what a leaked key may not.

use axum::http::StatusCode;
use origin::apps::{self, Permission};
use serde_json::{Value, json};
use shared::api::AppId;
use sqlx::PgPool;

use crate::support::{Origin, Person, Service, assert_ledger_adds_up, count, text};

const ALL: &[Permission] = &[
    Permission::Charge,
    Permission::Read,
    Permission::Refund,
    Permission::Grant,
];
const USE: &str = "/api/v1/credits/use";
const HOLDS: &str = "/api/v1/credits/holds";

/// An origin, somebody who uses `one`, and two apps.
async fn scene(db: &PgPool) -> (Origin, Person, Service, Service) {
    let origin = Origin::start(db).await;
    let ada = origin.join("ada@example.org").await;
    let one = Service::add(db, "one", ALL, 10_000).await;
    let two = Service::add(db, "two", ALL, 10_000).await;
    one.meets(db, &ada).await;
    (origin, ada, one, two)
}

fn charge(person: &Person, app: &str) -> Value {
    json!({"userId": person.id, "amount": 10, "appId": app, "description": "d", "idempotencyKey": "k"})
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_app_charges_its_people_and_sees_what_they_have(db: PgPool) {
    let (origin, ada, one, _) = scene(&db).await;
    let first = origin.post_as(&one, USE, &charge(&ada, "one")).await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    let again = origin.post_as(&one, USE, &charge(&ada, "one")).await;
    assert_eq!(again.body, first.body);
    let mut order = charge(&ada, "one");
    order["idempotencyKey"] = json!("h");
    let held = origin.post_as(&one, HOLDS, &order).await;
    let id = text(&held.body["hold"]["id"]);
    let seen = origin
        .get_as(&one, &format!("{HOLDS}/{id}?userId={}", ada.id))
        .await;
    assert_eq!(seen.body, held.body["hold"]);
    let path = format!("{HOLDS}/{id}/capture");
    let captured = origin
        .post_as(&one, &path, &json!({"userId": ada.id}))
        .await;
    assert_eq!(captured.status, StatusCode::OK, "{captured:?}");
    let balance = origin
        .get_as(&one, &format!("/api/v1/credits/balance/{}", ada.id))
        .await;
    assert_eq!(balance.body["freeCreditsRemaining"], 135, "{balance:?}");
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_leaked_key_charges_nobody_who_never_used_its_app(db: PgPool) {
    let (origin, ada, _, two) = scene(&db).await;
    let eve = origin.join("eve@example.org").await;
    for person in [&ada, &eve] {
        let charged = origin.post_as(&two, USE, &charge(person, "two")).await;
        charged.is_problem(404, "NOT_FOUND");
        let held = origin.post_as(&two, HOLDS, &charge(person, "two")).await;
        held.is_problem(404, "NOT_FOUND");
        let path = format!("/api/v1/credits/balance/{}", person.id);
        origin
            .get_as(&two, &path)
            .await
            .is_problem(404, "NOT_FOUND");
        let granted = json!({"userId": person.id, "amount": 1, "reason": "r", "referenceId": "g"});
        origin
            .post_as(&two, "/api/v1/credits/grants", &granted)
            .await
            .is_problem(404, "NOT_FOUND");
    }
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM credits.transactions WHERE type <> 'grant'"
        )
        .await,
        0
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_leaked_key_charges_for_no_other_app(db: PgPool) {
    let (origin, ada, one, two) = scene(&db).await;
    two.meets(&db, &ada).await;
    for path in [USE, HOLDS] {
        origin
            .post_as(&two, path, &charge(&ada, &one.id))
            .await
            .is_problem(403, "FORBIDDEN");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_leaked_key_touches_no_hold_and_no_charge_of_another_app(db: PgPool) {
    let (origin, ada, one, two) = scene(&db).await;
    two.meets(&db, &ada).await;
    let held = origin.post_as(&one, HOLDS, &charge(&ada, "one")).await;
    let id = text(&held.body["hold"]["id"]);
    for how in ["capture", "void"] {
        let path = format!("{HOLDS}/{id}/{how}");
        let body = json!({"userId": ada.id});
        origin
            .post_as(&two, &path, &body)
            .await
            .is_problem(404, "NOT_FOUND");
        // Nor does the person whose credits they are: they would void every charge.
        origin
            .post(&path, Some(&ada.access), &json!({}))
            .await
            .is_problem(404, "NOT_FOUND");
    }
    let path = format!("{HOLDS}/{id}?userId={}", ada.id);
    origin
        .get_as(&two, &path)
        .await
        .is_problem(404, "NOT_FOUND");

    let mut order = charge(&ada, "one");
    order["idempotencyKey"] = json!("u");
    let charged = origin.post_as(&one, USE, &order).await;
    let refund = json!({
        "userId": ada.id, "transactionId": charged.body["transaction"]["id"], "reason": "r", "referenceId": "r",
    });
    origin
        .post_as(&two, "/api/v1/credits/refunds", &refund)
        .await
        .is_problem(404, "NOT_FOUND");
    let own = origin
        .post_as(&one, "/api/v1/credits/refunds", &refund)
        .await;
    assert_eq!(own.status, StatusCode::OK, "{own:?}");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_leaked_key_mints_no_more_than_its_daily_cap(db: PgPool) {
    let (origin, ada, one, _) = scene(&db).await;
    let grant = async |amount: f64, reference: &str| {
        let body =
            json!({"userId": ada.id, "amount": amount, "reason": "r", "referenceId": reference});
        origin.post_as(&one, "/api/v1/credits/grants", &body).await
    };
    assert_eq!(grant(6.0, "a").await.status, StatusCode::OK);
    grant(4.001, "b").await.is_problem(403, "GRANT_CAP_REACHED");
    assert_eq!(
        grant(6.0, "a").await.headers["idempotency-replayed"],
        "true"
    );
    assert_eq!(grant(4.0, "c").await.status, StatusCode::OK);
    grant(0.001, "d").await.is_problem(403, "GRANT_CAP_REACHED");
    assert!((origin.spendable(&ada).await - 165.0).abs() < f64::EPSILON);

    let poor = Service::add(&db, "poor", ALL, 0).await;
    poor.meets(&db, &ada).await;
    let body = json!({"userId": ada.id, "amount": 0.001, "reason": "r", "referenceId": "x"});
    origin
        .post_as(&poor, "/api/v1/credits/grants", &body)
        .await
        .is_problem(403, "GRANT_CAP_REACHED");
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_key_does_what_it_was_permitted_and_no_more(db: PgPool) {
    let (origin, ada, ..) = scene(&db).await;
    let none = Service::add(&db, "none", &[], 0).await;
    none.meets(&db, &ada).await;
    for path in [USE, HOLDS] {
        origin
            .post_as(&none, path, &charge(&ada, "none"))
            .await
            .is_problem(403, "FORBIDDEN");
    }
    let path = format!("/api/v1/credits/balance/{}", ada.id);
    origin
        .get_as(&none, &path)
        .await
        .is_problem(403, "FORBIDDEN");
    let grant = json!({"userId": ada.id, "amount": 1, "reason": "r", "referenceId": "r"});
    origin
        .post_as(&none, "/api/v1/credits/grants", &grant)
        .await
        .is_problem(403, "FORBIDDEN");
    let refund =
        json!({"userId": ada.id, "transactionId": ada.id, "reason": "r", "referenceId": "r"});
    origin
        .post_as(&none, "/api/v1/credits/refunds", &refund)
        .await
        .is_problem(403, "FORBIDDEN");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_key_is_its_apps_and_ends_when_it_is_rotated_or_the_app_disabled(db: PgPool) {
    let (origin, ada, one, two) = scene(&db).await;
    let works = async |id: &str, key: &str| {
        let service = Service {
            id: id.to_owned(),
            key: key.to_owned(),
        };
        let path = format!("/api/v1/credits/balance/{}", ada.id);
        origin.get_as(&service, &path).await
    };
    for (id, key) in [
        ("one", two.key.as_str()),
        ("none", &one.key),
        ("one", ""),
        ("", &one.key),
    ] {
        works(id, key).await.is_problem(401, "INVALID_SERVICE_KEY");
    }
    assert_eq!(works("one", &one.key).await.status, StatusCode::OK);

    let id = AppId::parse("one".to_owned()).expect("an id");
    let mut operator = db.acquire().await.expect("a connection");
    let next = apps::ServiceKey::new();
    apps::rotate(&mut operator, &id, next.hash())
        .await
        .expect("a rotation");
    works("one", &one.key)
        .await
        .is_problem(401, "INVALID_SERVICE_KEY");
    assert_eq!(works("one", next.reveal()).await.status, StatusCode::OK);
    apps::disable(&mut operator, &id).await.expect("an end");
    works("one", next.reveal())
        .await
        .is_problem(401, "INVALID_SERVICE_KEY");
    let stored = count(
        &db,
        "SELECT count(*) FROM auth.apps a WHERE a::text LIKE '%tgs_%'",
    )
    .await;
    assert_eq!(stored, 0, "keys are not stored as they are");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_pays_is_said_by_a_key_and_not_by_a_token(db: PgPool) {
    let (origin, ada, one, _) = scene(&db).await;
    let eve = origin.join("eve@example.org").await;
    let named = charge(&eve, "one");
    origin
        .post(USE, Some(&ada.access), &named)
        .await
        .is_problem(403, "FORBIDDEN");
    let unnamed = json!({"amount": 1, "appId": "one", "description": "d"});
    let refused = origin.post_as(&one, USE, &unnamed).await;
    refused.is_problem(400, "VALIDATION_FAILED");
    assert_eq!(refused.pointers(), ["/userId"]);
}

/// Whoever takes the key of a charge that the app is about to make gains nothing by it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_persons_keys_and_an_apps_are_apart(db: PgPool) {
    let (origin, ada, one, _) = scene(&db).await;
    let mut own = charge(&ada, "one");
    own["userId"] = Value::Null;
    let taken = origin.post(HOLDS, Some(&ada.access), &own).await;
    let path = format!("{HOLDS}/{}/void", text(&taken.body["hold"]["id"]));
    let voided = origin.post(&path, Some(&ada.access), &json!({})).await;
    assert_eq!(voided.status, StatusCode::OK, "{voided:?}");
    let held = origin.post_as(&one, HOLDS, &charge(&ada, "one")).await;
    assert_eq!(held.status, StatusCode::OK, "{held:?}");
    assert!(!held.headers.contains_key("idempotency-replayed"));
    assert_eq!(held.body["freeCreditsRemaining"], 145);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_is_charged_who_was_disabled_and_what_is_under_way_can_end(db: PgPool) {
    let (origin, ada, one, _) = scene(&db).await;
    let held = origin.post_as(&one, HOLDS, &charge(&ada, "one")).await;
    sqlx::query("UPDATE auth.users SET status = 'banned'")
        .execute(&db)
        .await
        .expect("a ban");
    let version = "SELECT version FROM credits.balances";
    let before = count(&db, version).await;
    let mut order = charge(&ada, "one");
    order["idempotencyKey"] = json!("later");
    for path in [USE, HOLDS] {
        origin
            .post_as(&one, path, &order)
            .await
            .is_problem(404, "NOT_FOUND");
    }
    assert_eq!(count(&db, version).await, before);
    let path = format!("{HOLDS}/{}/capture", text(&held.body["hold"]["id"]));
    let captured = origin
        .post_as(&one, &path, &json!({"userId": ada.id}))
        .await;
    assert_eq!(captured.status, StatusCode::OK, "{captured:?}");
}
