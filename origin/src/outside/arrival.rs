//! Whose account it is that a provider speaks of. The one that is linked; else the one with the address
//! that both the provider and its owner here have verified; else a new one. Never by the address
//! alone: where nobody has verified it here, whoever registered it may be anybody, and leaves with all
//! that he had there before the provider's word lets somebody else in.
//!
//! Every transaction locks the account's row first, as confirming an address does: what is true of it
//! then stays true to the end.

use chrono::{DateTime, Utc};
use shared::{
    api::{DeviceInfo, Email, User},
    claims::Role,
    ids::UserId,
};
use sqlx::{Postgres, Transaction};

use crate::{
    accounts::{self, Arrival, Entry, Shown, enter},
    app::App,
    error::Error as Failure,
    front::Client,
    rim, sessions,
    telemetry::tried,
};

use super::{Error, Identity, flow::Linking, id_token::Rejected, store};

/// No word of RFC 8176 says that somebody else has seen to it; this is what Microsoft's tokens say of
/// it ("federated"). What the provider says of its own means is not repeated: it vouches for them, and
/// not we.
const PROVED_BY: [&str; 1] = ["fed"];
/// Of two who come for the first time at once, the later one finds what the earlier one made.
const ATTEMPTS: u8 = 3;

/// An `id_token` that is good once.
#[derive(Clone, Copy)]
pub struct Once {
    pub hash: [u8; 32],
    pub over_at: DateTime<Utc>,
}

impl Identity {
    /// The address, if the provider has seen that it is theirs.
    fn verified_email(&self) -> Option<&Email> {
        self.email.as_ref().filter(|_| self.email_verified)
    }
}

/// Signs somebody in by a provider's word.
pub async fn sign_in(
    app: &App,
    identity: &Identity,
    once: Option<Once>,
    device: &DeviceInfo,
    client: &Client,
) -> Result<Entry, Failure> {
    for _ in 1..ATTEMPTS {
        match attempt(app, identity, once, device, client).await {
            Err(Failure::Outside(Error::Raced)) => {}
            answer => return tried("provider", answer),
        }
    }
    tried(
        "provider",
        attempt(app, identity, once, device, client).await,
    )
}

async fn attempt(
    app: &App,
    identity: &Identity,
    once: Option<Once>,
    device: &DeviceInfo,
    client: &Client,
) -> Result<Entry, Failure> {
    let email = identity.verified_email().map(Email::normalised);
    let found = store::account_of(app.db.pool(), identity, email.as_deref())
        .await
        .map_err(Error::from)?;
    let (mut transaction, user) = match found {
        Some((user, true)) => by_link(app, identity, user).await?,
        Some((user, false)) => by_address(app, identity, user, client).await?,
        None => newcomer(app, identity, client).await?,
    };
    if let Some(once) = once
        && !store::use_token(&mut transaction, &once.hash, once.over_at).await?
    {
        return Err(Error::BadIdToken(Rejected::Replayed).into());
    }
    let arrival = Arrival {
        user,
        proved_by: &PROVED_BY,
        device_id: device.id.as_ref(),
        device_name: device.name.as_ref(),
        remember: false,
    };
    let entry = enter(app, &mut transaction, arrival, client).await?;
    transaction.commit().await?;
    Ok(entry)
}

/// A transaction that acts for somebody, and who that is.
type Acting = (Transaction<'static, Postgres>, User);

/// Begins one for an account that may be used.
async fn act_for(app: &App, user: UserId) -> Result<Acting, Failure> {
    let mut transaction = app.db.writing_as(user).await?;
    let user = accounts::own(&mut transaction).await?;
    Ok((transaction, user))
}

async fn by_link(app: &App, identity: &Identity, user: UserId) -> Result<Acting, Failure> {
    let (mut transaction, user) = act_for(app, user).await?;
    if !store::use_link(&mut transaction, identity).await? {
        return Err(Error::Raced.into());
    }
    if app.config.require_email_verification && !user.email_verified {
        return Err(accounts::Error::EmailNotVerified.into());
    }
    Ok((transaction, user))
}

async fn by_address(
    app: &App,
    identity: &Identity,
    user: UserId,
    client: &Client,
) -> Result<Acting, Failure> {
    let (mut transaction, mut user) = act_for(app, user).await?;
    let email = identity.verified_email().map(Email::normalised);
    if email != Some(accounts::normalised(&user.email)) {
        return Err(Error::Raced.into());
    }
    // The provider shows whose address it is as a mail to it does. Where that was shown before,
    // this changes nothing.
    accounts::confirm(app, &mut transaction, &mut user, Shown::ByMailAlone).await?;
    store::link(&mut transaction, user.id, identity).await?;
    sessions::record(&mut transaction, user.id, None, "outside_linked", client).await?;
    Ok((transaction, user))
}

async fn newcomer(app: &App, identity: &Identity, client: &Client) -> Result<Acting, Failure> {
    let email = identity.verified_email().ok_or(Error::EmailUnverified)?;
    let user = User {
        id: rim::new_id(),
        email: email.as_str().to_owned(),
        name: identity.name.as_ref().map(|name| name.as_str().to_owned()),
        email_verified: true,
        role: Role::User,
    };
    let key = &app.config.remembering.email_hash_key;
    let account = store::NewAccount {
        user: &user,
        email,
        email_hash: &accounts::email_hash(key, &email.normalised()),
        bonus: app.config.credits.credits_signup_bonus.thousandths(),
    };
    // There is no row yet that could be locked.
    let mut transaction = app.db.as_user(user.id).await?;
    store::register(&mut transaction, &account, client).await?;
    store::link(&mut transaction, user.id, identity).await?;
    sessions::record(&mut transaction, user.id, None, "outside_linked", client).await?;
    Ok((transaction, user))
}

/// Links what a provider speaks of to the account of somebody who is signed in, whatever addresses the
/// two have. Nothing happens when it is linked to it already.
pub async fn link(
    app: &App,
    identity: &Identity,
    linking: Linking,
    client: &Client,
) -> Result<(), Failure> {
    let (mut transaction, user) = act_for(app, linking.user).await?;
    // Signed out meanwhile, or everywhere by whoever showed that the address is theirs.
    if !store::is_live(&mut transaction, linking).await? {
        return Err(sessions::Error::Ended.into());
    }
    match store::account_of(&mut *transaction, identity, None).await? {
        Some((owner, _)) if owner == user.id => return Ok(()),
        Some(_) => return Err(Error::LinkedElsewhere.into()),
        None => {}
    }
    store::link(&mut transaction, user.id, identity)
        .await
        .map_err(|error| match error {
            Error::Raced => Error::LinkedElsewhere,
            error => error,
        })?;
    sessions::record(
        &mut transaction,
        user.id,
        Some(linking.session),
        "outside_linked",
        client,
    )
    .await?;
    transaction.commit().await?;
    Ok(())
}
