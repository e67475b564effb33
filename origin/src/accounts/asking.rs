//! Asking for a link by mail, without being signed in. Whether the address has an account is seen to
//! later, by the task that sends: here every address is the same work and gets the same answer.

use axum::{Json, extract::State, http::header, response::IntoResponse};
use shared::{
    api::{AskForMail, Asked, Link, Refusal},
    problem::FieldError,
};
use url::Url;

use crate::{
    app::App,
    apps,
    door::Body,
    error::Error as Failure,
    links::Purpose,
    mail::{self, Kind},
    rim,
};

use super::browser::Deed;

/// `POST /auth/forgot-password`.
#[utoipa::path(
    post,
    path = "/api/v1/auth/forgot-password",
    tag = "Sign-in",
    summary = "Asks for a link to set another password",
    description = "The answer is the same whether or not the address has an account.",
    request_body = AskForMail,
    responses(
        (status = 200, body = Asked),
        (status = 503, description = "MAIL_NOT_CONFIGURED"),
    )
)]
pub async fn forgot_password(
    State(app): State<App>,
    Body(wish): Body<AskForMail>,
) -> Result<Json<Asked>, Failure> {
    ask(&app, Purpose::Reset, &wish).await
}

/// `POST /auth/resend-verification`.
#[utoipa::path(
    post,
    path = "/api/v1/auth/resend-verification",
    tag = "Sign-in",
    summary = "Asks for another link to verify an address",
    description = "The answer is the same whether or not the address has an account.",
    request_body = AskForMail,
    responses(
        (status = 200, body = Asked),
        (status = 503, description = "MAIL_NOT_CONFIGURED"),
    )
)]
pub async fn resend_verification(
    State(app): State<App>,
    Body(wish): Body<AskForMail>,
) -> Result<Json<Asked>, Failure> {
    ask(&app, Purpose::Verify, &wish).await
}

/// `POST /auth/magic-link`: the browser can show later that it was the one that asked.
#[utoipa::path(
    post,
    path = "/api/v1/auth/magic-link",
    tag = "Sign-in",
    summary = "Asks for a link that signs in",
    description = "It is good for ten minutes, once. The answer is the same whether or not the address has an account, and sets a cookie by which this browser is known later for the one that asked.",
    request_body = AskForMail,
    responses(
        (status = 200, body = Asked),
        (status = 503, description = "MAIL_NOT_CONFIGURED"),
    )
)]
pub async fn magic_link(
    State(app): State<App>,
    Body(wish): Body<AskForMail>,
) -> Result<impl IntoResponse, Failure> {
    let answer = ask(&app, Purpose::Magic, &wish).await?;
    Ok(([(header::SET_COOKIE, has_asked(&app, &wish))], answer))
}

/// The `Set-Cookie` by which a browser is known for the one that asked.
pub fn has_asked(app: &App, wish: &AskForMail) -> String {
    Deed::Asked(&wish.email.normalised()).remember(app, rim::now())
}

/// Asks for a link of this kind.
pub async fn ask(app: &App, purpose: Purpose, wish: &AskForMail) -> Result<Json<Asked>, Failure> {
    let mail = app.mail()?;
    let page = allowed(app, wish.redirect_to.as_ref()).await?;
    let kind = Kind::Link(purpose);
    let page = page.as_ref().map(Url::as_str);
    mail::ask(app.db.pool(), kind, &wish.email.normalised(), page)
        .await
        .map_err(mail::Error::from)?;
    mail.wake();
    Ok(Json(Asked { success: true }))
}

/// The page that a link is to lead to in the end.
async fn allowed(app: &App, link: Option<&Link>) -> Result<Option<Url>, Failure> {
    let Some(link) = link else { return Ok(None) };
    match apps::page(app, link.as_str()).await? {
        Some(page) => Ok(Some(page)),
        None => Err(Refusal::Invalid(vec![FieldError {
            pointer: "/redirectTo".to_owned(),
            detail: apps::NO_PAGE.to_owned(),
        }])
        .into()),
    }
}
