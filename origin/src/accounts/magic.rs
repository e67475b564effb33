//! Signing in by mail.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use shared::api::SignInByMail;

use crate::{
    app::App,
    error::Error as Failure,
    front::Client,
    links::Purpose,
    openapi,
    pages::{By, Form, Posted, Reader},
    rim,
    telemetry::tried,
};

use super::{
    Error,
    browser::Deed,
    following::{Followed, Link, tell, token},
    proof::{self, Shown, normalised},
    sign_in::{Arrival, enter},
};

/// RFC 8176: "multiple-channel authentication". The browser asks, and what it needs comes by mail.
/// `otp` would say the same of a second factor's code, which this is not.
const PROVED_BY: [&str; 1] = ["mca"];

/// `GET /auth/magic-link/verify`.
pub async fn page(State(app): State<App>, reader: Reader, link: Link) -> Result<Response, Failure> {
    let token = token(link);
    let answer = async {
        let followed = Followed::find(&app, Purpose::Magic, &token).await?;
        let words = reader.words;
        let form = Form::new(Purpose::Magic.path(), words.sign_in.button);
        let page = reader
            .page(words.sign_in.title)
            .says((words.links.magic_says)(&followed.holder.user.email))
            .form(form.hidden("token", token.as_str()));
        Ok(reader.show(StatusCode::OK, &page, followed.leads_to.as_ref()))
    };
    tell(&reader, By::Page, answer.await)
}

/// `POST /auth/magic-link/verify`. That somebody wants this is shown by the button of our page, or by
/// the browser being the one that asked: nobody is signed in to a stranger's account by a link that
/// the stranger asked for.
#[utoipa::path(
    post,
    path = "/api/v1/auth/magic-link/verify",
    tag = "Sign-in",
    summary = "Signs in by the link of a mail",
    description = "From the browser that asked for it. The page that the link leads to is a `GET` of the same path, and its button sends the same as a form.",
    request_body = SignInByMail,
    responses(
        (status = 200, body = openapi::Entered),
        (status = 400, description = "INVALID_LINK"),
        (status = 403, description = "OTHER_BROWSER, ACCOUNT_DISABLED"),
    )
)]
pub async fn sign_in(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    reader: Reader,
    Posted { body, by }: Posted<SignInByMail>,
) -> Result<Response, Failure> {
    let answer = async {
        let mut followed = Followed::find(&app, Purpose::Magic, body.token.as_str()).await?;
        let email = normalised(&followed.holder.user.email);
        if by == By::Program && !Deed::Asked(&email).was_done(&app, &headers, rim::now()) {
            return Err(Error::OtherBrowser.into());
        }
        let mut transaction = app.db.writing_as(followed.holder.user.id).await?;
        // First, since confirming may void every link.
        followed.take(&mut transaction).await?;
        let user = &mut followed.holder.user;
        proof::confirm(&app, &mut transaction, user, Shown::ByMailAlone).await?;
        let arrival = Arrival {
            user: user.clone(),
            proved_by: &PROVED_BY,
            device_id: body.device_id.as_ref(),
            device_name: body.device_name.as_ref(),
            remember: body.remember_me,
        };
        let entry = enter(&app, &mut transaction, arrival, &client).await?;
        transaction.commit().await?;
        Ok(match by {
            By::Program => entry.into_response(),
            By::Page => entry.on_page(&app, &reader, followed.leads_to.as_ref()),
        })
    };
    tell(&reader, by, tried("link", answer.await))
}
