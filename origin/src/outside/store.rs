//! The SQL of outside accounts.

use chrono::{DateTime, Utc};
use shared::{
    api::{Email, OutsideAccount, User},
    ids::{OutsideAccountId, UserId},
};
use sqlx::{PgConnection, PgExecutor};

use crate::{db::Pool, front::Client, rim};

use super::{
    Error, Identity,
    flow::{LIFETIME_SECS, Linking},
};

/// Writes down that a browser goes to a provider.
pub async fn begin(
    db: &mut PgConnection,
    state_hash: &[u8],
    browser_hash: &[u8],
    provider: &str,
    redirect_to: Option<&str>,
    linking: Option<Linking>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"SELECT auth.begin_outside_sign_in($1, $2, $3, $4, $5, $6, make_interval(secs => $7)) AS "done: ()""#,
        state_hash,
        browser_hash,
        provider,
        redirect_to,
        linking.map(|linking| linking.user.uuid()),
        linking.map(|linking| linking.session.uuid()),
        f64::from(LIFETIME_SECS),
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// What a browser that comes back went for: once, and not for another browser.
pub async fn take(
    db: &Pool,
    state_hash: &[u8],
    browser_hash: &[u8],
    provider: &str,
) -> sqlx::Result<Option<(Option<String>, Option<Linking>)>> {
    let row = sqlx::query!(
        "SELECT redirect_to, user_id, session_id FROM auth.take_outside_sign_in($1, $2, $3)",
        state_hash,
        browser_hash,
        provider
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let linking = row.user_id.zip(row.session_id);
        let linking = linking.map(|(user, session)| Linking {
            user: user.into(),
            session: session.into(),
        });
        (row.redirect_to, linking)
    }))
}

/// Whose account it is, and whether it is by a link rather than by the address.
pub async fn account_of(
    db: impl PgExecutor<'_>,
    identity: &Identity,
    email_normalised: Option<&str>,
) -> sqlx::Result<Option<(UserId, bool)>> {
    let row = sqlx::query!(
        r#"SELECT id AS "id!", is_linked AS "is_linked!" FROM auth.account_of_outside($1, $2, $3)"#,
        identity.issuer,
        identity.subject,
        email_normalised
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.id.into(), row.is_linked)))
}

/// Whether a session of the acting user lives.
pub async fn is_live(db: &mut PgConnection, linking: Linking) -> sqlx::Result<bool> {
    let found = sqlx::query!(
        "SELECT id FROM auth.sessions WHERE id = $1 AND revoked_at IS NULL AND expires_at > now()",
        linking.session.uuid()
    )
    .fetch_optional(db)
    .await?;
    Ok(found.is_some())
}

/// An account that somebody gets by a provider's word.
pub struct NewAccount<'a> {
    pub user: &'a User,
    pub email: &'a Email,
    /// Keyed, of the normalised address: what a bonus is remembered by.
    pub email_hash: &'a [u8],
    /// In thousandths.
    pub bonus: i64,
}

/// Makes an account without a password, its wallet and its bonus.
pub async fn register(
    db: &mut PgConnection,
    account: &NewAccount<'_>,
    client: &Client,
) -> Result<(), Error> {
    sqlx::query!(
        r#"SELECT auth.register_outside($1, $2, $3, $4, $5, $6, $7::text::inet, $8) AS "done: ()""#,
        account.user.id.uuid(),
        account.email.as_str(),
        account.email.normalised(),
        account.user.name,
        account.email_hash,
        account.bonus,
        client.address_text(),
        client.agent,
    )
    .fetch_one(db)
    .await
    .map_err(|error| raced(error, "users_email_taken"))?;
    Ok(())
}

/// Links an outside account to the acting user's.
pub async fn link(db: &mut PgConnection, user: UserId, identity: &Identity) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO auth.outside_accounts (id, user_id, provider, issuer, subject, email)
         VALUES ($1, $2, $3, $4, $5, $6)",
        rim::new_id::<OutsideAccountId>().uuid(),
        user.uuid(),
        identity.provider,
        identity.issuer,
        identity.subject,
        identity.email.as_ref().map(Email::as_str),
    )
    .execute(db)
    .await
    .map_err(|error| raced(error, "outside_accounts_unique"))?;
    Ok(())
}

fn raced(error: sqlx::Error, constraint: &str) -> Error {
    let violated = error
        .as_database_error()
        .and_then(|error| error.constraint());
    if violated == Some(constraint) {
        Error::Raced
    } else {
        error.into()
    }
}

/// Writes down that the acting user signs in by a linked account; says whether it is (still) linked.
pub async fn use_link(db: &mut PgConnection, identity: &Identity) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE auth.outside_accounts SET last_used_at = now() WHERE issuer = $1 AND subject = $2",
        identity.issuer,
        identity.subject
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Uses up an `id_token` that an app shows; says whether it was not shown before.
pub async fn use_token(
    db: &mut PgConnection,
    hash: &[u8],
    over_at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT auth.use_outside_token($1, $2) AS "is_first!""#,
        hash,
        over_at
    )
    .fetch_one(db)
    .await
}

/// The acting user's linked accounts, the eldest first.
pub async fn list(db: &mut PgConnection) -> sqlx::Result<Vec<OutsideAccount>> {
    sqlx::query_as!(
        OutsideAccount,
        "SELECT id, provider, email, linked_at, last_used_at FROM auth.outside_accounts ORDER BY linked_at, id"
    )
    .fetch_all(db)
    .await
}

/// Takes a linked account of the acting user away; says whether there was one.
pub async fn unlink(db: &mut PgConnection, id: OutsideAccountId) -> sqlx::Result<bool> {
    let done = sqlx::query!("DELETE FROM auth.outside_accounts WHERE id = $1", id.uuid())
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether the acting user can sign in by a password or a linked account.
pub async fn has_way_in(db: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT user_id FROM auth.passwords)
               OR EXISTS (SELECT id FROM auth.outside_accounts) AS "has!""#
    )
    .fetch_one(db)
    .await
}

/// Takes every linked account of the acting user away.
pub async fn unlink_all(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM auth.outside_accounts")
        .execute(db)
        .await?;
    Ok(())
}
