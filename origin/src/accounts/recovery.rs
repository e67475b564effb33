//! Setting another password: by a link in a mail, where it is forgotten, or by the one it is.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use shared::{
    api::{ChangePassword, Done, Password, ResetPassword},
    ids::UserId,
};
use sqlx::PgConnection;

use crate::{
    app::App,
    door::Body,
    error::Error as Failure,
    front::Client,
    links::{self, Purpose},
    mail::{self, Kind},
    pages::{By, Field, Form, Posted, Reader},
    revocations,
    sessions::{self, Caller},
    telemetry::attempt,
};

use super::{
    Error, device,
    following::{Followed, Link, tell, token},
    guessing::Attempt,
    passwords::{Comparison, NotHashed},
    proof::{self, Shown, normalised},
    store,
};

/// `GET /auth/reset-password`.
pub async fn page(State(app): State<App>, reader: Reader, link: Link) -> Result<Response, Failure> {
    let token = token(link);
    let answer = async {
        let followed = Followed::find(&app, Purpose::Reset, &token).await?;
        Ok(form(&reader, &followed, &token, StatusCode::OK, None))
    };
    tell(&reader, By::Page, answer.await)
}

fn form(
    reader: &Reader,
    followed: &Followed,
    token: &str,
    status: StatusCode,
    mistake: Option<&'static str>,
) -> Response {
    let words = &reader.words.links;
    let label = reader.words.common.new_password;
    let field = Field::password("newPassword", label, "new-password").mistake(mistake);
    let form = Form::new(Purpose::Reset.path(), words.reset_button);
    let email = followed.holder.user.email.as_str();
    let page = reader
        .page(words.reset)
        .says((words.reset_says)(email))
        .form(form.hidden("token", token).about(email).field(field));
    reader.show(status, &page, followed.leads_to.as_ref())
}

/// `POST /auth/reset-password`. Whoever can read the account's mail may; all that was open ends.
#[utoipa::path(
    post,
    path = "/api/v1/auth/reset-password",
    tag = "Sign-in",
    summary = "Sets another password by the link of a mail",
    description = "Every session ends. The page that the link leads to is a `GET` of the same path.",
    request_body = ResetPassword,
    responses(
        (status = 200, body = Done),
        (status = 303, body = Done, description = "Done; `Location` is the page of the app that it began at", headers(("Location" = String))),
        (status = 400, description = "INVALID_LINK"),
        (status = 403, description = "ACCOUNT_DISABLED"),
        (status = 422, description = "PASSWORD_TOO_COMMON"),
        (status = 503, description = "OVERLOADED"),
    )
)]
pub async fn reset_password(
    State(app): State<App>,
    client: Client,
    reader: Reader,
    Posted { body, by }: Posted<ResetPassword>,
) -> Result<Response, Failure> {
    let answer = async {
        // Nothing is hashed for a link that is no good.
        let mut followed = Followed::find(&app, Purpose::Reset, body.token.as_str()).await?;
        let phc = match app.passwords.hash(body.new_password).await {
            Err(why @ NotHashed::TooCommon) if by == By::Page => {
                attempt("reset", Err(&Error::from(why).into()));
                let mistake = Some(reader.words.mistakes.common_password);
                let (token, status) = (body.token.as_str(), StatusCode::UNPROCESSABLE_ENTITY);
                return Ok(form(&reader, &followed, token, status, mistake));
            }
            hashed => hashed.map_err(Error::from)?,
        };
        let user = followed.holder.user.id;
        let mut transaction = app.db.writing_as(user).await?;
        followed.take(&mut transaction).await?;
        let holder = &mut followed.holder.user;
        proof::confirm(&app, &mut transaction, holder, Shown::ByMailAlone).await?;
        store::put_password(&mut transaction, user, &phc).await?;
        // Every link, before the sessions: a sign-in by one that is under way ends first, and is seen.
        links::void_all(&mut transaction).await?;
        tell_of_change(&app, &mut transaction, user, "password_reset", &client).await?;
        sessions::revoke_all(&mut transaction).await?;
        store::forget_devices(&mut transaction).await?;
        // Whoever guesses at the account does not slow its owner down with the new password.
        let cookie = device::meet_anew(&app, &mut transaction, user).await?;
        revocations::append_user(&mut transaction, user).await?;
        transaction.commit().await?;
        attempt("reset", Ok(()));
        let title = reader.words.links.is_reset;
        let done = followed.done(&app, &reader, by, ("The new password is set", title));
        Ok((AppendHeaders([(header::SET_COOKIE, cookie)]), done).into_response())
    };
    let answer = answer.await;
    let answer = answer.inspect_err(|failure| attempt("reset", Err(failure)));
    tell(&reader, by, answer)
}

