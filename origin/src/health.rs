//! Probes, on the private port alone: whether the process lives, and whether it can serve.

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde::Serialize;

use crate::app::App;

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// What is not: `database`, `schema`, `keys`.
    failing: Vec<&'static str>,
}

/// `GET /health/live` and `GET /health/ready`.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/health/live", get(|| async { StatusCode::NO_CONTENT }))
        .route("/health/ready", get(ready))
        .with_state(app)
}

async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let mut failing = Vec::new();
    match app.db.is_current().await {
        Ok(true) => {}
        Ok(false) => failing.push("schema"),
        Err(error) => {
            tracing::warn!(%error, "the readiness probe got no answer");
            failing.push("database");
        }
    }
    if app.keys.ring().is_err() {
        failing.push("keys");
    }
    let ready = failing.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Readiness { ready, failing }))
}
