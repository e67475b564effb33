//! The list of what happened to an account.

use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Origin, Person, count, text};

const EVENTS: &str = "/api/v1/auth/security-events";

async fn list(origin: &Origin, person: &Person, query: &str) -> (Vec<Value>, Option<String>) {
    let answer = origin
        .get(&format!("{EVENTS}{query}"), &person.access)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let link = answer.headers.get("link").map(|link| {
        let link = link.to_str().expect("text");
        let link = link.strip_prefix('<').and_then(|link| link.split_once('>'));
        let (target, rest) = link.expect("a link");
        assert_eq!(rest, "; rel=\"next\"");
        target
            .strip_prefix(EVENTS)
            .expect("the same path")
            .to_owned()
    });
    (answer.body.as_array().expect("a list").clone(), link)
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn events_come_in_pages_newest_first_and_are_their_owners(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let eve = origin.join("eve@example.org").await;
    origin.login("eve@example.org").await;
    let wrong = json!({"email": "ada@example.org", "password": "wrong horse"});
    origin.post("/api/v1/auth/login", None, &wrong).await;

    let (all, next) = list(&origin, &ada, "").await;
    assert_eq!(next, None);
    let told: Vec<_> = all
        .iter()
        .map(|event| (text(&event["type"]), text(&event["outcome"])))
        .collect();
    let told: Vec<_> = told.iter().map(|(t, o)| (t.as_str(), o.as_str())).collect();
    assert_eq!(
        told,
        [
            ("sign_in", "failure"),
            ("sign_in", "success"),
            ("registered", "success")
        ]
    );
    let fields: Vec<&String> = all[0].as_object().expect("an object").keys().collect();
    assert_eq!(
        fields,
        ["at", "id", "ipAddress", "outcome", "type", "userAgent"]
    );

    let (first, next) = list(&origin, &ada, "?limit=2").await;
    let (second, end) = list(&origin, &ada, &next.expect("a second page")).await;
    assert_eq!([first, second].concat(), all);
    assert_eq!(end, None);
    assert_eq!(list(&origin, &eve, "?limit=1000").await.0.len(), 3);
    assert_eq!(list(&origin, &ada, "?limit=0").await.0.len(), 1);
    origin
        .get(&format!("{EVENTS}?cursor=x"), &ada.access)
        .await
        .is_problem(400, "INVALID_REQUEST");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_is_old_is_swept_a_few_rows_at_a_time(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    for statement in [
        "UPDATE auth.security_events SET at = now() - interval '400 days 1 minute'",
        "INSERT INTO auth.security_events (user_id, type, outcome, at)
         SELECT id, 'sign_in', 'success', now() - interval '399 days' FROM auth.users",
        "INSERT INTO auth.half_sign_ins (token_hash, user_id, amr, remember, expires_at)
         SELECT sha256(n::text::bytea), id, '{pwd}', false, now() + make_interval(mins => n)
         FROM auth.users, generate_series(-2, 1) n",
    ] {
        sqlx::query(statement).execute(&db).await.expect("rows");
    }
    let events = "SELECT count(*) FROM auth.security_events";
    let halves = "SELECT count(*) FROM auth.half_sign_ins";
    let mut left = Vec::new();
    loop {
        let is_more: bool = sqlx::query_scalar("SELECT auth.sweep_security(1)")
            .fetch_one(origin.app.db.pool())
            .await
            .expect("a sweep");
        left.push((count(&db, events).await, count(&db, halves).await));
        if !is_more {
            break;
        }
    }
    assert_eq!(left, [(2, 3), (1, 2), (1, 1), (1, 1)]);
    assert_eq!(list(&origin, &ada, "").await.0.len(), 1);
}

/// One replica sweeps, and the others do not wait for it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn replicas_leave_a_sweep_to_the_first(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.join("ada@example.org").await;
    let old = "UPDATE auth.security_events SET at = now() - interval '401 days'";
    sqlx::query(old).execute(&db).await.expect("old events");
    let sweep = "SELECT auth.sweep_security(1)";
    let mut first = db.begin().await.expect("a transaction");
    let swept: bool = sqlx::query_scalar(sweep)
        .fetch_one(&mut *first)
        .await
        .expect("a sweep");
    let other: bool = sqlx::query_scalar(sweep)
        .fetch_one(&db)
        .await
        .expect("none");
    assert_eq!((swept, other), (true, false));
    first.commit().await.expect("done");
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.security_events").await,
        1
    );
}
