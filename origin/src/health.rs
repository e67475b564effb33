//! Probes, on the private port alone: whether the process lives, and whether it can serve.

use std::sync::atomic::Ordering;

use axum::{Json, Router, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

/// Whether the origin can serve.
#[derive(Serialize, utoipa::ToSchema)]
struct Readiness {
    ready: bool,
    /// What is not: `database`, `schema`, `keys`; or `stopping`.
    failing: Vec<&'static str>,
}

/// `GET /health/live` and `GET /health/ready`.
pub fn router(app: App) -> Router {
    calls().with_state(app).into()
}

/// The probes, with what the document says of them.
pub fn calls() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(live))
        .routes(routes!(ready))
}

#[utoipa::path(
    get,
    path = "/health/live",
    tag = "Health",
    summary = "Whether the origin lives",
    description = "On the origin's private port.",
    responses((status = 204, description = "It does"))
)]
async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "Health",
    summary = "Whether the origin can serve",
    description = "On the origin's private port: the database answers, its schema is this build's, there are keys.",
    responses(
        (status = 200, body = Readiness),
        (status = 503, body = Readiness, description = "Something fails"),
    )
)]
async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let failing = failing(&app).await;
    let ready = failing.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Readiness { ready, failing }))
}

/// What keeps it from serving.
pub async fn failing(app: &App) -> Vec<&'static str> {
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
    if app.stopping.load(Ordering::Relaxed) {
        failing.push("stopping");
    }
    failing
}
