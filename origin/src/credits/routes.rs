//! Looking at credits and spending them.

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    routing::{get, post},
};
use serde::Deserialize;
use shared::api::{Balance, IdempotencyKey, Spent, Transaction, UseCredits};

use crate::{
    app::App,
    door::Body,
    error::Error as Failure,
    rim,
    sessions::{Bearer, Caller},
};

use super::{Error, Spend, ledger};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const TRANSACTIONS: &str = "/api/v1/credits/transactions";
const LONGEST_PAGE: i64 = 100;

/// The calls about credits.
pub fn router() -> Router<App> {
    Router::new()
        .route("/api/v1/credits/balance", get(balance))
        .route("/api/v1/credits/use", post(use_credits))
        .route(TRANSACTIONS, get(transactions))
}

async fn balance(State(app): State<App>, caller: Caller) -> Result<Json<Balance>, Failure> {
    Ok(Json(app.ledger.balance(caller.user).await?))
}

async fn use_credits(
    State(app): State<App>,
    Bearer(claims): Bearer,
    headers: HeaderMap,
    Body(mut order): Body<UseCredits>,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    order.idempotency_key = one_key(&headers, order.idempotency_key.take())?;
    let spend = Spend {
        id: rim::new_id(),
        user: claims.sub,
        session: Some(claims.sid),
        order,
    };
    let charge = app.ledger.spend(spend).await?;
    let mut headers = HeaderMap::new();
    if charge.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    let transaction = charge.transaction;
    let answer = Spent {
        success: true,
        new_balance: transaction.balance_after,
        free_credits_remaining: transaction.free_credits_after,
        transaction,
    };
    Ok((headers, Json(answer)))
}

/// The key of the header or of the field; both may name the same one.
fn one_key(
    headers: &HeaderMap,
    field: Option<IdempotencyKey>,
) -> Result<Option<IdempotencyKey>, Error> {
    let header = headers.get(IDEMPOTENCY_KEY).map(|value| {
        let text = value.to_str().map_err(|_| Error::BadKey)?;
        IdempotencyKey::parse(text.to_owned()).ok_or(Error::BadKey)
    });
    match (header.transpose()?, field) {
        (Some(header), Some(field)) if header != field => Err(Error::TwoKeys),
        (header, field) => Ok(header.or(field)),
    }
}

#[derive(Deserialize)]
struct Paging {
    limit: Option<u32>,
    cursor: Option<i64>,
    offset: Option<u32>,
}

async fn transactions(
    State(app): State<App>,
    caller: Caller,
    paging: Result<Query<Paging>, QueryRejection>,
) -> Result<(HeaderMap, Json<Vec<Transaction>>), Failure> {
    let Query(paging) = paging?;
    let limit = i64::from(paging.limit.unwrap_or(50)).clamp(1, LONGEST_PAGE);
    let before = paging.cursor.unwrap_or(i64::MAX);
    let mut transaction = app.db.as_user(caller.user).await?;
    let page = ledger::page(
        &mut transaction,
        limit,
        before,
        paging.offset.unwrap_or(0).into(),
    )
    .await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = page.next {
        let link = format!("<{TRANSACTIONS}?limit={limit}&cursor={next}>; rel=\"next\"");
        headers.extend(HeaderValue::try_from(link).map(|link| (header::LINK, link)));
    }
    Ok((headers, Json(page.transactions)))
}
