//! Holds: credits put aside for a charge, and charged or returned afterwards, by whoever opened
//! them and by nobody else.

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::HeaderMap,
};
use chrono::TimeDelta;
use serde::Deserialize;
use shared::{
    api::{Capture, Held, Hold, IdempotencyKey, OpenHold, Spent, Void},
    credits::Credits,
    ids::{TransactionId, UserId},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, door::Body, error::Error as Failure, rim, sessions};

use super::{
    By, Error, Operation, Order, ledger,
    routes::{Charger, answer, one_key, replay_header},
};

/// The calls about holds.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(open))
        .routes(routes!(look))
        .routes(routes!(capture))
        .routes(routes!(void))
}

#[utoipa::path(
    post,
    path = "/api/v1/credits/holds",
    tag = "Credits",
    summary = "Puts credits aside for a charge under way",
    description = "Needs an idempotency key, as a field or as the header. Captured or voided by whoever opened it; otherwise it ends by itself after `expiresIn` seconds, 300 by default, and nothing is charged.",
    security(("token" = []), ("serviceKey" = [])),
    params(
        ("Idempotency-Key" = Option<IdempotencyKey>, Header, description = "In place of the field `idempotencyKey`; where both are there, they must be the same"),
    ),
    request_body = OpenHold,
    responses(
        (status = 200, body = Held, headers(("Idempotency-Replayed" = String, description = "`true` where it was done before, under the same key"))),
        (status = 402, description = "INSUFFICIENT_CREDITS"),
        (status = 404, description = "NOT_FOUND"),
        (status = 422, description = "IDEMPOTENCY_MISMATCH"),
        (status = 503, description = "DATABASE_UNAVAILABLE, OUTCOME_UNKNOWN, OVERLOADED"),
    )
)]
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

#[utoipa::path(
    get,
    path = "/api/v1/credits/holds/{hold}",
    tag = "Credits",
    summary = "A hold, as it is now",
    security(("token" = []), ("serviceKey" = [])),
    params(
        ("hold" = TransactionId, Path, description = "Which"),
        ("userId" = Option<UserId>, Query, description = "Whose, where a service key asks"),
    ),
    responses(
        (status = 200, body = Hold),
        (status = 404, description = "NOT_FOUND"),
    )
)]
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

#[utoipa::path(
    post,
    path = "/api/v1/credits/holds/{hold}/capture",
    tag = "Credits",
    summary = "Charges a hold, or a part of it",
    description = "The rest goes back. A service key names whose in `userId`. Repeating it answers the same.",
    security(("token" = []), ("serviceKey" = [])),
    params(
        ("hold" = TransactionId, Path, description = "Which"),
    ),
    request_body = Option<Capture>,
    responses(
        (status = 200, body = Spent, headers(("Idempotency-Replayed" = String, description = "`true` where it was done before, under the same key"))),
        (status = 404, description = "NOT_FOUND"),
        (status = 409, description = "HOLD_SETTLED, HOLD_EXPIRED"),
        (status = 422, description = "HOLD_EXCEEDED"),
        (status = 503, description = "DATABASE_UNAVAILABLE, OUTCOME_UNKNOWN, OVERLOADED"),
    )
)]
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

#[utoipa::path(
    post,
    path = "/api/v1/credits/holds/{hold}/void",
    tag = "Credits",
    summary = "Gives a hold back",
    description = "A service key names whose in `userId`. Repeating it answers the same.",
    security(("token" = []), ("serviceKey" = [])),
    params(
        ("hold" = TransactionId, Path, description = "Which"),
    ),
    request_body = Option<Void>,
    responses(
        (status = 200, body = Spent, headers(("Idempotency-Replayed" = String, description = "`true` where it was done before, under the same key"))),
        (status = 404, description = "NOT_FOUND"),
        (status = 409, description = "HOLD_SETTLED, HOLD_EXPIRED"),
        (status = 503, description = "DATABASE_UNAVAILABLE, OUTCOME_UNKNOWN, OVERLOADED"),
    )
)]
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
