//! What a browser's cookie is good for: asking who is signed in, and getting tokens for the app whose
//! page asks. The cookie names a session; an app gets tokens of one of its own below that, which ends
//! with it and does what a user may, whoever it is.
//!
//! An app has one such session in a browser, and whoever asks again gets the refresh token that is the
//! latest one of it: tabs share it as they share their storage, and those that refresh at once converge,
//! as everywhere. One that is answered with another session would end the tokens of the tab beside it. A
//! tab that keeps its tokens to itself, and comes too late with an old one, ends the app's session and no
//! other; each tab then asks again. Refresh tokens are made from the session that they are of, so that no
//! app gets one of another's or of the browser's own.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, header},
};
use shared::{
    api::{CurrentSession, Nothing, SignedIn},
    ids::{SessionId, UserId},
};

use crate::{
    accounts, app::App, apps, door::Body, error::Error as Failure, forgery, front::Client, rim,
};

use super::{Error, Visitor, cookie, routes, store, tokens};

/// Another person may sign in in the same browser.
type NotKept = [(HeaderName, &'static str); 1];
const NOT_KEPT: NotKept = [(header::CACHE_CONTROL, "no-store")];

/// The live session that the browser's cookie names, and whose it is.
async fn signed_in(app: &App, headers: &HeaderMap) -> sqlx::Result<Option<(SessionId, UserId)>> {
    match cookie::shown(&app.config, headers) {
        Some(hash) => store::of_cookie(app.db.pool(), &hash).await,
        None => Ok(None),
    }
}

/// Who is signed in in this browser, for the pages that it shows.
pub async fn visitor(app: &App, headers: &HeaderMap) -> sqlx::Result<Option<Visitor>> {
    let Some((session, user)) = signed_in(app, headers).await? else {
        return Ok(None);
    };
    let mut transaction = app.db.as_user(user).await?;
    let visitor = store::visitor(&mut transaction, session).await?;
    transaction.commit().await?;
    Ok(visitor)
}

/// `POST /auth/session-to-token`: tokens for the app whose page asks.
#[utoipa::path(
    post,
    path = "/api/v1/auth/session-to-token",
    tag = "Sessions",
    summary = "Tokens for the app whose page asks",
    description = "The app is known by `Origin`. It gets a session of its own below the browser's, with which it ends.",
    security(("cookie" = [])),
    responses(
        (status = 200, body = SignedIn),
        (status = 401, description = "UNAUTHENTICATED"),
        (status = 403, description = "FOREIGN_PAGE, ACCOUNT_DISABLED"),
    )
)]
pub async fn tokens_for_app(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    Body(Nothing): Body<Nothing>,
) -> Result<(NotKept, Json<SignedIn>), Failure> {
    let id = match forgery::origin(&headers) {
        Some(origin) => apps::of_origin(app.db.pool(), origin).await?,
        None => None,
    };
    let id = id.ok_or(Failure::ForeignPage)?;
    let (parent, user) = signed_in(&app, &headers).await?.ok_or(Error::NotSignedIn)?;
    let mut transaction = app.db.writing_as(user).await?;
    let new = (rim::new_id(), *rim::random::<16>());
    let family = store::open_below(&mut transaction, parent, &id, new, &client)
        .await?
        .ok_or(Error::NotSignedIn)?;
    let user = accounts::own(&mut transaction).await?;
    let tokens = tokens(&app, user, &family)?;
    transaction.commit().await?;
    Ok((NOT_KEPT, Json(tokens)))
}

/// `GET /api/auth/get-session`: who is signed in in this browser, or `null`.
#[utoipa::path(
    get,
    path = "/api/auth/get-session",
    tag = "Sessions",
    summary = "Who is signed in in this browser, or null",
    description = "",
    security((), ("cookie" = [])),
    responses((status = 200, body = Option<CurrentSession>))
)]
pub async fn session(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<(NotKept, Json<Option<CurrentSession>>), Failure> {
    let current = match signed_in(&app, &headers).await? {
        Some((session, user)) => routes::current(&app, user, session).await?,
        None => None,
    };
    Ok((NOT_KEPT, Json(current)))
}
