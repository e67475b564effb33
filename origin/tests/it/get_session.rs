//! Who is signed in in a browser, by its cookie.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    revocations::claims,
    session_to_token::Tab,
    support::{Answer, Origin},
};

const GET_SESSION: &str = "/api/auth/get-session";

async fn ask(origin: &Origin, cookie: Option<&str>) -> Answer {
    let mut request = Request::get(GET_SESSION);
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let request = request.body(Body::empty()).expect("a request");
    let answer = origin.send(request).await;
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    assert!(!answer.headers.contains_key(header::SET_COOKIE));
    answer
}

async fn is_nobody(origin: &Origin, cookie: Option<&str>) {
    let answer = ask(origin, cookie).await;
    assert_eq!(
        (answer.status, &answer.body),
        (StatusCode::OK, &Value::Null),
        "{cookie:?}"
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_cookie_says_who_is_signed_in_as_a_token_does(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    let tab = Tab::sign_in(&origin, "ada@example.org").await;
    let by_cookie = ask(&origin, Some(&tab.cookie)).await;
    let by_token = origin.get("/api/v1/auth/session", &tab.person.access).await;
    assert_eq!(by_cookie.status, StatusCode::OK);
    assert_eq!(by_cookie.body, by_token.body);
    assert_eq!(
        by_cookie.body["session"]["id"],
        claims(&tab.person.access)["sid"]
    );
    assert_eq!(by_cookie.body["session"]["current"], true);
    assert_eq!(by_cookie.body["session"]["app"], Value::Null);
    assert_eq!(by_cookie.body["user"]["email"], "ada@example.org");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn without_a_live_session_the_answer_is_null(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    let [signs_out, expires, disabled] = [
        Tab::sign_in(&origin, "ada@example.org").await,
        Tab::sign_in(&origin, "ada@example.org").await,
        Tab::sign_in(&origin, "ada@example.org").await,
    ];
    for nobody in [
        None,
        Some("tollgate="),
        Some("tollgate=made-up"),
        Some("a=b"),
    ] {
        is_nobody(&origin, nobody).await;
    }
    // The hash that is stored opens nothing.
    let hash: String =
        sqlx::query_scalar("SELECT encode(cookie_hash, 'hex') FROM auth.sessions LIMIT 1")
            .fetch_one(&db)
            .await
            .expect("a hash");
    is_nobody(&origin, Some(&format!("tollgate={hash}"))).await;

    let token = Some(signs_out.person.access.as_str());
    origin.post("/api/v1/auth/logout", token, &json!({})).await;
    is_nobody(&origin, Some(&signs_out.cookie)).await;

    let over = "UPDATE auth.sessions SET expires_at = now() WHERE id = $1::uuid";
    sqlx::query(over)
        .bind(claims(&expires.person.access)["sid"].as_str())
        .execute(&db)
        .await
        .expect("it is over");
    is_nobody(&origin, Some(&expires.cookie)).await;

    assert_ne!(ask(&origin, Some(&disabled.cookie)).await.body, Value::Null);
    sqlx::query("UPDATE auth.users SET status = 'banned'")
        .execute(&db)
        .await
        .expect("an end");
    is_nobody(&origin, Some(&disabled.cookie)).await;
}