/// `POST /auth/change-password`.
#[utoipa::path(
    post,
    path = "/api/v1/auth/change-password",
    tag = "Account",
    summary = "Sets another password",
    description = "",
    security(("token" = [])),
    request_body = ChangePassword,
    responses(
        (status = 200, body = Done),
        (status = 401, description = "INVALID_CREDENTIALS"),
        (status = 422, description = "PASSWORD_TOO_COMMON"),
        (status = 503, description = "OVERLOADED"),
    )
)]
pub async fn change_password(
    State(app): State<App>,
    caller: Caller,
    client: Client,
    Body(body): Body<ChangePassword>,
) -> Result<Json<Done>, Failure> {
    change(&app, caller, body, &client).await?;
    Ok(Json(Done {
        success: true,
        message: "The password is changed",
    }))
}

/// Sets another password for somebody who is signed in and shows the one it is.
pub async fn change(
    app: &App,
    caller: Caller,
    body: ChangePassword,
    client: &Client,
) -> Result<(), Failure> {
    let since = prove_password(app, caller, body.current_password, client).await?;
    let phc = app
        .passwords
        .hash(body.new_password)
        .await
        .map_err(Error::from)?;
    let mut transaction = app.db.writing_as(caller.user).await?;
    // A reset meanwhile has the last word.
    if !store::still_has_password(&mut transaction, since).await? {
        return Err(Error::InvalidCredentials.into());
    }
    store::put_password(&mut transaction, caller.user, &phc).await?;
    if body.revoke_others {
        sessions::revoke_others(&mut transaction, caller.session).await?;
    }
    tell_of_change(
        app,
        &mut transaction,
        caller.user,
        "password_changed",
        client,
    )
    .await?;
    revocations::append_user(&mut transaction, caller.user).await?;
    transaction.commit().await?;
    Ok(())
}

/// Somebody who is signed in shows that they know the password of their account, too. Guessing is as
/// slow for a thief of a token as it is for anybody. Says since when it is the password: whoever goes on
/// asks whether it still is, once nobody else can change it.
pub async fn prove_password(
    app: &App,
    caller: Caller,
    password: Password,
    client: &Client,
) -> Result<DateTime<Utc>, Failure> {
    let place = app.passwords.place().map_err(Error::from)?;
    let own = store::own(&mut *app.db.as_user(caller.user).await?).await?;
    let normalised = normalised(&own.email);
    let account = store::by_email(app.db.pool(), &normalised).await?;
    let attempt = Attempt::begin_signed_in(app, &normalised, caller.session).await?;
    // An account without a password gets its first one by a link.
    let phc = account.as_ref().map(|account| account.phc.clone());
    let comparison = app.passwords.compare(place, password, phc).await;
    if matches!(comparison, Ok(Comparison::Differs)) {
        store::record_failure(app.db.pool(), Some(caller.user), client).await?;
        return Err(Error::InvalidCredentials.into());
    }
    attempt.forgive(app.db.pool()).await?;
    comparison.map_err(Error::from)?;
    let account = account.ok_or(Error::InvalidCredentials)?;
    Ok(account.changed_at)
}

/// What every other password brings about: its owner hears of it, and nobody signs in by a link from
/// before. A link to reset it stays good, or whoever knows the password could keep its owner from
/// setting another.
async fn tell_of_change(
    app: &App,
    db: &mut PgConnection,
    user: UserId,
    event: &str,
    client: &Client,
) -> sqlx::Result<()> {
    links::void(db, Purpose::Magic).await?;
    sessions::record(db, user, None, event, client).await?;
    if app.mail.is_some() {
        mail::enqueue(db, user, Kind::PasswordChanged, None, None).await?;
    }
    Ok(())
}
