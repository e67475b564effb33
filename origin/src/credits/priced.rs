//! Priced routes: the edge puts the price aside before it lets a request through to an app, and settles
//! it when the answer is there. The front lets nobody in here without its proof. A hold needs the token
//! of whoever asks, too; its end does not, since that may be over by then.

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::HeaderMap,
    routing::post,
};
use shared::{
    api::{Capture, Held, OpenHold, PRICED_HOLDS, Price, Spent, Void},
    ids::{TransactionId, UserId},
};

use crate::{app::App, apps, door::Body, error::Error as Failure, rim, sessions::Bearer};

use super::{By, Error, Operation, Order, holds::put_aside, routes::answer};

/// The calls of the edges about holds.
pub fn router() -> Router<App> {
    Router::new()
        .route(PRICED_HOLDS, post(open))
        .route(&format!("{PRICED_HOLDS}/{{hold}}/capture"), post(capture))
        .route(&format!("{PRICED_HOLDS}/{{hold}}/void"), post(void))
}

async fn open(
    State(app): State<App>,
    Bearer(claims): Bearer,
    Body(order): Body<OpenHold>,
) -> Result<(HeaderMap, Json<Held>), Failure> {
    if order.charge.idempotency_key.is_none() {
        return Err(Error::NoKey.into());
    }
    let by = By::Edge(Some(claims.sid));
    put_aside(&app, claims.sub, by, order).await
}

async fn capture(
    State(app): State<App>,
    hold: Result<Path<TransactionId>, PathRejection>,
    Body(body): Body<Capture>,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    let Path(hold) = hold?;
    let amount = body.amount.map(Price::credits);
    settle(&app, body.user_id, Order::Capture { hold, amount }).await
}

async fn void(
    State(app): State<App>,
    hold: Result<Path<TransactionId>, PathRejection>,
    Body(body): Body<Void>,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    let Path(hold) = hold?;
    settle(&app, body.user_id, Order::Void { hold }).await
}

async fn settle(
    app: &App,
    user: Option<UserId>,
    order: Order,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    let user = user.ok_or(apps::Error::NoUser)?;
    let operation = Operation::new(rim::new_id(), user, By::Edge(None), order);
    Ok(answer(app.ledger.post(operation).await?))
}
