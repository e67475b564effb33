//! The SQL of the apps registry. Requests read it; only an operator's connection writes it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{api::AppId, credits::Credits};
use sqlx::PgConnection;

use crate::db::Pool;

use super::{Error, Permission};

/// What a key is compared with.
pub struct Registered {
    pub key_hash: [u8; 32],
    pub permissions: Vec<String>,
    pub is_disabled: bool,
}

/// The app of this id.
pub async fn by_id(db: &Pool, id: &AppId) -> sqlx::Result<Option<Registered>> {
    let row = sqlx::query!(
        r#"SELECT key_hash, permissions, disabled_at IS NOT NULL AS "is_disabled!" FROM auth.apps WHERE id = $1"#,
        id.as_str()
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let hash = row.key_hash.as_slice().try_into();
        Ok(Registered {
            key_hash: hash.map_err(|_| sqlx::Error::Decode("a key's hash has 32 bytes".into()))?,
            permissions: row.permissions,
            is_disabled: row.is_disabled,
        })
    })
    .transpose()
}

/// The app whose pages are of this origin, which is compared letter by letter. Who registers another
/// app with the origin of one that is there does not take its place.
pub async fn of_origin(db: &Pool, origin: &str) -> sqlx::Result<Option<AppId>> {
    let id = sqlx::query_scalar!(
        "SELECT id FROM auth.apps WHERE disabled_at IS NULL AND $1 = ANY (origins) ORDER BY created_at, id LIMIT 1",
        origin
    )
    .fetch_optional(db)
    .await?;
    id.map(|id| AppId::parse(id).ok_or_else(|| sqlx::Error::Decode("an app's id".into())))
        .transpose()
}

/// The origins of all apps, in order, each once.
pub async fn origins(db: &Pool) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT origin COLLATE "C" AS "origin!" FROM auth.apps, unnest(origins) AS origin
           WHERE disabled_at IS NULL ORDER BY 1"#
    )
    .fetch_all(db)
    .await
}

/// An app as an operator registers it.
pub struct NewApp<'a> {
    /// Its id, as charges name it.
    pub id: &'a AppId,
    /// What people read.
    pub name: &'a str,
    /// Where its pages are, as browsers write `Origin`.
    pub origins: &'a [String],
    /// What its key may do.
    pub permissions: &'a [Permission],
    /// How much its key may grant a UTC day.
    pub daily_grant_cap: Credits,
}

/// Registers an app by the hash of its key.
pub async fn add(db: &mut PgConnection, app: &NewApp<'_>, key_hash: [u8; 32]) -> Result<(), Error> {
    let permissions: Vec<String> = app
        .permissions
        .iter()
        .map(|permission| permission.as_str().to_owned())
        .collect();
    let done = sqlx::query!(
        "INSERT INTO auth.apps (id, name, key_hash, origins, permissions, daily_grant_cap)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        app.id.as_str(),
        app.name,
        &key_hash,
        app.origins,
        &permissions,
        app.daily_grant_cap.thousandths(),
    )
    .execute(db)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Error::Taken(app.id.as_str().to_owned()));
    }
    Ok(())
}

/// An app as an operator sees it.
#[derive(Debug, Serialize)]
pub struct App {
    /// Its id.
    pub id: String,
    /// What people read.
    pub name: String,
    /// Where its pages are.
    pub origins: Vec<String>,
    /// What its key may do.
    pub permissions: Vec<String>,
    /// How much its key may grant a UTC day, in thousandths of a credit.
    pub daily_grant_cap: i64,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// Since when its key is worth nothing.
    pub disabled_at: Option<DateTime<Utc>>,
}

/// Every app.
pub async fn all(db: &mut PgConnection) -> sqlx::Result<Vec<App>> {
    sqlx::query_as!(
        App,
        "SELECT id, name, origins, permissions, daily_grant_cap, created_at, disabled_at
         FROM auth.apps ORDER BY id"
    )
    .fetch_all(db)
    .await
}

/// Puts another key in the place of an app's, which is worth nothing from now on. A disabled
/// app is enabled by it.
pub async fn rotate(db: &mut PgConnection, id: &AppId, key_hash: [u8; 32]) -> Result<(), Error> {
    let done = sqlx::query!(
        "UPDATE auth.apps SET key_hash = $2, disabled_at = NULL WHERE id = $1",
        id.as_str(),
        &key_hash
    )
    .execute(db)
    .await?;
    known(id, done.rows_affected())
}

/// Makes an app's key worth nothing.
pub async fn disable(db: &mut PgConnection, id: &AppId) -> Result<(), Error> {
    let done = sqlx::query!(
        "UPDATE auth.apps SET disabled_at = coalesce(disabled_at, now()) WHERE id = $1",
        id.as_str()
    )
    .execute(db)
    .await?;
    known(id, done.rows_affected())
}

fn known(id: &AppId, rows: u64) -> Result<(), Error> {
    if rows == 0 {
        return Err(Error::Unknown(id.as_str().to_owned()));
    }
    Ok(())
}
