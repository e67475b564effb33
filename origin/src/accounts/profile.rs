//! What people say of themselves.

use axum::{Json, extract::State};
use shared::api::{ChangeProfile, Profile};

use crate::{
    app::App,
    door::Body,
    error::Error as Failure,
    front::Client,
    sessions::{self, Caller},
};

use super::store;

#[utoipa::path(
    get,
    path = "/api/v1/auth/profile",
    tag = "Account",
    summary = "What somebody says of themselves",
    security(("token" = [])),
    responses((status = 200, body = Profile))
)]
pub async fn show(State(app): State<App>, caller: Caller) -> Result<Json<Profile>, Failure> {
    let mut transaction = app.db.as_user(caller.user).await?;
    Ok(Json(store::profile(&mut transaction, caller.role).await?))
}

#[utoipa::path(
    patch,
    path = "/api/v1/auth/profile",
    tag = "Account",
    summary = "Changes what somebody says of themselves",
    description = "What is absent stays, and null takes it away.",
    security(("token" = [])),
    request_body = ChangeProfile,
    responses((status = 200, body = Profile))
)]
pub async fn patch(
    State(app): State<App>,
    caller: Caller,
    client: Client,
    Body(body): Body<ChangeProfile>,
) -> Result<Json<Profile>, Failure> {
    Ok(Json(change(&app, caller, &body, &client).await?))
}

/// Changes what somebody says of themselves.
pub async fn change(
    app: &App,
    caller: Caller,
    body: &ChangeProfile,
    client: &Client,
) -> Result<Profile, Failure> {
    let mut transaction = app.db.writing_as(caller.user).await?;
    store::change_profile(&mut transaction, body).await?;
    let session = Some(caller.session);
    sessions::record(
        &mut transaction,
        caller.user,
        session,
        "profile_changed",
        client,
    )
    .await?;
    let profile = store::profile(&mut transaction, caller.role).await?;
    transaction.commit().await?;
    Ok(profile)
}
