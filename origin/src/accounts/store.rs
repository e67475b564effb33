//! The SQL of accounts.

use chrono::{DateTime, Utc};
use shared::{
    api::{Change, ChangeProfile, Profile, User},
    claims::Role,
    ids::UserId,
};
use sqlx::PgConnection;

use crate::{db::Pool, front::Client};

use super::{Error, guessing::Counts};

/// How many devices an account is known by, the latest ones.
pub const MOST_DEVICES: i32 = 100;

/// An account as somebody registers it.
pub struct NewAccount<'a> {
    pub id: UserId,
    pub email: &'a str,
    pub email_normalised: &'a str,
    pub name: Option<&'a str>,
    pub phc: &'a str,
    /// Keyed, of the normalised address: what a bonus is remembered by.
    pub email_hash: &'a [u8],
    /// In thousandths; none until the account is usable.
    pub bonus: Option<i64>,
}

/// Makes the account, its wallet and its bonus.
pub async fn register(
    db: &mut PgConnection,
    account: &NewAccount<'_>,
    client: &Client,
) -> Result<(), Error> {
    sqlx::query!(
        r#"SELECT auth.register($1, $2, $3, $4, $5, $6, $7, $8::text::inet, $9) AS "done: ()""#,
        account.id.uuid(),
        account.email,
        account.email_normalised,
        account.name,
        account.phc,
        account.email_hash,
        account.bonus,
        client.address_text(),
        client.agent,
    )
    .fetch_one(db)
    .await
    .map_err(|error| {
        match error
            .as_database_error()
            .and_then(|error| error.constraint())
        {
            Some("users_email_taken") => Error::EmailTaken,
            _ => error.into(),
        }
    })?;
    Ok(())
}

/// An account, and the hash to compare a password with.
pub struct Account {
    pub user: User,
    pub is_active: bool,
    pub phc: String,
    /// Since when that is the password.
    pub changed_at: DateTime<Utc>,
}

/// The account of an address.
pub async fn by_email(db: &Pool, email_normalised: &str) -> sqlx::Result<Option<Account>> {
    let row = sqlx::query!(
        r#"SELECT id AS "id!", email AS "email!", name, role AS "role!", status AS "status!",
                  email_verified AS "email_verified!", phc AS "phc!", changed_at AS "changed_at!"
           FROM auth.account_by_email($1)"#,
        email_normalised
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Account {
            user: User {
                id: row.id.into(),
                email: row.email,
                name: row.name,
                email_verified: row.email_verified,
                role: role(&row.role)?,
            },
            is_active: row.status == "active",
            phc: row.phc,
            changed_at: row.changed_at,
        })
    })
    .transpose()
}

/// Whether the acting user's password is still the one that was compared. Until the transaction
/// ends it stays that: whoever changes it afterwards finds the session that was opened meanwhile.
pub async fn still_has_password(
    db: &mut PgConnection,
    changed_at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let found = sqlx::query!(
        "SELECT user_id FROM auth.passwords WHERE changed_at = $1 FOR NO KEY UPDATE",
        changed_at
    )
    .fetch_optional(db)
    .await?;
    Ok(found.is_some())
}

/// The acting user's own row.
pub async fn own(db: &mut PgConnection) -> sqlx::Result<User> {
    let row = sqlx::query!("SELECT id, email, name, email_verified, role FROM auth.users")
        .fetch_one(db)
        .await?;
    Ok(User {
        id: row.id.into(),
        email: row.email,
        name: row.name,
        email_verified: row.email_verified,
        role: role(&row.role)?,
    })
}

/// What the acting user says of themselves, in a session of this role.
pub async fn profile(db: &mut PgConnection, role: Role) -> sqlx::Result<Profile> {
    let user = User {
        role,
        ..own(&mut *db).await?
    };
    let image = sqlx::query_scalar!("SELECT image FROM auth.users")
        .fetch_one(db)
        .await?;
    Ok(Profile { user, image })
}

