//! Enrolling a second factor, showing it, and removing it.

use axum::{Json, extract::State};
use shared::{
    api::{Device, Done, Enrolment, MfaCode, RecoveryCodes, SecondStep, ShowCode, SignedIn},
    ids::UserId,
};
use sqlx::PgConnection;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    accounts::{self, Arrival, Entry},
    app::App,
    door::Body,
    error::Error as Failure,
    front::Client,
    revocations, rim,
    sessions::{self, Caller, Recent},
    telemetry::tried,
};

use super::{
    Error, PATIENCE, hash, prove, recovery, store,
    totp::{self, Totp},
};

/// The calls about the second factor.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(login))
        .routes(routes!(enrol, turn_off))
        .routes(routes!(turn_on))
        .routes(routes!(make_codes))
}

/// The second step of a sign-in, of whichever kind the first one was.
#[utoipa::path(
    post,
    path = "/api/v1/auth/login/mfa",
    tag = "Sign-in",
    summary = "The second step of a sign-in",
    description = "Sets the session cookie.",
    request_body = SecondStep,
    responses(
        (status = 200, body = SignedIn),
        (status = 401, description = "INVALID_MFA_TOKEN, INVALID_MFA_CODE"),
        (status = 403, description = "ACCOUNT_DISABLED"),
    )
)]
async fn login(
    State(app): State<App>,
    client: Client,
    Body(body): Body<SecondStep>,
) -> Result<Entry, Failure> {
    second_step(&app, &body, &client).await
}

/// Signs somebody in who was half signed in.
pub async fn second_step(app: &App, body: &SecondStep, client: &Client) -> Result<Entry, Failure> {
    tried("second_factor", enter(app, body, client).await)
}

async fn enter(app: &App, body: &SecondStep, client: &Client) -> Result<Entry, Failure> {
    let token_hash = hash(body.mfa_token.as_str());
    let user = store::half_signed_in(app.db.pool(), &token_hash).await?;
    let user = user.ok_or(Error::BadToken)?;
    let mut transaction = app.db.writing_as(user).await?;
    let sealing = &app.config.sealing.key_encryption_key;
    let Some(means) = prove(sealing, &mut transaction, user, &body.code, client).await? else {
        transaction.commit().await?;
        return Err(Error::WrongCode.into());
    };
    let half = store::take_half(&mut transaction, &token_hash).await?;
    let half = half.ok_or(Error::BadToken)?;
    let first = half.amr.iter().map(String::as_str);
    let proved_by: Vec<&str> = first.chain(means.amr().iter().copied()).collect();
    let device = |text: Option<String>| text.and_then(Device::parse);
    let (device_id, device_name) = (device(half.device_id), device(half.device_name));
    let arrival = Arrival {
        user: accounts::own(&mut transaction).await?,
        proved_by: &proved_by,
        device_id: device_id.as_ref(),
        device_name: device_name.as_ref(),
        remember: half.remember,
    };
    let entry = accounts::enter(app, &mut transaction, arrival, client).await?;
    transaction.commit().await?;
    Ok(entry)
}

/// Shows a new secret, which asks nobody until it is confirmed.
#[utoipa::path(
    post,
    path = "/api/v1/auth/mfa/totp",
    tag = "Second factor",
    summary = "Shows a new secret for an authenticator app",
    description = "Nothing changes before a code of it is shown. Needs a sign-in within the last ten minutes.",
    security(("token" = [])),
    responses(
        (status = 200, body = Enrolment),
        (status = 403, description = "RECENT_SIGN_IN_REQUIRED"),
        (status = 409, description = "CONFLICT"),
    )
)]
async fn enrol(
    State(app): State<App>,
    Recent(caller): Recent,
    client: Client,
) -> Result<Json<Enrolment>, Failure> {
    Ok(Json(begin(&app, caller, &client).await?))
}

/// Begins to enrol one for somebody who has signed in not long ago.
pub async fn begin(app: &App, caller: Caller, client: &Client) -> Result<Enrolment, Failure> {
    let mut transaction = app.db.writing_as(caller.user).await?;
    let totp = Totp::new();
    let sealed = totp.seal(&app.config.sealing.key_encryption_key, caller.user);
    if !store::begin(&mut transaction, caller.user, &sealed).await? {
        return Err(Error::AlreadyOn.into());
    }
    let user = accounts::own(&mut transaction).await?;
    record(&mut transaction, caller, "second_factor_begun", client).await?;
    transaction.commit().await?;
    let issuer = app.config.public_url.host();
    Ok(totp.enrolment(issuer, &user.email))
}

/// Turns it on for who shows that their app has the secret. After a few wrong codes it must be
/// begun anew: guessing gets nobody there.
#[utoipa::path(
    post,
    path = "/api/v1/auth/mfa/totp/confirm",
    tag = "Second factor",
    summary = "Turns the second factor on, by a code of it",
    description = "The answer has the recovery codes, which are shown once.",
    security(("token" = [])),
    request_body = ShowCode,
    responses(
        (status = 200, body = RecoveryCodes),
        (status = 404, description = "NOT_FOUND"),
    )
)]
async fn turn_on(
    State(app): State<App>,
    caller: Caller,
    client: Client,
    Body(body): Body<ShowCode>,
) -> Result<Json<RecoveryCodes>, Failure> {
    Ok(Json(confirm(&app, caller, &body, &client).await?))
}

