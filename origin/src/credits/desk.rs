//! Grants and refunds: what admins do for people, and apps for theirs. Each happens once for
//! its reference.

use axum::{
    Json, Router,
    extract::{FromRequestParts, State},
    http::{HeaderMap, request::Parts},
    routing::post,
};
use shared::{
    api::{Grant, Refund, Spent},
    claims::Role,
};

use crate::{
    app::App,
    apps::{AppCaller, Permission},
    door::Body,
    error::Error as Failure,
    sessions::{self, Caller},
};

use super::routes::answer;

/// The calls of the desk.
pub fn router() -> Router<App> {
    Router::new()
        .route("/api/v1/credits/grants", post(grant))
        .route("/api/v1/credits/refunds", post(refund))
}

/// Who stands at the desk.
enum Clerk {
    /// May everything.
    Admin,
    /// An app, for its own people and charges.
    App(AppCaller),
}

impl FromRequestParts<App> for Clerk {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        if let Some(caller) = AppCaller::of(parts, app).await? {
            return Ok(Self::App(caller));
        }
        let caller = Caller::from_request_parts(parts, app).await?;
        if caller.role != Role::Admin {
            return Err(sessions::Error::NotPermitted.into());
        }
        Ok(Self::Admin)
    }
}

impl Clerk {
    /// The app that it is, if it may; an admin may everything.
    fn app(&self, permission: Permission) -> Result<Option<&str>, Failure> {
        match self {
            Self::Admin => Ok(None),
            Self::App(app) => {
                app.may(permission)?;
                Ok(Some(app.id.as_str()))
            }
        }
    }
}

async fn grant(
    State(app): State<App>,
    clerk: Clerk,
    Body(body): Body<Grant>,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    let own = clerk.app(Permission::Grant)?;
    Ok(answer(app.ledger.grant(&body, own).await?))
}

async fn refund(
    State(app): State<App>,
    clerk: Clerk,
    Body(body): Body<Refund>,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    let own = clerk.app(Permission::Refund)?;
    Ok(answer(app.ledger.refund(&body, own).await?))
}
