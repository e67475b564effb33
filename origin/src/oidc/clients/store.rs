//! The SQL of the registry of clients. Requests read it; only an operator's connection writes it.

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::api::AppId;
use sqlx::PgConnection;

use crate::db::Pool;

use super::{Alg, Client, Error, GrantType, Method, redirect};

/// The client of this id, unless it is disabled.
pub async fn by_id(db: &Pool, id: &str) -> sqlx::Result<Option<Client>> {
    let row = sqlx::query!(
        "SELECT id, name, auth_method, secret_hash, jwks, grant_types, redirect_uris, post_logout_redirect_uris,
                id_token_alg, requires_pkce
         FROM auth.clients WHERE id = $1 AND disabled_at IS NULL",
        id
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let secret_hash = row.secret_hash.map(<[u8; 32]>::try_from).transpose();
        let decode = |what: &'static str| sqlx::Error::Decode(what.into());
        Ok(Client {
            id: row.id,
            name: row.name,
            method: Method::parse(&row.auth_method).ok_or_else(|| decode("a client's method"))?,
            secret_hash: secret_hash.map_err(|_| decode("a secret's hash has 32 bytes"))?,
            jwks: row.jwks,
            grant_types: row.grant_types,
            redirect_uris: row.redirect_uris,
            post_logout_redirect_uris: row.post_logout_redirect_uris,
            alg: Alg::parse(&row.id_token_alg),
            requires_pkce: row.requires_pkce,
        })
    })
    .transpose()
}

/// A client as an operator registers it.
pub struct NewClient<'a> {
    /// Its `client_id`.
    pub id: &'a AppId,
    /// What people read.
    pub name: &'a str,
    /// Whether it can keep no secret.
    pub public: bool,
    /// The key set that it signs with, in place of a secret.
    pub jwks: Option<Value>,
    /// What it may ask tokens for.
    pub grant_types: &'a [GrantType],
    /// Where people come back to.
    pub redirect_uris: &'a [String],
    /// Where they may go when they have signed out.
    pub post_logout_redirect_uris: &'a [String],
    /// Where it hears that somebody has signed out.
    pub backchannel_logout_uri: Option<&'a str>,
    /// What its `id_token`s are signed with.
    pub alg: Alg,
    /// Whether nobody is asked for it.
    pub trusted: bool,
    /// Whether its codes may be bound to nothing.
    pub without_pkce: bool,
    /// The server name, where it is a Matrix server.
    pub matrix_server: Option<&'a str>,
}

impl NewClient<'_> {
    fn method(&self) -> Result<Method, Error> {
        if let Some(set) = &self.jwks {
            let keys = set["keys"].as_array().filter(|keys| !keys.is_empty());
            let are_public = keys.is_some_and(|keys| {
                let secrets = ["d", "k", "p", "q"];
                keys.iter()
                    .all(|key| secrets.iter().all(|secret| key.get(secret).is_none()))
            });
            if !are_public {
                return Err(Error::Contradiction(
                    "the key set must have public keys alone",
                ));
            }
        }
        let is_assured = self
            .redirect_uris
            .iter()
            .all(|uri| redirect::is_assured(uri));
        if self.public && self.trusted && !is_assured {
            return Err(Error::Contradiction(
                "a public client without an https:// address is never trusted: any program can say it is it",
            ));
        }
        let is_for_itself = self.grant_types.contains(&GrantType::Itself);
        match (self.public, &self.jwks) {
            (true, Some(_)) => Err(Error::Contradiction("a public client has no keys")),
            (true, None) if is_for_itself || self.without_pkce => Err(Error::Contradiction(
                "a public client has PKCE, and no tokens of its own",
            )),
            (true, None) => Ok(Method::None),
            (false, Some(_)) => Ok(Method::Key),
            (false, None) => Ok(Method::Secret),
        }
    }
}

/// Registers a client; whether the secret of this hash is its, is the answer.
pub async fn add(
    db: &mut PgConnection,
    client: &NewClient<'_>,
    secret_hash: [u8; 32],
) -> Result<bool, Error> {
    let method = client.method()?;
    let grant_types: Vec<String> = client
        .grant_types
        .iter()
        .map(|grant_type| grant_type.as_str().to_owned())
        .collect();
    let has_secret = method == Method::Secret;
    let done = sqlx::query!(
        "INSERT INTO auth.clients
             (id, name, auth_method, secret_hash, jwks, grant_types, redirect_uris, post_logout_redirect_uris,
              backchannel_logout_uri, id_token_alg, trusted, requires_pkce, matrix_server)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING",
        client.id.as_str(),
        client.name,
        method.as_str(),
        has_secret.then_some(secret_hash.as_slice()),
        client.jwks,
        &grant_types,
        client.redirect_uris,
        client.post_logout_redirect_uris,
        client.backchannel_logout_uri,
        client.alg.to_string(),
        client.trusted,
        !client.without_pkce,
        client.matrix_server,
    )
    .execute(db)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Error::Taken(client.id.as_str().to_owned()));
    }
    Ok(has_secret)
}

/// A client as an operator sees it.
pub struct Listed {
    /// Its `client_id`.
    pub id: String,
    /// What people read.
    pub name: String,
    /// How it says who it is.
    pub auth_method: String,
    /// What it may ask tokens for.
    pub grant_types: Vec<String>,
    /// Where people come back to.
    pub redirect_uris: Vec<String>,
    /// What its `id_token`s are signed with.
    pub id_token_alg: String,
    /// Whether nobody is asked for it.
    pub trusted: bool,
    /// Since when it is nobody.
    pub disabled_at: Option<DateTime<Utc>>,
}

/// Every client.
pub async fn all(db: &mut PgConnection) -> sqlx::Result<Vec<Listed>> {
    sqlx::query_as!(
        Listed,
        "SELECT id, name, auth_method, grant_types, redirect_uris, id_token_alg, trusted, disabled_at
         FROM auth.clients ORDER BY id"
    )
    .fetch_all(db)
    .await
}

/// Puts another secret in the place of a client's, which is worth nothing from now on. A disabled
/// client is enabled by it.
pub async fn rotate(db: &mut PgConnection, id: &AppId, secret_hash: [u8; 32]) -> Result<(), Error> {
    let done = sqlx::query!(
        "UPDATE auth.clients SET secret_hash = $2, disabled_at = NULL
         WHERE id = $1 AND auth_method = 'client_secret'",
        id.as_str(),
        &secret_hash
    )
    .execute(&mut *db)
    .await?;
    if done.rows_affected() == 1 {
        return Ok(());
    }
    let id = id.as_str().to_owned();
    let known = sqlx::query_scalar!("SELECT 1 FROM auth.clients WHERE id = $1", id);
    match known.fetch_optional(db).await? {
        Some(_) => Err(Error::NoSecret(id)),
        None => Err(Error::Unknown(id)),
    }
}

/// Makes a client nobody: its tokens are worth nothing while it is.
pub async fn disable(db: &mut PgConnection, id: &AppId) -> Result<(), Error> {
    let done = sqlx::query!(
        "UPDATE auth.clients SET disabled_at = coalesce(disabled_at, now()) WHERE id = $1",
        id.as_str()
    )
    .execute(db)
    .await?;
    if done.rows_affected() == 0 {
        return Err(Error::Unknown(id.as_str().to_owned()));
    }
    Ok(())
}
