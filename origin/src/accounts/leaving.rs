//! Leaving: whoever has signed in just now and knows the password may delete the account.

use axum::{Json, extract::State, http::header, response::IntoResponse};
use shared::api::{Done, Leave};

use crate::{
    app::App,
    door::Body,
    error::Error as Failure,
    front::Client,
    sessions::{Recent, cookie},
};

use super::{Error, recovery::prove_password, store};

/// `DELETE /auth/account`. What is personal goes; the ledger stays, without a name.
pub async fn leave(
    State(app): State<App>,
    Recent(caller): Recent,
    client: Client,
    Body(body): Body<Leave>,
) -> Result<impl IntoResponse, Failure> {
    let since = prove_password(&app, caller, body.password, &client).await?;
    let mut transaction = app.db.writing_as(caller.user).await?;
    if !store::still_has_password(&mut transaction, since).await? {
        return Err(Error::InvalidCredentials.into());
    }
    store::delete(&mut transaction).await?;
    transaction.commit().await?;
    let done = Done {
        success: true,
        message: "The account is deleted",
    };
    let cookie = cookie::clear(&app.config.public_url);
    Ok(([(header::SET_COOKIE, cookie)], Json(done)))
}
