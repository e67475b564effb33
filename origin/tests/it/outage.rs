//! Postgres goes away and comes back: 503 meanwhile, and no sign-in counts as failed.

use axum::http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    line::Line,
    second_factor::change,
    support::{Origin, PASSWORD, count},
};

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_outage_is_never_a_wrong_password(db: PgPool) {
    let line = Line::to(&db).await;
    let origin = line.origin().await;
    let ada = origin.join("ada@example.org").await;

    line.cut();
    let right = json!({"email": "ada@example.org", "password": PASSWORD});
    let wrong = json!({"email": "ada@example.org", "password": "wrong horse"});
    for body in [&right, &wrong] {
        let answer = origin.post("/api/v1/auth/login", None, body).await;
        answer.is_problem(503, "DATABASE_UNAVAILABLE");
        assert_eq!(answer.headers["retry-after"], "2");
    }
    origin
        .refresh(&ada.refresh)
        .await
        .is_problem(503, "DATABASE_UNAVAILABLE");
    // The ledger has no connection yet: nothing was done. A look at the balance is the same.
    origin
        .spend(&ada, 1.0, None)
        .await
        .is_problem(503, "DATABASE_UNAVAILABLE");
    assert_eq!(
        origin.get("/api/v1/auth/jwks", "").await.status,
        StatusCode::OK
    );

    line.mend();
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.security_events WHERE outcome = 'failure'"
        )
        .await,
        0
    );
    assert_eq!(origin.refresh(&ada.refresh).await.status, StatusCode::OK);
    assert_eq!(
        origin.post("/api/v1/auth/login", None, &right).await.status,
        StatusCode::OK
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_full_disk_is_an_outage_and_no_fault_of_ours(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    change(
        &db,
        "CREATE FUNCTION has_no_room() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE 'no room' USING ERRCODE = 'disk_full'; END $$",
    )
    .await;
    for table in [
        "CREATE TRIGGER full_disk BEFORE INSERT ON credits.transactions EXECUTE FUNCTION has_no_room()",
        "CREATE TRIGGER full_disk BEFORE INSERT ON auth.sessions EXECUTE FUNCTION has_no_room()",
    ] {
        change(&db, table).await;
    }
    let spent = origin.spend(&ada, 1.0, Some("once")).await;
    assert_eq!(spent.status, StatusCode::SERVICE_UNAVAILABLE, "{spent:?}");
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let signed_in = origin.post("/api/v1/auth/login", None, &body).await;
    signed_in.is_problem(503, "DATABASE_UNAVAILABLE");

    change(&db, "DROP FUNCTION has_no_room CASCADE").await;
    let spent = origin.spend(&ada, 1.0, Some("once")).await;
    assert_eq!(spent.status, StatusCode::OK, "{spent:?}");
    assert!(!spent.headers.contains_key("idempotency-replayed"));
}