/// Turns on what was begun, by a code of it.
pub async fn confirm(
    app: &App,
    caller: Caller,
    body: &ShowCode,
    client: &Client,
) -> Result<RecoveryCodes, Failure> {
    let mut transaction = app.db.writing_as(caller.user).await?;
    let begun = store::lock_begun(&mut transaction).await?;
    let (sealed, failures) = begun.ok_or(Error::NotBegun)?;
    let sealing = &app.config.sealing.key_encryption_key;
    let step = match &body.code {
        MfaCode::Totp(digits) => {
            totp::open(sealing, caller.user, &sealed)?.step_of(digits, rim::now())
        }
        MfaCode::Recovery(_) => None,
    };
    let Some(step) = step else {
        if failures + 1 < PATIENCE {
            store::count_failure(&mut transaction, failures + 1, 0).await?;
        } else {
            store::forget_begun(&mut transaction).await?;
        }
        let session = Some(caller.session);
        sessions::record_failure(
            &mut transaction,
            caller.user,
            session,
            "second_factor_enrolled",
            client,
        )
        .await?;
        transaction.commit().await?;
        return Err(Error::CodeRefused.into());
    };
    store::confirm(&mut transaction, step).await?;
    let codes = replace_codes(&mut transaction, caller.user).await?;
    record(&mut transaction, caller, "second_factor_enrolled", client).await?;
    transaction.commit().await?;
    Ok(codes)
}

/// Removes it, and signs out everywhere else: whoever had to get past it may be in there.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/mfa/totp",
    tag = "Second factor",
    summary = "Removes the second factor, by a code",
    description = "Every other session ends. Needs a sign-in within the last ten minutes.",
    security(("token" = [])),
    request_body = ShowCode,
    responses(
        (status = 200, body = Done),
        (status = 403, description = "RECENT_SIGN_IN_REQUIRED"),
        (status = 404, description = "NOT_FOUND"),
    )
)]
async fn turn_off(
    State(app): State<App>,
    Recent(caller): Recent,
    client: Client,
    Body(body): Body<ShowCode>,
) -> Result<Json<Done>, Failure> {
    remove(&app, caller, &body, &client).await?;
    Ok(Json(Done {
        success: true,
        message: "The second factor is removed",
    }))
}

/// Removes it by a code, for somebody who has signed in not long ago.
pub async fn remove(
    app: &App,
    caller: Caller,
    body: &ShowCode,
    client: &Client,
) -> Result<(), Failure> {
    let mut transaction = app.db.writing_as(caller.user).await?;
    let sealing = &app.config.sealing.key_encryption_key;
    let shown = prove(sealing, &mut transaction, caller.user, &body.code, client).await?;
    if shown.is_none() {
        transaction.commit().await?;
        return Err(Error::CodeRefused.into());
    }
    store::remove(&mut transaction).await?;
    sessions::revoke_others(&mut transaction, caller.session).await?;
    record(&mut transaction, caller, "second_factor_removed", client).await?;
    revocations::append_user(&mut transaction, caller.user).await?;
    transaction.commit().await?;
    Ok(())
}

/// Shows new recovery codes; those before are void.
#[utoipa::path(
    post,
    path = "/api/v1/auth/mfa/recovery-codes",
    tag = "Second factor",
    summary = "New recovery codes",
    description = "Those before are void. Needs a sign-in within the last ten minutes.",
    security(("token" = [])),
    responses(
        (status = 200, body = RecoveryCodes),
        (status = 403, description = "RECENT_SIGN_IN_REQUIRED"),
        (status = 404, description = "NOT_FOUND"),
    )
)]
async fn make_codes(
    State(app): State<App>,
    Recent(caller): Recent,
    client: Client,
) -> Result<Json<RecoveryCodes>, Failure> {
    Ok(Json(new_codes(&app, caller, &client).await?))
}

/// New recovery codes for somebody who has signed in not long ago.
pub async fn new_codes(
    app: &App,
    caller: Caller,
    client: &Client,
) -> Result<RecoveryCodes, Failure> {
    let mut transaction = app.db.writing_as(caller.user).await?;
    store::lock(&mut transaction).await?.ok_or(Error::NotOn)?;
    let codes = replace_codes(&mut transaction, caller.user).await?;
    record(&mut transaction, caller, "recovery_codes_made", client).await?;
    transaction.commit().await?;
    Ok(codes)
}

async fn replace_codes(db: &mut PgConnection, user: UserId) -> sqlx::Result<RecoveryCodes> {
    let recovery_codes = recovery::make();
    let hash = |code: &String| recovery::hash(user, &code.replace('-', "")).to_vec();
    let hashes: Vec<Vec<u8>> = recovery_codes.iter().map(hash).collect();
    store::replace_recovery_codes(db, user, &hashes).await?;
    Ok(RecoveryCodes { recovery_codes })
}

async fn record(
    db: &mut PgConnection,
    caller: Caller,
    r#type: &str,
    client: &Client,
) -> sqlx::Result<()> {
    sessions::record(db, caller.user, Some(caller.session), r#type, client).await
}
