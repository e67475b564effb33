use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Origin, Person, count, text};

const SESSIONS: &str = "/api/v1/auth/sessions";

async fn is_signed_in(origin: &Origin, person: &Person) -> bool {
    origin
        .get("/api/v1/auth/session", &person.access)
        .await
        .status
        == StatusCode::OK
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn signing_out_ends_this_session_and_no_other(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (phone, laptop) = (
        origin.join("ada@example.org").await,
        origin.login("ada@example.org").await,
    );
    let answer = origin
        .post("/api/v1/auth/logout", Some(&phone.access), &json!({}))
        .await;
    assert_eq!(answer.body["success"], true);
    assert!(
        answer.headers["set-cookie"]
            .to_str()
            .expect("text")
            .contains("Max-Age=0")
    );

    let refused = origin.get("/api/v1/auth/session", &phone.access).await;
    refused.is_problem(401, "SESSION_REVOKED");
    assert!(
        refused.headers["www-authenticate"]
            .to_str()
            .expect("text")
            .starts_with("Bearer error=\"invalid_token\"")
    );
    origin
        .refresh(&phone.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    origin
        .spend(&phone, 1.0, None)
        .await
        .is_problem(401, "SESSION_REVOKED");
    assert!(is_signed_in(&origin, &laptop).await);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_refresh_token_is_enough_to_sign_out(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    let body = json!({"refreshToken": person.refresh});
    assert_eq!(
        origin.post("/api/v1/auth/logout", None, &body).await.status,
        StatusCode::OK
    );
    assert!(!is_signed_in(&origin, &person).await);
    let made_up = json!({"refreshToken": "made-up"});
    origin
        .post("/api/v1/auth/logout", None, &made_up)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn signing_out_everywhere_ends_every_session_of_this_person_alone(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (phone, laptop) = (
        origin.join("ada@example.org").await,
        origin.login("ada@example.org").await,
    );
    let other = origin.join("eve@example.org").await;
    let answer = origin
        .post("/api/v1/auth/logout-all", Some(&phone.access), &json!({}))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!is_signed_in(&origin, &phone).await && !is_signed_in(&origin, &laptop).await);
    assert!(is_signed_in(&origin, &other).await);
    assert!(is_signed_in(&origin, &origin.login("ada@example.org").await).await);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn devices_are_listed_and_ended_one_by_one(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (phone, laptop) = (
        origin.join("ada@example.org").await,
        origin.login("ada@example.org").await,
    );
    let stranger = origin.join("eve@example.org").await;

    let listed = origin.get(SESSIONS, &phone.access).await.body;
    let listed = listed.as_array().expect("a list");
    assert_eq!(
        listed
            .iter()
            .map(|session| session["current"] == true)
            .filter(|current| *current)
            .count(),
        1
    );
    assert_eq!(listed.len(), 2);
    let of_laptop = text(
        &listed
            .iter()
            .find(|session| session["current"] == false)
            .expect("the other")["id"],
    );

    let end = |person: &Person| {
        let request = Request::delete(format!("{SESSIONS}/{of_laptop}"))
            .header("authorization", format!("Bearer {}", person.access));
        request.body(Body::empty()).expect("a request")
    };
    origin
        .send(end(&stranger))
        .await
        .is_problem(404, "NOT_FOUND");
    assert!(is_signed_in(&origin, &laptop).await);
    assert_eq!(origin.send(end(&phone)).await.status, StatusCode::OK);
    assert!(!is_signed_in(&origin, &laptop).await);
    origin.send(end(&phone)).await.is_problem(404, "NOT_FOUND");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn validate_says_what_a_token_says_while_its_session_lives(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    let body = json!({"token": person.access});
    let answer = origin.post("/api/v1/auth/validate", None, &body).await;
    assert_eq!(
        (&answer.body["valid"], &answer.body["payload"]["sub"]),
        (&json!(true), &json!(person.id))
    );

    origin
        .post("/api/v1/auth/logout", Some(&person.access), &json!({}))
        .await;
    let answer = origin.post("/api/v1/auth/validate", None, &body).await;
    assert_eq!(
        answer.body,
        json!({"valid": false, "error": "the session has ended"})
    );
    let noise = json!({"token": "x".repeat(16 * 1024)});
    let answer = origin.post("/api/v1/auth/validate", None, &noise).await;
    assert_eq!(
        answer.body,
        json!({"valid": false, "error": "the token is malformed"})
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn without_a_token_the_answer_is_a_bare_challenge(db: PgPool) {
    let origin = Origin::start(&db).await;
    let request = Request::get(SESSIONS)
        .body(Body::empty())
        .expect("a request");
    let answer = origin.send(request).await;
    answer.is_problem(401, "UNAUTHENTICATED");
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    origin
        .get(SESSIONS, "noise")
        .await
        .is_problem(401, "INVALID_TOKEN");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_expired_session_is_over(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    sqlx::query("UPDATE auth.sessions SET expires_at = now()")
        .execute(&db)
        .await
        .expect("expired");
    origin
        .get(SESSIONS, &person.access)
        .await
        .is_problem(401, "SESSION_REVOKED");
    origin
        .spend(&person, 1.0, None)
        .await
        .is_problem(401, "SESSION_REVOKED");
    origin
        .refresh(&person.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_other_sessions_end_and_this_one_stays(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (phone, laptop) = (
        origin.join("ada@example.org").await,
        origin.login("ada@example.org").await,
    );
    let other = origin.join("eve@example.org").await;
    let answer = origin
        .post(
            "/api/v1/auth/sessions/revoke-others",
            Some(&phone.access),
            &json!({}),
        )
        .await;
    assert_eq!(answer.body["success"], true);
    assert!(is_signed_in(&origin, &phone).await && is_signed_in(&origin, &other).await);
    assert!(!is_signed_in(&origin, &laptop).await);
    origin
        .refresh(&laptop.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sign_in_past_a_hundred_ends_the_session_least_used(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    sqlx::query("UPDATE auth.sessions SET last_used_at = now() - interval '1 day'")
        .execute(&db)
        .await
        .expect("not used for long");
    sqlx::query(
        "INSERT INTO auth.sessions (id, user_id, client_id, refresh_salt, remember, amr, expires_at, ends_at)
         SELECT gen_random_uuid(), user_id, client_id, refresh_salt, remember, amr, expires_at, ends_at
         FROM auth.sessions, generate_series(1, 99)",
    )
    .execute(&db)
    .await
    .expect("99 more");
    let live = "SELECT count(*) FROM auth.sessions WHERE revoked_at IS NULL";
    assert_eq!(count(&db, live).await, 100);
    let latest = origin.login("ada@example.org").await;
    assert_eq!(count(&db, live).await, 100);
    let session = "/api/v1/auth/session";
    origin
        .get(session, &ada.access)
        .await
        .is_problem(401, "SESSION_REVOKED");
    assert_eq!(origin.get(session, &latest.access).await.status, 200);
    let told =
        "SELECT count(*) FROM auth.revocations r JOIN auth.security_events e USING (session_id)
                WHERE e.type = 'session_crowded_out'";
    assert_eq!(count(&db, told).await, 1);
}