/// Changes what the acting user says of themselves.
pub async fn change_profile(db: &mut PgConnection, change: &ChangeProfile) -> sqlx::Result<()> {
    let name = match &change.name {
        Change::Set(name) => Some(name.as_str()),
        Change::Clear | Change::Keep => None,
    };
    let image = match &change.image {
        Change::Set(image) => Some(image.as_str()),
        Change::Clear | Change::Keep => None,
    };
    sqlx::query!(
        "UPDATE auth.users SET name = CASE WHEN $1 THEN name ELSE $2 END, image = CASE WHEN $3 THEN image ELSE $4 END",
        matches!(change.name, Change::Keep),
        name,
        matches!(change.image, Change::Keep),
        image
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Sets the acting user's password, which may be the first.
pub async fn put_password(db: &mut PgConnection, user: UserId, phc: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO auth.passwords (user_id, phc) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET phc = $2, changed_at = now()",
        user.uuid(),
        phc
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether the acting user has a password.
pub async fn has_password(db: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT EXISTS (SELECT user_id FROM auth.passwords) AS "has!""#)
        .fetch_one(db)
        .await
}

/// Takes the acting user's password away.
pub async fn remove_password(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM auth.passwords")
        .execute(db)
        .await?;
    Ok(())
}

/// Marks an account's address as verified, and gives the bonus that this brings; says whether it
/// was not verified before.
pub async fn confirm_email(
    db: &mut PgConnection,
    user: UserId,
    email_hash: &[u8],
    bonus: Option<i64>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT auth.confirm_email($1, $2, $3) AS "is_first!""#,
        user.uuid(),
        email_hash,
        bonus
    )
    .fetch_one(db)
    .await
}

/// Writes down that the acting user has a device.
pub async fn meet_device(db: &mut PgConnection, user: UserId, hash: &[u8]) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT auth.meet_device($1, $2, $3)",
        user.uuid(),
        hash,
        MOST_DEVICES
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// Takes away what the acting user's account says of its person.
pub async fn forget_profile(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("UPDATE auth.users SET name = NULL, image = NULL")
        .execute(db)
        .await?;
    Ok(())
}

/// Lets no device of the acting user be known any more.
pub async fn forget_devices(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM auth.devices").execute(db).await?;
    Ok(())
}

/// Replaces the acting user's hash by another one of the same password.
pub async fn set_hash(db: &mut PgConnection, user: UserId, phc: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE auth.passwords SET phc = $2 WHERE user_id = $1",
        user.uuid(),
        phc
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A cookie that a browser shows.
pub struct ShownCookie {
    /// As the database has it.
    pub hash: [u8; 32],
    /// What failures of its browser are counted by, where the account knows it.
    pub key: Vec<u8>,
}

/// An attempt to sign in, before its password is compared.
pub struct Asked<'a> {
    pub email_normalised: &'a str,
    pub device: Option<ShownCookie>,
    pub session: Option<ShownCookie>,
    pub device_free: i32,
    pub device_forget_secs: i32,
    /// What counts where the account does not know the browser.
    pub by_anybody: Counts,
}

/// What came of it.
pub struct Begun {
    /// How many seconds to wait before it may be made, or 0.
    pub wait_secs: u32,
    /// The keys of which it counts as a failure.
    pub counted: Vec<Vec<u8>>,
    /// Whose password is compared.
    pub account: Option<Account>,
}

/// Begins an attempt to sign in, in one call.
pub async fn begin_sign_in(db: &Pool, asked: &Asked<'_>) -> sqlx::Result<Begun> {
    let (device, session) = (asked.device.as_ref(), asked.session.as_ref());
    let row = sqlx::query!(
        r#"SELECT ceil(wait_secs)::integer AS "wait_secs!", counted AS "counted!",
                  id, email, name, role, status, email_verified, phc, changed_at
           FROM auth.begin_sign_in($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"#,
        asked.email_normalised,
        device.map(|cookie| &cookie.hash[..]),
        session.map(|cookie| &cookie.hash[..]),
        device.map(|cookie| &cookie.key[..]),
        session.map(|cookie| &cookie.key[..]),
        asked.device_free,
        asked.device_forget_secs,
        &asked.by_anybody.keys,
        &asked.by_anybody.free,
        &asked.by_anybody.forget_secs,
    )
    .fetch_one(db)
    .await?;
    let account = match (
        row.id,
        row.email,
        row.role,
        row.status,
        row.email_verified,
        row.phc,
        row.changed_at,
    ) {
        (
            Some(id),
            Some(email),
            Some(role_text),
            Some(status),
            Some(email_verified),
            Some(phc),
            Some(changed_at),
        ) => Some(Account {
            user: User {
                id: id.into(),
                email,
                name: row.name,
                email_verified,
                role: role(&role_text)?,
            },
            is_active: status == "active",
            phc,
            changed_at,
        }),
        _ => None,
    };
    Ok(Begun {
        wait_secs: row.wait_secs.unsigned_abs(),
        counted: row.counted,
        account,
    })
}

/// Begins an attempt that counts as a failure of each key; how many seconds to wait before it may
/// be made, or 0.
pub async fn begin_attempt(db: &Pool, counts: &Counts) -> sqlx::Result<u32> {
    let wait_secs = sqlx::query_scalar!(
        r#"SELECT ceil(auth.begin_attempt($1, $2, $3))::integer AS "wait_secs!""#,
        &counts.keys,
        &counts.free,
        &counts.forget_secs
    )
    .fetch_one(db)
    .await?;
    Ok(wait_secs.unsigned_abs())
}

/// Takes back what an attempt counted.
pub async fn forgive(db: &Pool, keys: &[Vec<u8>]) -> sqlx::Result<()> {
    sqlx::query!(r#"SELECT auth.forgive($1) AS "done: ()""#, keys)
        .fetch_one(db)
        .await?;
    Ok(())
}

/// Deletes the acting user's account.
pub async fn delete(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(r#"SELECT auth.delete_account() AS "done: ()""#)
        .fetch_one(db)
        .await?;
    Ok(())
}

/// Clears the words of so many transactions of somebody who has left; says whether there may be more.
pub async fn clear_words(db: &Pool, rows: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT auth.clear_words($1) AS "more!""#, rows)
        .fetch_one(db)
        .await
}

/// Drops counts of failures that are as good as forgotten.
pub async fn sweep_failures(db: &Pool) -> sqlx::Result<()> {
    sqlx::query!(r#"SELECT auth.sweep_failures() AS "done: ()""#)
        .fetch_one(db)
        .await?;
    Ok(())
}

/// Writes down that somebody tried, whether or not the account exists.
pub async fn record_failure(db: &Pool, user: Option<UserId>, client: &Client) -> sqlx::Result<()> {
    sqlx::query!(
        r#"SELECT auth.record_failed_sign_in($1, $2::text::inet, $3) AS "done: ()""#,
        user.map(UserId::uuid),
        client.address_text(),
        client.agent
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// An account that comes from another service.
pub struct MovedIn<'a> {
    pub id: UserId,
    pub email: &'a str,
    pub email_normalised: &'a str,
    pub email_verified: bool,
    pub name: Option<&'a str>,
    pub hash: &'a str,
    pub created_at: DateTime<Utc>,
    pub email_hash: &'a [u8],
}

/// Makes the account with an empty wallet; says whether it was not there yet.
pub async fn import(db: &mut PgConnection, account: &MovedIn<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT auth.import_user($1, $2, $3, $4, $5, $6, $7, $8) AS "is_new!""#,
        account.id.uuid(),
        account.email,
        account.email_normalised,
        account.email_verified,
        account.name,
        account.hash,
        account.created_at,
        account.email_hash,
    )
    .fetch_one(db)
    .await
}

/// A role from the database, whose CHECK knows the same three.
pub fn role(text: &str) -> sqlx::Result<Role> {
    text.parse()
        .map_err(|why| sqlx::Error::Decode(Box::new(why)))
}
