//! What an edge asks for itself, under its proof.

use axum::{body::Body, http::Request};
use origin::rim;
use shared::proof::{PROOF, Parts, ProofKey, Purpose};
use zeroize::Zeroizing;

use crate::support::{Answer, Origin};

const HOST: &str = "origin.example";

/// What the tests' origin shares with its edge.
pub fn key() -> [u8; 32] {
    std::array::from_fn(|index| u8::try_from(index).expect("small"))
}

/// Asks under a proof of this purpose, perhaps with somebody's token.
pub async fn ask(
    origin: &Origin,
    (method, target): (&str, &str),
    purpose: Purpose<'_>,
    token: Option<&str>,
    body: String,
) -> Answer {
    let parts = Parts {
        method,
        host: HOST,
        ..Parts::of_the_edge(purpose, target)
    };
    let proof = ProofKey::new(Zeroizing::new(key())).prove(&parts, rim::now());
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", HOST)
        .header(PROOF, proof);
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    origin
        .send(request.body(Body::from(body)).expect("a request"))
        .await
}
