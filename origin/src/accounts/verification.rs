//! Verifying the address of an account: by who registered it, and nobody else. Who squats on
//! somebody's address has not the mail; the address's owner, who has, is in no hurry to press a
//! button, and if they do it is not in the browser that registered, nor do they know the password.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use shared::api::{Done, Password, VerifyEmail};

use crate::{
    app::App,
    error::Error as Failure,
    front::Client,
    links::Purpose,
    pages::{By, Field, Form, Posted, Reader},
    rim, sessions,
};

use super::{
    Error,
    browser::Deed,
    following::{Followed, Link, tell, token},
    guessing::Attempt,
    passwords::Comparison,
    proof::{self, Shown, normalised},
    store,
};

/// `GET /auth/verify-email`.
pub async fn page(
    State(app): State<App>,
    headers: HeaderMap,
    reader: Reader,
    link: Link,
) -> Result<Response, Failure> {
    let token = token(link);
    let answer = async {
        let followed = Followed::find(&app, Purpose::Verify, &token).await?;
        let here = (&app, &headers, &reader);
        Ok(form(here, &followed, &token, StatusCode::OK, None))
    };
    tell(&reader, By::Page, answer.await)
}

/// `POST /auth/verify-email`.
#[utoipa::path(
    post,
    path = "/api/v1/auth/verify-email",
    tag = "Sign-in",
    summary = "Verifies an address by the link of a mail",
    description = "From the browser that registered, or with the password. The page that the link leads to is a `GET` of the same path, which changes nothing.",
    request_body = VerifyEmail,
    responses(
        (status = 200, body = Done),
        (status = 303, body = Done, description = "Done; `Location` is the page of the app that it began at", headers(("Location" = String))),
        (status = 400, description = "INVALID_LINK"),
        (status = 401, description = "INVALID_CREDENTIALS"),
        (status = 403, description = "OTHER_BROWSER"),
        (status = 503, description = "OVERLOADED"),
    )
)]
pub async fn verify(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    reader: Reader,
    Posted { body, by }: Posted<VerifyEmail>,
) -> Result<Response, Failure> {
    let answer = async {
        let mut followed = Followed::find(&app, Purpose::Verify, body.token.as_str()).await?;
        if let Err(refused) = insist(&app, &headers, &followed, body.password, &client).await {
            let words = &reader.words.links;
            let (status, mistake) = match (by, &refused) {
                (By::Page, Error::InvalidCredentials) => {
                    (StatusCode::UNAUTHORIZED, words.wrong_password)
                }
                (By::Page, Error::OtherBrowser) => (StatusCode::FORBIDDEN, words.password_needed),
                _ => return Err(refused.into()),
            };
            let here = (&app, &headers, &reader);
            let token = body.token.as_str();
            return Ok(form(here, &followed, token, status, Some(mistake)));
        }
        let user = followed.holder.user.id;
        let mut transaction = app.db.writing_as(user).await?;
        followed.take(&mut transaction).await?;
        let holder = &mut followed.holder.user;
        proof::confirm(&app, &mut transaction, holder, Shown::ByRegistrant).await?;
        sessions::record(&mut transaction, user, None, "email_verified", &client).await?;
        transaction.commit().await?;
        let title = reader.words.links.verified;
        let told = ("Your e-mail address is verified", title);
        Ok(followed.done(&app, &reader, by, told))
    };
    tell(&reader, by, answer.await)
}

/// Insists that it is who registered: the browser shows it, or the password does.
async fn insist(
    app: &App,
    headers: &HeaderMap,
    followed: &Followed,
    password: Option<Password>,
    client: &Client,
) -> Result<(), Error> {
    let (user, phc) = (followed.holder.user.id, &followed.holder.phc);
    if Deed::Registered(user).was_done(app, headers, rim::now()) {
        return Ok(());
    }
    let password = password.ok_or(Error::OtherBrowser)?;
    let place = app.passwords.place()?;
    let email = normalised(&followed.holder.user.email);
    let (attempt, _) = Attempt::begin(app, &email, headers, client).await?;
    let comparison = app.passwords.compare(place, password, phc.clone()).await;
    if matches!(comparison, Ok(Comparison::Differs)) {
        store::record_failure(app.db.pool(), Some(user), client).await?;
        return Err(Error::InvalidCredentials);
    }
    attempt.forgive(app.db.pool()).await?;
    comparison?;
    Ok(())
}

fn form(
    (app, headers, reader): (&App, &HeaderMap, &Reader),
    followed: &Followed,
    token: &str,
    status: StatusCode,
    mistake: Option<&'static str>,
) -> Response {
    let user = &followed.holder.user;
    let words = &reader.words.links;
    let mut form = Form::new(Purpose::Verify.path(), words.verify_button).hidden("token", token);
    if !Deed::Registered(user.id).was_done(app, headers, rim::now()) {
        let field = Field::password("password", words.verify_password, "current-password");
        form = form.field(field.mistake(mistake));
    }
    let page = reader
        .page(words.verify)
        .says((words.verify_says)(&user.email))
        .form(form);
    reader.show(status, &page, followed.leads_to.as_ref())
}
