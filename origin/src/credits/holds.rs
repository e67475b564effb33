//! Holds: credits put aside for a charge, and charged or returned afterwards, by whoever opened
//! them and by nobody else.

use axum::{
    Json, Router,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::HeaderMap,
    routing::{get, post},
};
use chrono::TimeDelta;
use serde::Deserialize;
use shared::{
    api::{Capture, Held, Hold, OpenHold, Spent, Void},
    credits::Credits,
    ids::{TransactionId, UserId},
};

use crate::{app::App, door::Body, error::Error as Failure, rim, sessions};

use super::{
    By, Error, Operation, Order, ledger,
    routes::{Charger, answer, one_key, replay_header},
};

/// The calls about holds.
pub fn router() -> Router<App> {
    Router::new()
        .route("/api/v1/credits/holds", post(open))
        .route("/api/v1/credits/holds/{hold}", get(look))
        .route("/api/v1/credits/holds/{hold}/capture", post(capture))
        .route("/api/v1/credits/holds/{hold}/void", post(void))
}

async fn open(
    State(app): State<App>,
    charger: Charger,
    headers: HeaderMap,
    Body(mut order): Body<OpenHold>,
) -> Result<(HeaderMap, Json<Held>), Failure> {
    let charge = &mut order.charge;
    charge.idempotency_key = one_key(&headers, charge.idempotency_key.take())?;
    if charge.idempotency_key.is_none() {
        return Err(Error::NoKey.into());
    }
    charger.charges_for(&charge.app_id)?;
    let (user, by) = charger.wallet(charge.user_id)?;
    put_aside(&app, user, by, order).await
}

/// Opens a hold.
pub async fn put_aside(
    app: &App,
    user: UserId,
    by: By,
    order: OpenHold,
) -> Result<(HeaderMap, Json<Held>), Failure> {
    let lifetime = TimeDelta::seconds(order.expires_in.secs().into());
    let operation = Operation::new(rim::new_id(), user, by, Order::Hold(order));
    let posted = app.ledger.post(operation).await?;
    let opened = posted.transaction;
    let held = Held {
        success: true,
        new_balance: opened.balance_after,
        free_credits_remaining: opened.free_credits_after,
        hold: Hold {
            id: opened.id,
            // As it was opened: a repetition tells the same.
            status: "open".to_owned(),
            amount: opened.amount,
            captured: Credits::ZERO,
            app_id: opened.app_id.unwrap_or_default(),
            description: opened.description.unwrap_or_default(),
            expires_at: opened.created_at + lifetime,
            created_at: opened.created_at,
        },
    };
    Ok((replay_header(posted.replayed), Json(held)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whose {
    user_id: Option<UserId>,
}

async fn look(
    State(app): State<App>,
    charger: Charger,
    hold: Result<Path<TransactionId>, PathRejection>,
    whose: Result<Query<Whose>, QueryRejection>,
) -> Result<Json<Hold>, Failure> {
    let (Path(hold), Query(whose)) = (hold?, whose?);
    if let Charger::Person(claims) = &charger {
        sessions::check(&app, claims).await?;
    }
    let (user, by) = charger.wallet(whose.user_id)?;
    let mut transaction = app.db.as_user(user).await?;
    Ok(Json(
        ledger::hold(&mut transaction, hold, &by.opener()).await?,
    ))
}

async fn capture(
    State(app): State<App>,
    charger: Charger,
    hold: Result<Path<TransactionId>, PathRejection>,
    Body(body): Body<Capture>,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    let Path(hold) = hold?;
    let amount = body.amount.map(shared::api::Price::credits);
    settle(&app, charger, body.user_id, Order::Capture { hold, amount }).await
}

async fn void(
    State(app): State<App>,
    charger: Charger,
    hold: Result<Path<TransactionId>, PathRejection>,
    Body(body): Body<Void>,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    let Path(hold) = hold?;
    settle(&app, charger, body.user_id, Order::Void { hold }).await
}

async fn settle(
    app: &App,
    charger: Charger,
    named: Option<UserId>,
    order: Order,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    let (user, by) = charger.wallet(named)?;
    let operation = Operation::new(rim::new_id(), user, by, order);
    Ok(answer(app.ledger.post(operation).await?))
}
