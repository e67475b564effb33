//! What no door lets in. Each is a problem with its code and its pointer, and writes nothing.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Origin, PASSWORD, count};

const REGISTER: &str = "/api/v1/auth/register";
const USE: &str = "/api/v1/credits/use";

async fn accounts(db: &PgPool) -> i64 {
    count(
        db,
        "SELECT (SELECT count(*) FROM auth.users) + (SELECT count(*) FROM credits.balances)",
    )
    .await
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_registration_that_is_none_is_refused_by_its_field(db: PgPool) {
    let origin = Origin::start(&db).await;
    let good = json!({"email": "ada@example.org", "password": PASSWORD});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    for (body, pointers) in [
        (json!({}), vec!["/email", "/password"]),
        (json!([]), vec![""]),
        (with("email", json!("none")), vec!["/email"]),
        (with("email", json!(7)), vec!["/email"]),
        (with("email", json!("a\u{0}da@example.org")), vec!["/email"]),
        (
            with("email", json!("ada@example.org\r\nBcc: eve@example.org")),
            vec!["/email"],
        ),
        (with("password", json!("1234567")), vec!["/password"]),
        (with("password", json!("x".repeat(129))), vec!["/password"]),
        (
            with("password", json!("correct\u{0}horse")),
            vec!["/password"],
        ),
        (
            with("password", json!(["correct horse"])),
            vec!["/password"],
        ),
        (with("name", json!("A\u{0}da")), vec!["/name"]),
        (with("name", json!({})), vec!["/name"]),
        (with("role", json!("admin")), vec!["/role"]),
        (
            json!({"email": "x", "password": "x", "x": 1}),
            vec!["/email", "/password", "/x"],
        ),
    ] {
        let answer = origin.post(REGISTER, None, &body).await;
        answer.is_problem(400, "VALIDATION_FAILED");
        assert_eq!(answer.pointers(), pointers, "{body}");
    }
    assert_eq!(accounts(&db).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_body_that_is_not_json_is_told_where(db: PgPool) {
    let origin = Origin::start(&db).await;
    for body in [
        "",
        "{",
        "{\"email\": hunter2}",
        "{\"email\":\"a\"} x",
        "\u{feff}{}",
    ] {
        let answer = origin.post_text(REGISTER, None, body).await;
        answer.is_problem(400, "INVALID_REQUEST");
        assert!(!answer.body.to_string().contains("hunter2"));
        assert!(
            answer.body["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("line 1")),
            "{answer:?}"
        );
    }
    let deep = format!("{{\"email\":{}", "[".repeat(10_000));
    origin
        .post_text(REGISTER, None, deep)
        .await
        .is_problem(400, "INVALID_REQUEST");
    let invalid = b"{\"email\":\"\xff\"}".to_vec();
    origin
        .post_text(REGISTER, None, invalid)
        .await
        .is_problem(400, "INVALID_REQUEST");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_large_body_and_another_type_are_refused_unread(db: PgPool) {
    let origin = Origin::start(&db).await;
    let large =
        json!({"email": "ada@example.org", "password": PASSWORD, "name": "x".repeat(1024 * 1024)});
    origin
        .post(REGISTER, None, &large)
        .await
        .is_problem(413, "BODY_TOO_LARGE");
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "",
    ] {
        let request = Request::post(REGISTER).header(header::CONTENT_TYPE, content_type);
        let body = json!({"email": "ada@example.org", "password": PASSWORD}).to_string();
        let answer = origin
            .send(request.body(Body::from(body)).expect("a request"))
            .await;
        answer.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    assert_eq!(accounts(&db).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_spend_that_is_none_is_refused_by_its_field(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let spend = |amount: &str, rest: &str| {
        format!(r#"{{"amount":{amount},"appId":"app","description":"d"{rest}}}"#)
    };
    let long_key = format!(r#","idempotencyKey":"{}""#, "k".repeat(256));
    let large = format!(r#","metadata":{{"x":"{}"}}"#, "x".repeat(8 * 1024));
    for (body, pointer) in [
        (spend("0", ""), "/amount"),
        (spend("-1", ""), "/amount"),
        (spend("0.0001", ""), "/amount"),
        (spend("1e30", ""), "/amount"),
        (spend("1e3", ""), "/amount"),
        (spend("\"10\"", ""), "/amount"),
        (spend("1000000000.001", ""), "/amount"),
        (spend("null", ""), "/amount"),
        (spend("1", r#","idempotencyKey":"""#), "/idempotencyKey"),
        (spend("1", &long_key), "/idempotencyKey"),
        (spend("1", r#","metadata":"x""#), "/metadata"),
        (spend("1", r#","metadata":{"a":"\u0000"}"#), "/metadata"),
        (spend("1", r#","metadata":{"a":"\ud800"}"#), "/metadata"),
        (spend("1", &large), "/metadata"),
        (spend("1", r#","userId":"x""#), "/userId"),
        (
            r#"{"amount":1,"appId":"a/b","description":"d"}"#.to_owned(),
            "/appId",
        ),
        (
            r#"{"amount":1,"appId":"app","description":""}"#.to_owned(),
            "/description",
        ),
        (r#"{"amount":1,"appId":"app"}"#.to_owned(), "/description"),
    ] {
        let answer = origin.post_text(USE, Some(&ada.access), body.clone()).await;
        answer.is_problem(400, "VALIDATION_FAILED");
        assert_eq!(answer.pointers(), [pointer], "{body}");
    }
    assert_eq!(
        count(&db, "SELECT count(*) FROM credits.transactions").await,
        1,
        "the bonus alone"
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_key_in_the_header_is_a_key_and_the_same_one(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let send = |key: String| {
        let request = Request::post(USE)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", ada.access))
            .header("idempotency-key", key);
        let body = json!({"amount": 1, "appId": "app", "description": "d", "idempotencyKey": "k"})
            .to_string();
        origin.send(request.body(Body::from(body)).expect("a request"))
    };
    send("other".to_owned())
        .await
        .is_problem(400, "INVALID_REQUEST");
    send("k".repeat(300))
        .await
        .is_problem(400, "INVALID_REQUEST");
    assert_eq!(send("k".to_owned()).await.status, 200);
    assert_eq!(
        send("k".to_owned()).await.headers["idempotency-replayed"],
        "true"
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn unknown_paths_methods_and_ids_are_problems(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    origin
        .get("/api/v1/nothing", &ada.access)
        .await
        .is_problem(404, "NOT_FOUND");
    let answer = origin.get(REGISTER, &ada.access).await;
    answer.is_problem(405, "METHOD_NOT_ALLOWED");
    assert_eq!(answer.headers["allow"], "POST");
    let request = Request::delete("/api/v1/auth/sessions/none")
        .header("authorization", format!("Bearer {}", ada.access));
    origin
        .send(request.body(Body::empty()).expect("a request"))
        .await
        .is_problem(400, "INVALID_REQUEST");
}

/// Its own keys made it, for somewhere else.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_token_for_another_issuer_or_audience_is_refused(db: PgPool) {
    let origin = Origin::start(&db).await;
    for flag in [
        "--public-url=http://localhost:8788",
        "--token-audience=elsewhere",
    ] {
        let elsewhere = Origin::start_with(&db, &[flag]).await;
        let email = format!("{}@example.org", flag.len());
        let person = elsewhere.join(&email).await;
        origin
            .get("/api/v1/auth/session", &person.access)
            .await
            .is_problem(401, "INVALID_TOKEN");
        origin
            .spend(&person, 1.0, None)
            .await
            .is_problem(401, "INVALID_TOKEN");
    }
}
