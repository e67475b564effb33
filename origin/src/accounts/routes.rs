//! Registering and signing in.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use shared::{
    api::{Login, Register, Registered, User},
    claims::Role,
};
use url::Url;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    apps,
    door::Body,
    error::Error as Failure,
    front::Client,
    links::Purpose,
    mail::{self, Kind},
    openapi, rim,
    telemetry::tried,
};

use super::{
    Error, asking,
    browser::Deed,
    guessing::Attempt,
    leaving, magic,
    passwords::Comparison,
    profile,
    proof::email_hash,
    recovery,
    sign_in::{Arrival, Entry, enter},
    store, verification,
};

/// The calls about accounts.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sign_up))
        .routes(routes!(login))
        .routes(routes!(leaving::delete))
        .routes(routes!(profile::show, profile::patch))
        .routes(routes!(asking::forgot_password))
        .routes(routes!(asking::resend_verification))
        .routes(routes!(asking::magic_link))
        .routes(routes!(magic::sign_in))
        .route("/api/v1/auth/magic-link/verify", get(magic::page))
        .routes(routes!(verification::verify))
        .route("/api/v1/auth/verify-email", get(verification::page))
        .routes(routes!(recovery::reset_password))
        .route("/api/v1/auth/reset-password", get(recovery::page))
        .routes(routes!(recovery::change_password))
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/register",
    tag = "Sign-in",
    summary = "Makes an account",
    description = "The one call that tells whether an address is taken. What is no link in `sourceAppUrl` is passed over.",
    request_body = Register,
    responses(
        (status = 201, body = Registered),
        (status = 409, description = "EMAIL_TAKEN"),
        (status = 422, description = "PASSWORD_TOO_COMMON"),
        (status = 503, description = "OVERLOADED"),
    )
)]
async fn sign_up(
    State(app): State<App>,
    client: Client,
    Body(body): Body<Register>,
) -> Result<impl IntoResponse, Failure> {
    let (user, cookie) = register(&app, body, &client).await?;
    Ok((
        StatusCode::CREATED,
        [(header::SET_COOKIE, cookie)],
        Json(Registered { user }),
    ))
}

/// Makes an account; gives the `Set-Cookie` by which its browser is known for the one that did.
pub async fn register(
    app: &App,
    body: Register,
    client: &Client,
) -> Result<(User, String), Failure> {
    tried("register", make(app, body, client).await)
}

async fn make(app: &App, body: Register, client: &Client) -> Result<(User, String), Failure> {
    let phc = app
        .passwords
        .hash(body.password)
        .await
        .map_err(Error::from)?;
    let user = User {
        id: rim::new_id(),
        email: body.email.as_str().to_owned(),
        name: body.name.as_ref().map(|name| name.as_str().to_owned()),
        email_verified: false,
        role: Role::User,
    };
    let normalised = body.email.normalised();
    let usable = !app.config.require_email_verification;
    let account = store::NewAccount {
        id: user.id,
        email: &user.email,
        email_normalised: &normalised,
        name: user.name.as_deref(),
        phc: &phc,
        email_hash: &email_hash(&app.config.remembering.email_hash_key, &normalised),
        bonus: usable.then_some(app.config.credits.credits_signup_bonus.thousandths()),
    };
    let page = match &body.source_app_url {
        Some(link) => apps::page(app, link.as_str()).await?,
        None => None,
    };
    let mut transaction = app.db.as_user(user.id).await?;
    store::register(&mut transaction, &account, client).await?;
    if !usable {
        let page = page.as_ref().map(Url::as_str);
        let kind = Kind::Link(Purpose::Verify);
        mail::enqueue(&mut transaction, user.id, kind, page, None).await?;
    }
    transaction.commit().await?;
    if let Some(mail) = &app.mail {
        mail.wake();
    }
    let cookie = Deed::Registered(user.id).remember(app, rim::now());
    Ok((user, cookie))
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/login",
    tag = "Sign-in",
    summary = "Signs in with a password",
    description = "Sets the session cookie. Whoever has a second factor gets an `mfaToken` for `login/mfa`, and no session yet.",
    request_body = Login,
    responses(
        (status = 200, body = openapi::Entered),
        (status = 401, description = "INVALID_CREDENTIALS"),
        (status = 403, description = "EMAIL_NOT_VERIFIED, ACCOUNT_DISABLED"),
        (status = 503, description = "OVERLOADED"),
    )
)]
async fn login(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    Body(body): Body<Login>,
) -> Result<Entry, Failure> {
    by_password(&app, body, &headers, &client).await
}

/// Signs somebody in by their password.
pub async fn by_password(
    app: &App,
    body: Login,
    headers: &HeaderMap,
    client: &Client,
) -> Result<Entry, Failure> {
    tried("password", prove(app, body, headers, client).await)
}

async fn prove(
    app: &App,
    body: Login,
    headers: &HeaderMap,
    client: &Client,
) -> Result<Entry, Failure> {
    let place = app.passwords.place().map_err(Error::from)?;
    let normalised = body.email.normalised();
    let (attempt, account) = Attempt::begin(app, &normalised, headers, client).await?;
    let phc = account.as_ref().map(|account| account.phc.clone());
    let comparison = app.passwords.compare(place, body.password, phc).await;
    if !matches!(comparison, Ok(Comparison::Differs)) {
        attempt.forgive(app.db.pool()).await?;
    }
    let comparison = comparison.map_err(Error::from)?;
    let (Some(account), Comparison::Matches { rehashed, place }) = (&account, comparison) else {
        let user = account.map(|account| account.user.id);
        store::record_failure(app.db.pool(), user, client)
            .await
            .map_err(Error::from)?;
        return Err(Error::InvalidCredentials.into());
    };
    if !account.is_active {
        return Err(Error::Disabled.into());
    }
    if app.config.require_email_verification && !account.user.email_verified {
        return Err(Error::EmailNotVerified.into());
    }

    let mut transaction = app.db.writing_as(account.user.id).await?;
    if !store::still_has_password(&mut transaction, account.changed_at).await? {
        return Err(Error::InvalidCredentials.into());
    }
    if let Some(phc) = rehashed {
        store::set_hash(&mut transaction, account.user.id, &phc).await?;
    }
    let arrival = Arrival {
        user: account.user.clone(),
        proved_by: &["pwd"],
        device_id: body.device_id.as_ref(),
        device_name: body.device_name.as_ref(),
        remember: body.remember_me,
    };
    let entry = enter(app, &mut transaction, arrival, client).await?;
    transaction.commit().await?;
    drop(place);
    Ok(entry)
}
