//! What needs a sign-in of the last ten minutes.

use axum::http::Method;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    second_factor::{TOTP, change, join_guarded},
    support::{Origin, text},
};

/// A refresh does not prove who somebody is.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn changing_the_second_factor_needs_a_recent_sign_in(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, "ada@example.org").await;
    for (age, is_recent) in [("9 minutes", true), ("11 minutes", false)] {
        let since = "UPDATE auth.sessions SET authenticated_at = now() - $1::text::interval, rotated_at = NULL, refresh_previous = NULL, refresh_current = 0";
        sqlx::query(since)
            .bind(age)
            .execute(&db)
            .await
            .expect("it is long ago");
        let refreshed = origin.refresh(&ada.person.refresh).await;
        let token = text(&refreshed.body["accessToken"]);
        let calls = [
            (Method::POST, TOTP, 409),
            (Method::POST, "/api/v1/auth/mfa/recovery-codes", 200),
            (Method::DELETE, TOTP, 400),
        ];
        for (method, path, otherwise) in calls {
            let body = json!({"code": ada.app.wrong()});
            let answer = origin.call(method.clone(), path, &token, &body).await;
            if is_recent {
                assert_eq!(answer.status, otherwise, "{method} {path}: {answer:?}");
            } else {
                answer.is_problem(403, "RECENT_SIGN_IN_REQUIRED");
            }
        }
    }
    change(&db, "UPDATE auth.sessions SET revoked_at = now()").await;
    origin
        .post(TOTP, Some(&ada.person.access), &json!({}))
        .await
        .is_problem(401, "SESSION_REVOKED");
}
