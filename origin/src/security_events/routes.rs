//! Looking at what happened to one's account.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, header},
};
use serde::Deserialize;
use shared::api::SecurityEvent;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, error::Error as Failure, sessions::Caller};

use super::store;

const SECURITY_EVENTS: &str = "/api/v1/auth/security-events";
const LONGEST_PAGE: i64 = 100;

/// The list.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(security_events))
}

#[derive(Deserialize)]
struct Paging {
    limit: Option<u32>,
    cursor: Option<i64>,
}

#[utoipa::path(
    get,
    path = "/api/v1/auth/security-events",
    tag = "Account",
    summary = "What happened to the account, the latest first",
    security(("token" = [])),
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many; 50 by default"),
        ("cursor" = Option<i64>, Query, minimum = 0, maximum = 9_007_199_254_740_991i64, description = "From the `Link` of the page before"),
    ),
    responses((status = 200, body = Vec<SecurityEvent>, headers(("Link" = String, description = "The next page: `rel=\"next\"`"))))
)]
async fn security_events(
    State(app): State<App>,
    caller: Caller,
    paging: Result<Query<Paging>, QueryRejection>,
) -> Result<(HeaderMap, Json<Vec<SecurityEvent>>), Failure> {
    let Query(paging) = paging?;
    let limit = i64::from(paging.limit.unwrap_or(50)).clamp(1, LONGEST_PAGE);
    let before = paging.cursor.unwrap_or(i64::MAX);
    let mut transaction = app.db.as_user(caller.user).await?;
    let page = store::page(&mut transaction, limit, before).await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = page.next {
        let link = format!("<{SECURITY_EVENTS}?limit={limit}&cursor={next}>; rel=\"next\"");
        headers.extend(HeaderValue::try_from(link).map(|link| (header::LINK, link)));
    }
    Ok((headers, Json(page.events)))
}
