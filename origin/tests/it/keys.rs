use std::pin::pin;

use axum::{body::Body, http::Request};
use chrono::TimeDelta;
use origin::{keys, rim};
use serde_json::json;
use sqlx::{Connection, PgConnection, PgPool};

use crate::{
    giving_up::advanced,
    line::Line,
    support::{Origin, count, sealing},
};

const JWKS: &str = "/api/v1/auth/jwks";

async fn published(origin: &Origin) -> Vec<String> {
    let answer = origin.get(JWKS, "").await;
    let keys = answer.body["keys"].as_array().expect("a key set").clone();
    keys.iter()
        .filter_map(|key| key["kid"].as_str().map(str::to_owned))
        .collect()
}

/// As an operator's command connects.
async fn operator(db: &PgPool) -> PgConnection {
    PgConnection::connect_with(&db.connect_options())
        .await
        .expect("a connection")
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn replicas_that_start_at_once_share_the_first_key(db: PgPool) {
    let replicas = futures_util::future::join_all((0..4).map(|_| Origin::start(&db))).await;
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.signing_keys WHERE state = 'active'"
        )
        .await,
        1
    );
    let first = published(&replicas[0]).await;
    for replica in &replicas {
        assert_eq!(published(replica).await, first);
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_key_set_is_cached_and_named_by_its_content(db: PgPool) {
    let origin = Origin::start(&db).await;
    let answer = origin.get(JWKS, "").await;
    assert_eq!(answer.body["keys"][0]["alg"], "EdDSA");
    assert!(answer.body["keys"][0].get("d").is_none());
    let caching = "public, max-age=300, stale-while-revalidate=3600, stale-if-error=86400";
    assert_eq!(answer.headers["cache-control"], caching);
    let etag = answer.headers["etag"].clone();
    for path in [JWKS, "/api/auth/jwks", "/.well-known/jwks.json"] {
        let request = Request::get(path).header("if-none-match", etag.clone());
        let again = origin
            .send(request.body(Body::empty()).expect("a request"))
            .await;
        assert_eq!(
            (again.status.as_u16(), &again.headers["etag"]),
            (304, &etag)
        );
    }
    keys::rotate(&mut operator(&db).await, &sealing(), rim::now())
        .await
        .expect("a next key");
    origin
        .app
        .keys
        .reload(origin.app.db.pool(), rim::now())
        .await
        .expect("a reload");
    assert_ne!(origin.get(JWKS, "").await.headers["etag"], etag);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_next_key_is_published_first_and_old_tokens_outlive_the_change(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let old = published(&origin).await;
    for _ in ["a next key", "no second one"] {
        keys::rotate(&mut operator(&db).await, &sealing(), rim::now())
            .await
            .expect("rotated");
    }

    let reload = async |after: TimeDelta| {
        origin
            .app
            .keys
            .reload(origin.app.db.pool(), rim::now() + after)
            .await
            .expect("a reload");
    };
    reload(TimeDelta::hours(24)).await;
    assert_eq!(published(&origin).await.len(), 2);
    assert_eq!(
        origin.app.keys.ring().expect("a ring").signing.kid(),
        old[0],
        "the next one does not sign yet"
    );

    reload(TimeDelta::hours(26)).await;
    assert_ne!(
        origin.app.keys.ring().expect("a ring").signing.kid(),
        old[0]
    );
    assert_eq!(
        origin.get("/api/v1/auth/session", &ada.access).await.status,
        200,
        "the old one still verifies"
    );

    reload(TimeDelta::hours(27)).await;
    assert!(!published(&origin).await.contains(&old[0]));
}

/// However far a look at the keys has come when one of them is revoked.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_look_that_began_earlier_brings_no_revoked_key_back(db: PgPool) {
    // No answer is there before it is waited for: what carries it has its turn only then.
    let line = Line::to(&db).await;
    let origin = line.origin().await;
    let all = &origin.app.keys;
    let mut operator = operator(&db).await;
    let mut steps = 1;
    loop {
        let mut slow = pin!(all.reload(origin.app.db.pool(), rim::now()));
        if advanced(steps, slow.as_mut()).await.is_some() {
            break;
        }
        let kid = published(&origin).await.remove(0);
        keys::revoke(&mut operator, &sealing(), &kid, rim::now())
            .await
            .expect("revoked");
        all.reload(origin.app.db.pool(), rim::now())
            .await
            .expect("a look");
        slow.await.expect("another");
        let there = published(&origin).await;
        assert!(!there.contains(&kid), "after {steps} steps");
        steps += 1;
    }
    // It waits for the database: to begin, to look twice, and to end.
    assert!(steps > 4, "{steps} steps");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn revoking_a_key_ends_its_tokens_and_no_session(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let kid = published(&origin).await.remove(0);
    keys::revoke(&mut operator(&db).await, &sealing(), &kid, rim::now())
        .await
        .expect("revoked");
    origin
        .app
        .keys
        .reload(origin.app.db.pool(), rim::now())
        .await
        .expect("a reload");
    origin
        .get("/api/v1/auth/session", &ada.access)
        .await
        .is_problem(401, "INVALID_TOKEN");
    assert_eq!(origin.refresh(&ada.refresh).await.status, 200);
    assert!(
        keys::revoke(&mut operator(&db).await, &sealing(), &kid, rim::now())
            .await
            .is_err()
    );
}

/// A row that somebody else wrote neither signs nor verifies.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_key_that_does_not_open_is_nobodys(db: PgPool) {
    let origin = Origin::start(&db).await;
    let before = published(&origin).await;
    sqlx::query(
        "INSERT INTO auth.signing_keys (kid, sealed_seed, state, published_at, activate_at)
         VALUES ('forged', 'x', 'next', now(), now() + interval '1 day')",
    )
    .execute(&db)
    .await
    .expect("a row");
    origin
        .app
        .keys
        .reload(origin.app.db.pool(), rim::now())
        .await
        .expect("a reload");
    assert_eq!(published(&origin).await, before);

    let other = "--key-encryption-key=Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";
    let stranger = Origin::on((*db.connect_options()).clone(), &[other]);
    assert!(
        stranger
            .app
            .keys
            .reload(stranger.app.db.pool(), rim::now())
            .await
            .is_err()
    );
    stranger
        .post("/api/v1/auth/refresh", None, &json!({"refreshToken": "x"}))
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    stranger
        .get(JWKS, "")
        .await
        .is_problem(503, "KEYS_UNAVAILABLE");
}
