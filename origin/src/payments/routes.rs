//! Buying credits, and hearing from Stripe how that went.

use axum::{
    Json, Router,
    body::Body as RawBody,
    extract::State,
    http::HeaderMap,
    routing::{get, post},
};
use shared::{
    api::{Bought, Checkout, Done, Link, Package, Purchase, Refusal},
    ids::PurchaseId,
    problem::FieldError,
};

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
pub fn router() -> Router<App> {
    Router::new()
        .route("/api/v1/credits/packages", get(packages))
        .route("/api/v1/credits/purchases", get(purchases).post(purchase))
}

/// The call of Stripe, which signs it.
pub fn webhook() -> Router<App> {
    Router::new().route("/api/v1/webhooks/stripe", post(hear))
}

async fn packages(State(app): State<App>) -> Result<Json<Vec<Package>>, Failure> {
    Ok(Json(store::packages(app.db.pool()).await?))
}

async fn purchases(State(app): State<App>, caller: Caller) -> Result<Json<Vec<Bought>>, Failure> {
    let mut transaction = app.db.as_user(caller.user).await?;
    Ok(Json(store::purchases(&mut transaction).await?))
}

async fn purchase(
    State(app): State<App>,
    caller: Caller,
    Body(wish): Body<Purchase>,
) -> Result<Json<Checkout>, Failure> {
    let stripe = app.stripe.as_ref().ok_or(Error::NotConfigured)?;
    check_links(&app, &wish).await?;
    let (db, id) = (app.db.pool(), rim::new_id::<PurchaseId>());
    let begun = store::begin(db, caller.user, id, &wish.package_id).await?;
    let home = app.config.public_url.as_str();
    let order = Order {
        id,
        user: caller.user,
        name: format!("{} credits", begun.credits),
        price_cents: begun.price_cents,
        currency: &begun.currency,
        success_url: wish.success_url.as_ref().map_or(home, Link::as_str),
        cancel_url: wish.cancel_url.as_ref().map_or(home, Link::as_str),
    };
    match stripe.open_page(&order).await {
        Ok(page) => {
            store::open_checkout(db, caller.user, id, Some(&page.id))
                .await
                .map_err(Error::from)?;
            Ok(Json(Checkout {
                purchase_id: id,
                checkout_url: page.url,
            }))
        }
        Err(why) => {
            store::open_checkout(db, caller.user, id, None)
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
