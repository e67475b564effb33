//! Registering and signing in.

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shared::{
    api::{Login, Register, Registered, User},
    claims::Role,
};

use crate::{app::App, door::Body, error::Error as Failure, front::Client, rim, sessions};

use super::{
    Error,
    guessing::Attempt,
    passwords::Comparison,
    profile,
    sign_in::{Arrival, Entry, enter},
    store::{self, Account},
};

/// The calls about accounts.
pub fn router() -> Router<App> {
    Router::new()
        .route("/api/v1/auth/register", post(register))
        .route("/api/v1/auth/login", post(login))
        .route(
            "/api/v1/auth/profile",
            get(profile::show).patch(profile::change),
        )
}

async fn register(
    State(app): State<App>,
    client: Client,
    Body(body): Body<Register>,
) -> Result<(StatusCode, Json<Registered>), Failure> {
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
    store::register(app.db.pool(), &account, &client).await?;
    Ok((StatusCode::CREATED, Json(Registered { user })))
}

async fn login(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    Body(body): Body<Login>,
) -> Result<Entry, Failure> {
    let normalised = body.email.normalised();
    let account = store::by_email(app.db.pool(), &normalised)
        .await
        .map_err(Error::from)?;
    let device = known_device(&app, &headers, account.as_ref()).await?;
    let attempt = Attempt::begin(&app, &normalised, device.as_deref(), &client).await?;
    let phc = account.as_ref().map(|account| account.phc.clone());
    let comparison = app.passwords.compare(body.password, phc).await;
    if !matches!(comparison, Ok(Comparison::Differs)) {
        attempt.forgive(app.db.pool()).await?;
    }
    let comparison = comparison.map_err(Error::from)?;
    let (Some(account), Comparison::Matches { rehashed }) = (&account, comparison) else {
        let user = account.map(|account| account.user.id);
        store::record_failure(app.db.pool(), user, &client)
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

    let mut transaction = app.db.as_user(account.user.id).await?;
    if let Some(phc) = rehashed {
        store::set_password(&mut transaction, account.user.id, &phc).await?;
    }
    let arrival = Arrival {
        user: account.user.clone(),
        proved_by: &["pwd"],
        device_id: body.device_id.as_ref(),
        device_name: body.device_name.as_ref(),
        remember: body.remember_me,
    };
    let entry = enter(&app, &mut transaction, arrival, &client).await?;
    transaction.commit().await?;
    Ok(entry)
}

/// The device that asks, if the account knows it: it is signed in there.
async fn known_device(
    app: &App,
    headers: &HeaderMap,
    account: Option<&Account>,
) -> sqlx::Result<Option<String>> {
    let here = sessions::of_browser(app, headers).await?;
    Ok(here
        .filter(|(_, user)| account.is_some_and(|account| account.user.id == *user))
        .map(|(session, _)| session.to_string()))
}

/// Remembers an address without keeping it.
pub fn email_hash(key: &crate::config::Key, normalised: &str) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
    mac.update(normalised.as_bytes());
    mac.finalize().into_bytes().into()
}
