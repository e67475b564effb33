//! Grants and refunds: what admins do for people, and apps for theirs. Each happens once for
//! its reference.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, request::Parts},
};
use shared::{
    api::{Grant, Refund, Spent},
    claims::Role,
    ids::UserId,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    apps::{AppCaller, Permission},
    door::Body,
    error::Error as Failure,
    front::Client,
    sessions::{self, Caller},
};

use super::{Clerk, routes::answer};

/// The calls of the desk.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(grant))
        .routes(routes!(refund))
}

/// Who stands at the desk.
enum Standing {
    /// May everything.
    Admin(UserId, Client),
    /// An app, for its own people and charges.
    App(AppCaller),
}

impl FromRequestParts<App> for Standing {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        if let Some(caller) = AppCaller::of(parts, app).await? {
            return Ok(Self::App(caller));
        }
        let caller = Caller::from_request_parts(parts, app).await?;
        if caller.role != Role::Admin {
            return Err(sessions::Error::NotPermitted.into());
        }
        let client = Client::from_request_parts(parts, app).await?;
        Ok(Self::Admin(caller.user, client))
    }
}

impl Standing {
    /// As the ledger knows them, if they may; an admin may everything.
    fn clerk(&self, permission: Permission) -> Result<Clerk<'_>, Failure> {
        match self {
            Self::Admin(admin, client) => Ok(Clerk::Admin(*admin, client)),
            Self::App(app) => {
                app.may(permission)?;
                Ok(Clerk::App(app.id.as_str()))
            }
        }
    }
}

#[utoipa::path(
    post,
    path = "/api/v1/credits/grants",
    tag = "Credits",
    summary = "Gives credits",
    description = "By an admin, or a service key with the permission `grant` up to its daily cap. It happens once for a `referenceId`. `kind` is `free` by default.",
    security(("token" = []), ("serviceKey" = [])),
    request_body = Grant,
    responses(
        (status = 200, body = Spent, headers(("Idempotency-Replayed" = String, description = "`true` where it was done before, under the same key"))),
        (status = 403, description = "GRANT_CAP_REACHED"),
        (status = 404, description = "NOT_FOUND"),
        (status = 422, description = "IDEMPOTENCY_MISMATCH"),
    )
)]
async fn grant(
    State(app): State<App>,
    standing: Standing,
    Body(body): Body<Grant>,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    let clerk = standing.clerk(Permission::Grant)?;
    Ok(answer(app.ledger.grant(&body, clerk).await?))
}

#[utoipa::path(
    post,
    path = "/api/v1/credits/refunds",
    tag = "Credits",
    summary = "Gives a charge back, or a part of it",
    description = "By an admin, or a service key with the permission `refund` for charges of its app. It happens once for a `referenceId`.",
    security(("token" = []), ("serviceKey" = [])),
    request_body = Refund,
    responses(
        (status = 200, body = Spent, headers(("Idempotency-Replayed" = String, description = "`true` where it was done before, under the same key"))),
        (status = 404, description = "NOT_FOUND"),
        (status = 422, description = "IDEMPOTENCY_MISMATCH, REFUND_EXCEEDS_CHARGE"),
    )
)]
async fn refund(
    State(app): State<App>,
    standing: Standing,
    Body(body): Body<Refund>,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    let clerk = standing.clerk(Permission::Refund)?;
    Ok(answer(app.ledger.refund(&body, clerk).await?))
}
