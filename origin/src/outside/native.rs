//! Native apps, which ask Google or Apple on the device and show us the `id_token` that they got.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{AppendHeaders, IntoResponse, Response},
};
use shared::api::{AppSignedIn, ShowIdToken, Token};

use crate::{
    accounts::Entry, app::App, door::Body, error::Error as Failure, front::Client, openapi, rim,
};

use super::{
    arrival::{self, Once},
    id_token,
    routes::in_time,
};

/// `POST /auth/google-signin`.
#[utoipa::path(
    post,
    path = "/api/v1/auth/google-signin",
    tag = "Other providers",
    summary = "Signs in by an `id_token` that a native app got from Google",
    description = "Of the fields of `deviceInfo` two are read.",
    request_body = ShowIdToken,
    responses(
        (status = 200, body = openapi::AppEntered),
        (status = 401, description = "INVALID_ID_TOKEN"),
        (status = 403, description = "ACCOUNT_DISABLED, PROVIDER_EMAIL_UNVERIFIED"),
        (status = 404, description = "NOT_FOUND"),
        (status = 409, description = "CONFLICT"),
        (status = 502, description = "SIGN_IN_PROVIDER_FAILED"),
    )
)]
pub async fn google(
    State(app): State<App>,
    client: Client,
    Body(shown): Body<ShowIdToken>,
) -> Result<Response, Failure> {
    sign_in(&app, "google", &client, &shown).await
}

/// `POST /auth/apple-signin`.
#[utoipa::path(
    post,
    path = "/api/v1/auth/apple-signin",
    tag = "Other providers",
    summary = "Signs in by an `id_token` that a native app got from Apple",
    description = "Of the fields of `deviceInfo` two are read.",
    request_body = ShowIdToken,
    responses(
        (status = 200, body = openapi::AppEntered),
        (status = 401, description = "INVALID_ID_TOKEN"),
        (status = 403, description = "ACCOUNT_DISABLED, PROVIDER_EMAIL_UNVERIFIED"),
        (status = 404, description = "NOT_FOUND"),
        (status = 409, description = "CONFLICT"),
        (status = 502, description = "SIGN_IN_PROVIDER_FAILED"),
    )
)]
pub async fn apple(
    State(app): State<App>,
    client: Client,
    Body(shown): Body<ShowIdToken>,
) -> Result<Response, Failure> {
    sign_in(&app, "apple", &client, &shown).await
}

async fn sign_in(
    app: &App,
    provider: &str,
    client: &Client,
    shown: &ShowIdToken,
) -> Result<Response, Failure> {
    let provider = app.outside.find(provider)?;
    let token = shown.token.as_str();
    let nonce = shown.nonce.as_ref().map(Token::as_str);
    let asked = provider.identify_native(&app.outside.wire, token, nonce, rim::now());
    let (identity, over_at) = in_time(asked).await?;
    let once = Once {
        hash: id_token::hash(token),
        over_at,
    };
    let entry = arrival::sign_in(app, &identity, Some(once), &shown.device, client).await?;
    Ok(match entry {
        Entry::SignedIn(signed_in, cookies) => {
            let answer = AppSignedIn {
                app_token: signed_in.access_token,
                refresh_token: signed_in.refresh_token,
                email: signed_in.user.email,
            };
            let cookies = cookies
                .into_iter()
                .map(|cookie| (header::SET_COOKIE, cookie));
            (AppendHeaders(cookies), Json(answer)).into_response()
        }
        // As `login` asks for it.
        asked @ Entry::SecondStep(_) => asked.into_response(),
    })
}
