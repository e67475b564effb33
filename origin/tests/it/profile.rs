use axum::http::Method;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Origin, count};

const PROFILE: &str = "/api/v1/auth/profile";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_profile_changes_by_what_is_named_and_is_its_owners(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let eve = origin.join("eve@example.org").await;
    let change = async |body| {
        origin
            .call(Method::PATCH, PROFILE, &ada.access, &body)
            .await
            .body
    };
    let with = |name: Option<&str>, image: Option<&str>| {
        json!({"id": ada.id, "email": "ada@example.org", "emailVerified": false, "role": "user",
               "name": name, "image": image})
    };
    let picture = "https://example.org/ada.png";
    assert_eq!(
        change(json!({"name": "Ada"})).await,
        with(Some("Ada"), None)
    );
    assert_eq!(
        change(json!({"image": picture})).await,
        with(Some("Ada"), Some(picture))
    );
    assert_eq!(
        change(json!({"name": null})).await,
        with(None, Some(picture))
    );
    assert_eq!(
        origin.get(PROFILE, &ada.access).await.body,
        with(None, Some(picture))
    );
    assert_eq!(
        origin.get(PROFILE, &eve.access).await.body["image"],
        json!(null)
    );
    let changes = "SELECT count(*) FROM auth.security_events WHERE type = 'profile_changed'";
    assert_eq!(count(&db, changes).await, 3);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_profile_takes_no_other_field_and_no_picture_without_tls(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    for (body, pointer) in [
        (json!({"role": "admin"}), "/role"),
        (json!({"email": "eve@example.org"}), "/email"),
        (json!({"name": ""}), "/name"),
        (json!({"image": "http://example.org/ada.png"}), "/image"),
        (json!({"image": "javascript:alert(1)"}), "/image"),
    ] {
        let answer = origin
            .call(Method::PATCH, PROFILE, &ada.access, &body)
            .await;
        answer.is_problem(400, "VALIDATION_FAILED");
        assert_eq!(answer.pointers(), [pointer], "{body}");
    }
}
