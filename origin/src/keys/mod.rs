//! The keys that sign tokens: sealed in the database, rotated by a pure rule, held in memory,
//! published as a key set. `next` keys are published long before they sign, and `retiring`
//! ones until the last token they signed has expired.

mod rotation;
mod routes;
mod store;

use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Bytes;
use base64ct::{Base64UrlUnpadded, Encoding};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use shared::jwks::{JwkSet, KeySet, SigningKey};
use sqlx::{Connection, PgConnection, PgPool};

use crate::{config::Key, revocations};

pub use rotation::{NOTICE, RELOAD_SECS, State, Term};
pub use routes::router;

/// Why there is no key to work with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None was loaded yet.
    #[error("no signing key is loaded")]
    Unavailable,
    /// A row that this `KEY_ENCRYPTION_KEY` does not open.
    #[error("signing key {0} does not open with this KEY_ENCRYPTION_KEY")]
    Unreadable(String),
    /// No key of that name.
    #[error("there is no signing key {0}")]
    Unknown(String),
    /// The database failed.
    #[error("signing keys in the database")]
    Database(#[from] sqlx::Error),
}

/// The keys in memory, and what opens those in the database.
pub struct Keys {
    sealing: Key,
    ring: RwLock<Option<Arc<Ring>>>,
}

/// The keys as they were at one moment.
pub struct Ring {
    /// What signs.
    pub signing: SigningKey,
    /// What verifies.
    pub set: KeySet,
    /// The key set as it is published.
    pub jwks: Bytes,
    /// A name for exactly those bytes.
    pub etag: String,
}

impl Keys {
    /// No keys yet: [`Keys::reload`] brings them.
    #[must_use]
    pub fn new(sealing: Key) -> Self {
        Self {
            sealing,
            ring: RwLock::new(None),
        }
    }

    /// The keys in memory.
    pub fn ring(&self) -> Result<Arc<Ring>, Error> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        ring.clone().ok_or(Error::Unavailable)
    }

    /// Does what is due, then reads the keys again.
    pub async fn reload(&self, db: &PgPool, now: DateTime<Utc>) -> Result<(), Error> {
        let mut connection = db.acquire().await?;
        advance(&mut connection, &self.sealing, now).await?;
        let ring = Ring::open(&self.sealing, &store::all(&mut connection).await?)?;
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ring));
        Ok(())
    }
}

impl Ring {
    fn open(sealing: &Key, stored: &[store::Stored]) -> Result<Self, Error> {
        let mut signing = None;
        let mut public = Vec::with_capacity(stored.len());
        for key in stored {
            // A row that does not open is nobody's key, and must not take the others down.
            match store::open(sealing, &key.term.kid, &key.sealed_seed) {
                Ok(opened) => {
                    public.push(opened.key().clone());
                    if key.term.state == State::Active {
                        signing = Some(opened);
                    }
                }
                Err(error) if key.term.state == State::Active => return Err(error),
                Err(error) => tracing::warn!(%error, "passed over a signing key"),
            }
        }
        let jwks = JwkSet {
            keys: public.iter().map(shared::jwks::Key::jwk).collect(),
        };
        let jwks = Bytes::from(serde_json::to_vec(&jwks).expect("a key set is plain JSON"));
        Ok(Self {
            signing: signing.ok_or(Error::Unavailable)?,
            set: public.into_iter().collect(),
            etag: format!(
                "\"{}\"",
                Base64UrlUnpadded::encode_string(&Sha256::digest(&jwks))
            ),
            jwks,
        })
    }
}

/// Every key, the newest first.
pub async fn list(db: &mut PgConnection) -> Result<Vec<Term>, Error> {
    Ok(store::all(db)
        .await?
        .into_iter()
        .map(|key| key.term)
        .collect())
}

/// Publishes the next key, unless one waits already; it signs after [`NOTICE`].
pub async fn rotate(db: &mut PgConnection, sealing: &Key, now: DateTime<Utc>) -> Result<(), Error> {
    let mut transaction = db.begin().await?;
    store::lock(&mut transaction).await?;
    let waits = store::all(&mut transaction)
        .await?
        .iter()
        .any(|key| key.term.state == State::Next);
    if !waits {
        let step = rotation::Step::Make(State::Next, now + NOTICE);
        store::apply(&mut transaction, &step, sealing, now).await?;
    }
    Ok(transaction.commit().await?)
}

/// Drops a key with all that it signed, tells the edges, and replaces it at once if it was the one that signs.
pub async fn revoke(
    db: &mut PgConnection,
    sealing: &Key,
    kid: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut transaction = db.begin().await?;
    store::lock(&mut transaction).await?;
    if !store::remove(&mut transaction, kid).await? {
        return Err(Error::Unknown(kid.to_owned()));
    }
    advance(&mut transaction, sealing, now).await?;
    revocations::append_key(&mut transaction, kid).await?;
    Ok(transaction.commit().await?)
}

/// Does what is due. Replicas that do so at once wait for one another, and look again.
async fn advance(db: &mut PgConnection, sealing: &Key, now: DateTime<Utc>) -> Result<(), Error> {
    if rotation::plan(&list(db).await?, now).is_empty() {
        return Ok(());
    }
    let mut transaction = db.begin().await?;
    store::lock(&mut transaction).await?;
    for step in rotation::plan(&list(&mut transaction).await?, now) {
        tracing::info!(?step, "signing keys change");
        store::apply(&mut transaction, &step, sealing, now).await?;
    }
    Ok(transaction.commit().await?)
}
