//! Leaving: whoever has signed in just now, and knows the password where there is one, may delete the
//! account. The words of the wallet's transactions go behind that, since there may be any number.

use std::time::Duration;

use axum::{Json, extract::State, http::header, response::IntoResponse};
use shared::api::{Done, Leave};

use crate::{
    app::App,
    db,
    door::Body,
    error::Error as Failure,
    front::Client,
    sessions::{Caller, Recent, cookie},
};

use super::{Error, recovery::prove_password, store};

/// How many transactions one statement clears: it holds the wallet's lock that long.
const CLEARED_AT_ONCE: i32 = 2_000;

/// Clears the words of those who have left, for ever.
pub async fn clear_words(app: App) {
    let mut ticks = tokio::time::interval(Duration::from_secs(30));
    loop {
        ticks.tick().await;
        let mut is_more = true;
        while is_more {
            is_more = match db::turn(store::clear_words(app.db.pool(), CLEARED_AT_ONCE)).await {
                Ok(is_more) => is_more,
                Err(error) => {
                    tracing::warn!(%error, "words of who has left stay until the next sweep");
                    false
                }
            };
        }
    }
}

/// `DELETE /auth/account`. What is personal goes; the ledger stays, without a name.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/account",
    tag = "Account",
    summary = "Deletes the account",
    description = "Needs a sign-in within the last ten minutes, and the password where there is one. Personal data goes; the ledger stays, without a name.",
    security(("token" = [])),
    request_body = Option<Leave>,
    responses(
        (status = 200, body = Done),
        (status = 401, description = "INVALID_CREDENTIALS"),
        (status = 403, description = "RECENT_SIGN_IN_REQUIRED"),
        (status = 503, description = "OVERLOADED"),
    )
)]
pub async fn delete(
    State(app): State<App>,
    Recent(caller): Recent,
    client: Client,
    Body(body): Body<Leave>,
) -> Result<impl IntoResponse, Failure> {
    let cookie = leave(&app, caller, body, &client).await?;
    let done = Done {
        success: true,
        message: "The account is deleted",
    };
    Ok(([(header::SET_COOKIE, cookie)], Json(done)))
}

/// Deletes the account of somebody who has signed in not long ago; gives the `Set-Cookie` of their
/// browser.
pub async fn leave(
    app: &App,
    caller: Caller,
    body: Leave,
    client: &Client,
) -> Result<String, Failure> {
    let since = match body.password {
        Some(password) => Some(prove_password(app, caller, password, client).await?),
        None => None,
    };
    let mut transaction = app.db.writing_as(caller.user).await?;
    match since {
        Some(since) if !store::still_has_password(&mut transaction, since).await? => {
            return Err(Error::InvalidCredentials.into());
        }
        None if store::has_password(&mut transaction).await? => {
            return Err(Error::NoPassword.into());
        }
        Some(_) | None => {}
    }
    store::delete(&mut transaction).await?;
    transaction.commit().await?;
    Ok(cookie::clear(&app.config))
}
