//! The origin believes an address and a request id under the edge's proof alone.

use axum::{body::Body, http::Request};
use chrono::TimeDelta;
use origin::rim;
use serde_json::json;
use shared::proof::{ADDRESS, PROOF, Parts, ProofKey, Purpose, REQUEST_ID};
use sqlx::PgPool;
use zeroize::Zeroizing;

use crate::{
    edge::key,
    support::{Answer, Origin, PASSWORD, count},
};

const LOGIN: &str = "/api/v1/auth/login";

/// A sign-in that the edge forwards, `age` ago, for a client at 192.0.2.7.
async fn forwarded(origin: &Origin, host: &str, key: [u8; 32], age: TimeDelta) -> Answer {
    let parts = Parts {
        purpose: Purpose::Forward,
        method: "POST",
        host: "origin.example",
        target: LOGIN,
        address: "192.0.2.7",
        subject: "",
        role: "",
        email: "",
        request_id: "from-the-edge",
    };
    let proof = ProofKey::new(Zeroizing::new(key)).prove(&parts, rim::now() - age);
    let request = Request::post(LOGIN)
        .header("host", host)
        .header("content-type", "application/json")
        .header(ADDRESS, parts.address)
        .header(REQUEST_ID, parts.request_id)
        .header(PROOF, proof);
    let body = json!({"email": "ada@example.org", "password": PASSWORD}).to_string();
    origin
        .send(request.body(Body::from(body)).expect("a request"))
        .await
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn under_a_proof_the_edges_word_counts(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    let answer = forwarded(&origin, "origin.example", key(), TimeDelta::zero()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["tollgate-request-id"], "from-the-edge");
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.sessions WHERE address = '192.0.2.7'"
        )
        .await,
        1
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn where_the_operator_says_so_nothing_is_served_without_a_proof(db: PgPool) {
    let origin = Origin::start_with(&db, &["--require-edge-proof=true"]).await;
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    for path in ["/api/v1/auth/register", LOGIN, "/nowhere"] {
        let answer = origin.post(path, None, &body).await;
        answer.is_problem(403, "EDGE_PROOF_INVALID");
    }
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 0);
    let keys = Request::get("/api/v1/auth/jwks").body(Body::empty());
    let keys = origin.send(keys.expect("a request")).await;
    assert_eq!(keys.status, 200, "an edge needs them: {keys:?}");
    let answer = forwarded(&origin, "origin.example", key(), TimeDelta::zero()).await;
    answer.is_problem(401, "INVALID_CREDENTIALS");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_proof_that_does_not_hold_ends_the_request(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    for (host, key, age) in [
        ("origin.example", [9; 32], TimeDelta::zero()),
        ("other.example", key(), TimeDelta::zero()),
        ("origin.example", key(), TimeDelta::seconds(32)),
    ] {
        forwarded(&origin, host, key, age)
            .await
            .is_problem(403, "EDGE_PROOF_INVALID");
    }
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn without_a_proof_the_edges_headers_mean_nothing(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    let request = Request::post(LOGIN)
        .header("content-type", "application/json")
        .header(ADDRESS, "192.0.2.7")
        .header(REQUEST_ID, "made-up");
    let body = json!({"email": "ada@example.org", "password": PASSWORD}).to_string();
    let answer = origin
        .send(request.body(Body::from(body)).expect("a request"))
        .await;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.headers["tollgate-request-id"], "made-up");
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.sessions WHERE address IS NOT NULL"
        )
        .await,
        0
    );
}
