//! Buying credits, and hearing from Stripe how that went.

use axum::{Json, body::Body as RawBody, extract::State, http::HeaderMap};
use metrics::counter;
use shared::{
    api::{Bought, Checkout, Done, Link, Package, Purchase, Refusal},
    ids::{PurchaseId, UserId},
    problem::FieldError,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    apps,
    door::{self, Body},
    error::Error as Failure,
    rim,
    sessions::Caller,
};

use super::{
    Error, store,
    stripe::Order,
    webhook::{self, News, Unconcerned},
};

/// The calls about purchases.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(packages))
        .routes(routes!(purchases, purchase))
}

/// The call of Stripe, which signs it.
pub fn webhook() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(hear))
}

#[utoipa::path(
    get,
    path = "/api/v1/credits/packages",
    tag = "Purchases",
    summary = "What can be bought",
    responses((status = 200, body = Vec<Package>))
)]
async fn packages(State(app): State<App>) -> Result<Json<Vec<Package>>, Failure> {
    Ok(Json(store::packages(app.db.pool()).await?))
}

#[utoipa::path(
    get,
    path = "/api/v1/credits/purchases",
    tag = "Purchases",
    summary = "What the caller has bought",
    security(("token" = [])),
    responses((status = 200, body = Vec<Bought>))
)]
async fn purchases(State(app): State<App>, caller: Caller) -> Result<Json<Vec<Bought>>, Failure> {
    let mut transaction = app.db.as_user(caller.user).await?;
    Ok(Json(store::purchases(&mut transaction).await?))
}

#[utoipa::path(
    post,
    path = "/api/v1/credits/purchases",
    tag = "Purchases",
    summary = "Begins a purchase",
    description = "Which is paid on the page of `checkoutUrl`. The credits are there once Stripe has told us.",
    security(("token" = [])),
    request_body = Purchase,
    responses(
        (status = 200, body = Checkout),
        (status = 404, description = "NOT_FOUND"),
        (status = 502, description = "PAYMENT_PROVIDER_FAILED"),
        (status = 503, description = "PAYMENTS_NOT_CONFIGURED"),
    )
)]
async fn purchase(
    State(app): State<App>,
    caller: Caller,
    Body(wish): Body<Purchase>,
) -> Result<Json<Checkout>, Failure> {
    Ok(Json(buy(&app, caller.user, &wish).await?))
}

/// What can be bought here, by whoever comes to a page of ours.
pub async fn offered(app: &App) -> Result<Vec<Package>, Failure> {
    match app.stripe {
        Some(_) => Ok(store::packages(app.db.pool()).await?),
        None => Ok(Vec::new()),
    }
}

/// Begins a purchase of somebody's, which they pay on a page of Stripe's.
pub async fn buy(app: &App, user: UserId, wish: &Purchase) -> Result<Checkout, Failure> {
    let stripe = app.stripe.as_ref().ok_or(Error::NotConfigured)?;
    check_links(app, wish).await?;
    let (db, id) = (app.db.pool(), rim::new_id::<PurchaseId>());
    let begun = store::begin(db, user, id, &wish.package_id).await?;
    let home = app.config.public_url.as_str();
    let order = Order {
        id,
        user,
        name: format!("{} credits", begun.credits),
        price_cents: begun.price_cents,
        currency: &begun.currency,
        success_url: wish.success_url.as_ref().map_or(home, Link::as_str),
        cancel_url: wish.cancel_url.as_ref().map_or(home, Link::as_str),
    };
    match stripe.open_page(&order).await {
        Ok(page) => {
            store::open_checkout(db, user, id, Some(&page.id))
                .await
                .map_err(Error::from)?;
            Ok(Checkout {
                purchase_id: id,
                checkout_url: page.url,
            })
        }
        Err(why) => {
            store::open_checkout(db, user, id, None)
                .await
                .map_err(Error::from)?;
            Err(Error::from(why).into())
        }
    }
}

/// Nobody is led from a page where they paid to one that we do not know.
async fn check_links(app: &App, wish: &Purchase) -> Result<(), Failure> {
    let mut errors = Vec::new();
    for (link, pointer) in [
        (&wish.success_url, "/successUrl"),
        (&wish.cancel_url, "/cancelUrl"),
    ] {
        let Some(link) = link else { continue };
        if apps::page(app, link.as_str()).await?.is_none() {
            errors.push(FieldError {
                pointer: pointer.to_owned(),
                detail: apps::NO_PAGE.to_owned(),
            });
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Invalid(errors).into())
    }
}

/// Stripe delivers an event until it is told 200, which it is once the event is written down.
#[utoipa::path(
    post,
    path = "/api/v1/webhooks/stripe",
    tag = "Purchases",
    summary = "Where Stripe tells of payments",
    description = "In any order, any number of times. 200 once it is written down.",
    params(
        ("Stripe-Signature" = String, Header, description = "`t=…,v1=…`, as Stripe signs"),
    ),
    request_body(content = HashMap<String, serde_json::Value>, content_type = "application/json"),
    responses(
        (status = 200, body = Done),
        (status = 400, description = "WEBHOOK_SIGNATURE_INVALID, INVALID_REQUEST"),
        (status = 413, description = "BODY_TOO_LARGE"),
        (status = 503, description = "PAYMENTS_NOT_CONFIGURED"),
    )
)]
async fn hear(
    State(app): State<App>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Json<Done>, Failure> {
    let (Some(stripe), Some(secrets)) = (&app.stripe, &app.config.stripe.stripe_webhook_secret)
    else {
        return Err(Error::NotConfigured.into());
    };
    let body = door::read(body, app.config.max_body_bytes).await?;
    let signature = headers
        .get("stripe-signature")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    secrets
        .check(signature, &body, rim::now())
        .map_err(Error::from)?;

    let event = webhook::read(&body, stripe.is_live()).map_err(Error::from)?;
    let outcome = store::hear(app.db.pool(), &event)
        .await
        .map_err(Error::from)?;
    counter!("tollgate_webhooks_total", "outcome" => outcome.clone()).increment(1);
    let is_odd = matches!(
        event.news,
        News::Nothing(Unconcerned::AnotherMode | Unconcerned::UnknownStatus)
    ) || ["unknown_purchase", "mismatch"].contains(&outcome.as_str());
    if is_odd {
        tracing::warn!(
            event = event.id,
            r#type = event.r#type,
            outcome,
            "Stripe told of something odd"
        );
    } else {
        tracing::info!(
            event = event.id,
            r#type = event.r#type,
            outcome,
            "heard from Stripe"
        );
    }
    Ok(Json(Done {
        success: true,
        message: "Recorded",
    }))
}
