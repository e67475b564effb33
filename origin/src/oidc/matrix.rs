//! Whose a Matrix id is, for bots that serve people there. The id is made from `sub`, which nobody chooses
//! and nobody else has; the Matrix server makes it in the same way (`localpart_template` of Synapse). It is
//! linked when the server's userinfo call succeeds, and never moves from one account to another.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use shared::api::{Done, MatrixCheck, MatrixLinks, MatrixSession};
use uuid::Uuid;

use crate::{
    app::App,
    apps::{AppCaller, Permission},
    error::Error as Failure,
    front::Client,
    sessions::{self, Caller},
};

use super::{
    error::Refused,
    store::{self, Holder},
};

/// A client has asked who somebody is. Where it is a Matrix server, their id there is theirs from now on.
pub async fn meet(app: &App, grant: Uuid, holder: &Holder) -> Result<(), Refused> {
    let Some(server) = &holder.matrix_server else {
        return Ok(());
    };
    let mxid = format!("@{}:{server}", holder.user_id);
    if !store::link_matrix(app.db.pool(), grant, &mxid).await? {
        tracing::warn!(mxid, "a Matrix id is somebody else's already");
    }
    Ok(())
}

/// `GET /auth/matrix-user-links`.
#[utoipa::path(
    get,
    path = "/api/v1/auth/matrix-user-links",
    tag = "Matrix",
    summary = "The caller's Matrix ids",
    description = "",
    security(("token" = [])),
    responses((status = 200, body = MatrixLinks))
)]
pub async fn links(State(app): State<App>, caller: Caller) -> Result<Json<MatrixLinks>, Failure> {
    let mut transaction = app.db.as_user(caller.user).await?;
    let links = store::matrix_links(&mut transaction).await?;
    Ok(Json(MatrixLinks { links }))
}

/// `DELETE /auth/matrix-user-links/{mxid}`.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/matrix-user-links/{mxid}",
    tag = "Matrix",
    summary = "Forgets a Matrix id",
    description = "",
    security(("token" = [])),
    params(
        ("mxid" = String, Path, description = "`@localpart:server`", pattern = "^@[^:/]+:[^/]+$", max_length = 255),
    ),
    responses(
        (status = 200, body = Done),
        (status = 404, description = "NOT_FOUND"),
    )
)]
pub async fn forget(
    State(app): State<App>,
    caller: Caller,
    client: Client,
    mxid: Result<Path<String>, PathRejection>,
) -> Result<Json<Done>, Failure> {
    if !unlink(&app, caller, &text(mxid)?, &client).await? {
        return Err(Failure::NotFound);
    }
    Ok(Json(Done {
        success: true,
        message: "The Matrix id is linked no more",
    }))
}

/// Forgets one of somebody's Matrix ids; says whether it was theirs.
pub async fn unlink(
    app: &App,
    caller: Caller,
    mxid: &str,
    client: &Client,
) -> Result<bool, Failure> {
    let (user, session) = (caller.user, Some(caller.session));
    let mut transaction = app.db.writing_as(user).await?;
    if !store::unlink_matrix(&mut transaction, mxid).await? {
        return Ok(false);
    }
    sessions::record(&mut transaction, user, session, "matrix_unlinked", client).await?;
    transaction.commit().await?;
    Ok(true)
}

/// `GET /auth/matrix-session/{mxid}`: whose a Matrix id is.
#[utoipa::path(
    get,
    path = "/api/v1/auth/matrix-session/{mxid}",
    tag = "Matrix",
    summary = "Whose a Matrix id is",
    description = "Needs the permission `matrix`.",
    security(("serviceKey" = [])),
    params(
        ("mxid" = String, Path, description = "`@localpart:server`", pattern = "^@[^:/]+:[^/]+$", max_length = 255),
    ),
    responses(
        (status = 200, body = MatrixSession),
        (status = 404, description = "NOT_FOUND"),
    )
)]
pub async fn session(
    State(app): State<App>,
    bot: AppCaller,
    mxid: Result<Path<String>, PathRejection>,
) -> Result<Json<MatrixSession>, Failure> {
    bot.may(Permission::Matrix)?;
    let holder = store::matrix_holder(app.db.pool(), &text(mxid)?).await?;
    holder.map(Json).ok_or(Failure::NotFound)
}

/// `GET /auth/matrix-session/check/{mxid}`: whether it is somebody's.
#[utoipa::path(
    get,
    path = "/api/v1/auth/matrix-session/check/{mxid}",
    tag = "Matrix",
    summary = "Whether a Matrix id is somebody's",
    description = "Needs the permission `matrix`.",
    security(("serviceKey" = [])),
    params(
        ("mxid" = String, Path, description = "`@localpart:server`", pattern = "^@[^:/]+:[^/]+$", max_length = 255),
    ),
    responses((status = 200, body = MatrixCheck))
)]
pub async fn check(
    State(app): State<App>,
    bot: AppCaller,
    mxid: Result<Path<String>, PathRejection>,
) -> Result<Json<MatrixCheck>, Failure> {
    bot.may(Permission::Matrix)?;
    let holder = store::matrix_holder(app.db.pool(), &text(mxid)?).await?;
    let linked = holder.is_some();
    Ok(Json(MatrixCheck { linked }))
}

fn text(mxid: Result<Path<String>, PathRejection>) -> Result<String, Failure> {
    let Path(mxid) = mxid?;
    Some(mxid)
        .filter(|mxid| !mxid.contains('\0'))
        .ok_or(Failure::NotFound)
}
