//! Refreshing, looking at sessions, and ending them.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use shared::{
    api::{CurrentSession, Done, Refresh, Session, SignedIn, Validate, Validity},
    claims::Role,
    ids::{SessionId, UserId},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    accounts, app::App, door::Body, error::Error as Failure, front::Client, revocations, rim,
};

use super::{Caller, Error, Presented, bearer, browser, cookie, salts::Salt, store, tokens};

/// The calls about sessions.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(logout_all))
        .routes(routes!(validate))
        .routes(routes!(browser::tokens_for_app))
        .routes(routes!(browser::session))
        .routes(routes!(session))
        .routes(routes!(sessions))
        .routes(routes!(revoke_others))
        .routes(routes!(end_one))
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/refresh",
    tag = "Sessions",
    summary = "New tokens for a refresh token",
    description = "The answer has the refresh token to use from now on. For a few seconds the one before answers with the same; later it ends the session.",
    request_body = Refresh,
    responses(
        (status = 200, body = SignedIn),
        (status = 401, description = "INVALID_REFRESH_TOKEN"),
        (status = 403, description = "ACCOUNT_DISABLED"),
        (status = 503, description = "KEYS_UNAVAILABLE"),
    )
)]
async fn refresh(
    State(app): State<App>,
    client: Client,
    Body(body): Body<Refresh>,
) -> Result<(HeaderMap, Json<SignedIn>), Failure> {
    let (token, Salt { salt, .. }) = believe(&app, body.refresh_token.as_str()).await?;
    let verdict = app.refreshes.admit(token.session, rim::now()).await;
    if !verdict.decision.admitted {
        return Err(Error::TooOften(verdict).into());
    }
    let (user, family) = store::refresh(
        app.db.pool(),
        &token,
        salt,
        app.config.refresh_grace,
        &client,
    )
    .await?;
    Ok((verdict.headers(), Json(tokens(&app, user, &family)?)))
}

/// A refresh token whose MAC is good, with what that covers. Nothing was written.
async fn believe(app: &App, text: &str) -> Result<(Presented, Salt), Error> {
    let token = Presented::parse(text).ok_or(Error::BadRefreshToken)?;
    let kept = app.salts.find(token.session);
    let salt = match kept {
        Some(salt) => salt,
        None => store::salt(app.db.pool(), token.session)
            .await?
            .ok_or(Error::BadRefreshToken)?,
    };
    if !app.config.refresh_token_keys.made(&token, &salt.salt) {
        return Err(Error::BadRefreshToken);
    }
    if kept.is_none() {
        app.salts.keep(token.session, salt);
    }
    Ok((token, salt))
}

/// By access token, or by refresh token when that is all that is left.
#[utoipa::path(
    post,
    path = "/api/v1/auth/logout",
    tag = "Sessions",
    summary = "Ends the session",
    description = "By access token, or by refresh token when that is all that is left.",
    security((), ("token" = [])),
    request_body = Option<Refresh>,
    responses(
        (status = 200, body = Done),
        (status = 401, description = "UNAUTHENTICATED, INVALID_TOKEN, SESSION_REVOKED, INVALID_REFRESH_TOKEN"),
    )
)]
async fn logout(
    State(app): State<App>,
    client: Client,
    request: Request,
) -> Result<Response, Failure> {
    let (mut parts, body) = request.into_parts();
    let (user, session) = match Caller::from_request_parts(&mut parts, &app).await {
        Ok(caller) => (caller.user, caller.session),
        Err(denied) => {
            let shows_token = parts.headers.contains_key(header::AUTHORIZATION);
            match Body::<Refresh>::from_request(Request::from_parts(parts, body), &app).await {
                Ok(Body(body)) => {
                    let (token, salt) = believe(&app, body.refresh_token.as_str()).await?;
                    (salt.user, token.session)
                }
                Err(_) if shows_token => return Err(denied),
                Err(refused) => return Err(refused),
            }
        }
    };
    let cookie = sign_out(&app, user, session, &client).await?;
    let done = Json(Done {
        success: true,
        message: "Signed out",
    });
    let cookie = cookie.map(|cookie| (header::SET_COOKIE, cookie));
    Ok((AppendHeaders(cookie), done).into_response())
}

/// Ends somebody's own session. Gives the `Set-Cookie` that takes the browser's away, unless it was an
/// app's: who signs out of an app is still signed in here.
pub async fn sign_out(
    app: &App,
    user: UserId,
    session: SessionId,
    client: &Client,
) -> Result<Option<String>, Failure> {
    let mut transaction = app.db.writing_as(user).await?;
    let ended = store::revoke(&mut transaction, session).await?;
    if ended.as_ref().is_some_and(|ended| ended.was_live) {
        store::record(&mut transaction, user, Some(session), "sign_out", client).await?;
        revocations::append_ended(&mut transaction).await?;
    }
    transaction.commit().await?;
    let is_below = ended.is_some_and(|ended| ended.is_below);
    Ok((!is_below).then(|| cookie::clear(&app.config)))
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/logout-all",
    tag = "Sessions",
    summary = "Ends every session of the caller",
    security(("token" = [])),
    responses((status = 200, body = Done))
)]
async fn logout_all(
    State(app): State<App>,
    caller: Caller,
    client: Client,
) -> Result<impl IntoResponse, Failure> {
    let cookie = end_all(&app, caller, &client).await?;
    let done = Json(Done {
        success: true,
        message: "Signed out everywhere",
    });
    Ok(([(header::SET_COOKIE, cookie)], done))
}

