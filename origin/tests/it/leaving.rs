//! What is held about a person, for them to take along.

use axum::{body::Body, http::Request};
use serde_json::Value;
use sqlx::PgPool;

use crate::support::{Origin, Person};

const EXPORT: &str = "/api/v1/auth/me/export";

async fn export(origin: &Origin, person: &Person) -> Value {
    let answer = origin.get(EXPORT, &person.access).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer.body
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_export_has_all_of_its_owners_and_nothing_of_others(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (ada, eve) = (
        origin.join("ada@example.org").await,
        origin.join("eve@example.org").await,
    );
    origin.spend(&ada, 1.5, Some("key")).await;
    origin.spend(&eve, 2.0, None).await;
    // More than a page of them, and one page to the row.
    sqlx::query(
        "INSERT INTO auth.security_events (user_id, type, outcome)
         SELECT $1::uuid, 'sign_in', 'success' FROM generate_series(1, 2998)",
    )
    .bind(&ada.id)
    .execute(&db)
    .await
    .expect("events");
    let document = export(&origin, &ada).await;
    let sections: Vec<&String> = document.as_object().expect("an object").keys().collect();
    assert_eq!(
        sections,
        [
            "account",
            "balance",
            "devices",
            "holds",
            "lots",
            "purchases",
            "securityEvents",
            "sessions",
            "transactions"
        ]
    );
    assert_eq!(document["account"][0]["email"], "ada@example.org");
    assert_eq!(document["sessions"].as_array().map(Vec::len), Some(1));
    // Registered, signed in, and those.
    assert_eq!(
        document["securityEvents"].as_array().map(Vec::len),
        Some(3_000)
    );
    let spent: Vec<&Value> = document["transactions"]
        .as_array()
        .expect("an array")
        .iter()
        .filter(|transaction| transaction["type"] == "spend")
        .collect();
    assert_eq!(spent.len(), 1);
    assert_eq!(
        (&spent[0]["amount"], &spent[0]["idempotencyKey"]),
        (&1.5.into(), &"key".into())
    );
    assert_eq!(document["balance"][0]["free"], 153.5);
    let text = document.to_string();
    for foreign in ["eve@", eve.id.as_str(), "refresh_salt", "cookie", "argon2"] {
        assert!(!text.contains(foreign), "{foreign}");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_export_needs_its_owner(db: PgPool) {
    let origin = Origin::start(&db).await;
    let request = Request::get(EXPORT).body(Body::empty()).expect("a request");
    origin
        .send(request)
        .await
        .is_problem(401, "UNAUTHENTICATED");
}
