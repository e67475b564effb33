//! The feed, for the edges alone: the front lets nobody in without their proof.

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderName, header},
    routing::get,
};
use serde::Deserialize;
use shared::revocations::{Feed, PATH};

use crate::{app::App, error::Error};

/// The calls of the edges about revocations.
pub fn router() -> Router<App> {
    Router::new().route(PATH, get(feed))
}

#[derive(Deserialize)]
struct After {
    after: i64,
}

async fn feed(
    State(app): State<App>,
    query: Result<Query<After>, QueryRejection>,
) -> Result<([(HeaderName, &'static str); 1], Json<Feed>), Error> {
    let Query(After { after }) = query?;
    let feed = app.revocations.after(after)?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(feed)))
}