/// Ends every session of somebody; gives the `Set-Cookie` that takes the browser's away.
pub async fn end_all(app: &App, caller: Caller, client: &Client) -> Result<String, Failure> {
    let mut transaction = app.db.writing_as(caller.user).await?;
    store::revoke_all(&mut transaction).await?;
    store::record(
        &mut transaction,
        caller.user,
        Some(caller.session),
        "sign_out_everywhere",
        client,
    )
    .await?;
    revocations::append_user(&mut transaction, caller.user).await?;
    transaction.commit().await?;
    Ok(cookie::clear(&app.config))
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/validate",
    tag = "Sessions",
    summary = "Whether an access token is good",
    description = "Answered at the edge, which asks nobody. Other services rather verify tokens by themselves, with the key set.",
    request_body = Validate,
    responses(
        (status = 200, body = Validity),
        (status = 503, description = "KEYS_UNAVAILABLE"),
    )
)]
async fn validate(
    State(app): State<App>,
    Body(body): Body<Validate>,
) -> Result<Json<Validity>, Failure> {
    let verdict = match bearer::verify(&app, body.token.as_str()) {
        Ok(claims) => bearer::check(&app, &claims).await.map(|_| claims),
        Err(error) => Err(error),
    };
    match verdict {
        Err(error @ (Error::BadToken(_) | Error::Ended | Error::Disabled)) => {
            Ok(Json(Err(error).into()))
        }
        verdict => Ok(Json(Ok::<_, Error>(&verdict?).into())),
    }
}

#[utoipa::path(
    get,
    path = "/api/v1/auth/session",
    tag = "Sessions",
    summary = "The session of the access token",
    security(("token" = [])),
    responses((status = 200, body = CurrentSession))
)]
async fn session(State(app): State<App>, caller: Caller) -> Result<Json<CurrentSession>, Failure> {
    let current = current(&app, caller.user, caller.session).await?;
    Ok(Json(current.ok_or(Error::Ended)?))
}

/// A live session and whose it is, as its owner sees it.
pub async fn current(
    app: &App,
    user: UserId,
    session: SessionId,
) -> sqlx::Result<Option<CurrentSession>> {
    let mut transaction = app.db.as_user(user).await?;
    let mut user = accounts::own(&mut transaction).await?;
    let sessions = store::list(&mut transaction, session).await?;
    let session = sessions.into_iter().find(|session| session.current);
    Ok(session.map(|session| {
        if session.app.is_some() {
            user.role = Role::User;
        }
        CurrentSession { user, session }
    }))
}

#[utoipa::path(
    get,
    path = "/api/v1/auth/sessions",
    tag = "Sessions",
    summary = "Every device that is signed in",
    security(("token" = [])),
    responses((status = 200, body = Vec<Session>))
)]
async fn sessions(State(app): State<App>, caller: Caller) -> Result<Json<Vec<Session>>, Failure> {
    let mut transaction = app.db.as_user(caller.user).await?;
    Ok(Json(store::list(&mut transaction, caller.session).await?))
}

#[utoipa::path(
    delete,
    path = "/api/v1/auth/sessions/{id}",
    tag = "Sessions",
    summary = "Ends one session",
    security(("token" = [])),
    params(
        ("id" = SessionId, Path, description = "Which"),
    ),
    responses(
        (status = 200, body = Done),
        (status = 404, description = "NOT_FOUND"),
    )
)]
async fn end_one(
    State(app): State<App>,
    caller: Caller,
    client: Client,
    id: Result<Path<SessionId>, PathRejection>,
) -> Result<Json<Done>, Failure> {
    let Path(id) = id?;
    end(&app, caller, id, &client).await?;
    Ok(Json(Done {
        success: true,
        message: "The session has ended",
    }))
}

/// Ends one of somebody's sessions.
pub async fn end(app: &App, caller: Caller, id: SessionId, client: &Client) -> Result<(), Failure> {
    let mut transaction = app.db.writing_as(caller.user).await?;
    let ended = store::revoke(&mut transaction, id).await?;
    if !ended.is_some_and(|ended| ended.was_live) {
        return Err(Error::NoSuchSession.into());
    }
    store::record(
        &mut transaction,
        caller.user,
        Some(id),
        "session_ended",
        client,
    )
    .await?;
    revocations::append_ended(&mut transaction).await?;
    transaction.commit().await?;
    Ok(())
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/sessions/revoke-others",
    tag = "Sessions",
    summary = "Ends every session but this one",
    security(("token" = [])),
    responses((status = 200, body = Done))
)]
async fn revoke_others(
    State(app): State<App>,
    caller: Caller,
    client: Client,
) -> Result<Json<Done>, Failure> {
    end_others(&app, caller, &client).await?;
    Ok(Json(Done {
        success: true,
        message: "The other sessions have ended",
    }))
}

/// Ends every session of somebody but this one.
pub async fn end_others(app: &App, caller: Caller, client: &Client) -> Result<(), Failure> {
    let mut transaction = app.db.writing_as(caller.user).await?;
    store::revoke_others(&mut transaction, caller.session).await?;
    store::record(
        &mut transaction,
        caller.user,
        Some(caller.session),
        "other_sessions_ended",
        client,
    )
    .await?;
    // One row, however many there were; this session refreshes its tokens.
    revocations::append_user(&mut transaction, caller.user).await?;
    transaction.commit().await?;
    Ok(())
}
