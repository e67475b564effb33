//! The keys that sign tokens: sealed in the database, rotated by a pure rule, held in memory,
//! published as a key set. `next` keys are published long before they sign, and `retiring`
//! ones until the last token they signed has expired.

mod rotation;
mod routes;
mod rsa;
mod store;

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use axum::body::Bytes;
use base64ct::{Base64UrlUnpadded, Encoding};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::jwks::{Jwk, KeySet, SigningKey};
use sqlx::{Connection, PgConnection};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    db::Pool,
    revocations,
    seal::{self, SealingKeys},
};

pub use rotation::{Kind, NOTICE, RELOAD_SECS, State, Term};
pub use routes::{router, serve};
pub use rsa::RsaKey;

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
    sealing: SealingKeys,
    /// With the number of the look that found them.
    ring: RwLock<Option<(u64, Arc<Ring>)>>,
    looks: AtomicU64,
    /// What was found by a look before this one may have a key in it that was revoked.
    good_from: AtomicU64,
    /// Whoever sees to that holds this.
    catching_up: Mutex<()>,
}

/// The keys as they were at one moment.
pub struct Ring {
    /// What signs.
    pub signing: SigningKey,
    /// What verifies.
    pub set: KeySet,
    /// What signs for relying parties that know RSA alone, once there is one, and since when.
    rsa: Option<(DateTime<Utc>, RsaKey)>,
    /// The other RSA keys that verify.
    other_rsa: Vec<RsaKey>,
    /// The key set as it is published.
    pub published: Document,
    /// The RSA keys of it, for programs that choke on others.
    pub published_rsa: Document,
    since: Vec<(Kind, DateTime<Utc>)>,
}

/// A key set as bytes.
pub struct Document {
    /// The bytes.
    pub jwks: Bytes,
    /// A name for exactly those.
    pub etag: String,
}

#[derive(Serialize)]
struct Set<'a> {
    keys: &'a [Entry],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Okp(Jwk),
    Rsa(rsa::Jwk),
}

impl Document {
    fn of(keys: &[Entry]) -> Self {
        let jwks = serde_json::to_vec(&Set { keys }).expect("a key set is plain JSON");
        let digest = Base64UrlUnpadded::encode_string(&Sha256::digest(&jwks));
        Self {
            jwks: jwks.into(),
            etag: format!("\"{digest}\""),
        }
    }
}

impl Keys {
    /// No keys yet: [`Keys::reload`] brings them.
    #[must_use]
    pub fn new(sealing: SealingKeys) -> Self {
        Self {
            sealing,
            ring: RwLock::new(None),
            looks: AtomicU64::new(0),
            good_from: AtomicU64::new(0),
            catching_up: Mutex::const_new(()),
        }
    }

    /// The keys in memory.
    pub fn ring(&self) -> Result<Arc<Ring>, Error> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let (_, ring) = ring.as_ref().ok_or(Error::Unavailable)?;
        Ok(Arc::clone(ring))
    }

    /// Notes that one of them was revoked.
    pub fn fall_behind(&self) {
        let next = self.looks.load(Ordering::Relaxed);
        self.good_from.fetch_max(next, Ordering::Relaxed);
    }

    /// Whether one that was revoked may be here still.
    pub fn are_behind(&self) -> bool {
        let kept = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let good_from = self.good_from.load(Ordering::Relaxed);
        kept.as_ref().is_none_or(|(look, _)| *look < good_from)
    }

    /// The right to see to that, unless somebody has it.
    pub fn catch_up(&self) -> Option<MutexGuard<'_, ()>> {
        self.catching_up.try_lock().ok()
    }

    /// Does what is due, then reads the keys again.
    pub async fn reload(&self, db: &Pool, now: DateTime<Utc>) -> Result<(), Error> {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        let mut transaction = db.begin().await?;
        advance(&mut transaction, &self.sealing, now).await?;
        let ring = Ring::open(&self.sealing, &store::all(&mut transaction).await?)?;
        transaction.commit().await?;
        // What was looked for earlier never takes the place of what was looked for later: a key that was
        // revoked in between stays away.
        let mut kept = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(last, _)| *last < look) {
            *kept = Some((look, Arc::new(ring)));
        }
        Ok(())
    }
}

impl Ring {
    fn open(sealing: &SealingKeys, stored: &[store::Stored]) -> Result<Self, Error> {
        let (mut signing, mut rsa) = (None, None);
        let active = stored.iter().map(|key| &key.term);
        let active = active.filter(|term| term.state == State::Active);
        let since = active.map(|term| (term.kind, term.activate_at)).collect();
        let (mut public, mut other_rsa) = (Vec::with_capacity(stored.len()), Vec::new());
        for key in stored {
            let Term { kid, kind, .. } = &key.term;
            let is_active = key.term.state == State::Active;
            // A row that does not open is nobody's key, and must not take the others down.
            let opened = match kind {
                Kind::EdDsa => store::open(sealing, kid, &key.sealed_seed).map(|opened| {
                    public.push(opened.key().clone());
                    if is_active {
                        signing = Some(opened);
                    }
                }),
                Kind::Rs256 => store::open_rsa(sealing, kid, &key.sealed_seed).map(|opened| {
                    if is_active {
                        rsa = Some((key.term.activate_at, opened));
                    } else {
                        other_rsa.push(opened);
                    }
                }),
            };
            match opened {
                Err(error) if is_active && *kind == Kind::EdDsa => return Err(error),
                Err(error) => tracing::warn!(%error, "passed over a signing key"),
                Ok(()) => {}
            }
        }
        let okp = public.iter().map(|key| Entry::Okp(key.jwk()));
        let of_rsa = || {
            let first = rsa.iter().map(|(_, key)| key);
            first
                .chain(&other_rsa)
                .map(|key| Entry::Rsa(key.jwk().clone()))
        };
        let published = Document::of(&okp.chain(of_rsa()).collect::<Vec<_>>());
        let published_rsa = Document::of(&of_rsa().collect::<Vec<_>>());
        Ok(Self {
            signing: signing.ok_or(Error::Unavailable)?,
            set: public.into_iter().collect(),
            rsa,
            other_rsa,
            published,
            published_rsa,
            since,
        })
    }

    /// What signs for relying parties that know RSA alone.
    pub fn rsa(&self, now: DateTime<Utc>) -> Result<&RsaKey, Error> {
        match &self.rsa {
            Some((since, key)) if *since <= now => Ok(key),
            _ => Err(Error::Unavailable),
        }
    }

    /// Every RSA key that verifies.
    pub fn all_rsa(&self) -> impl Iterator<Item = &RsaKey> {
        let first = self.rsa.iter().map(|(_, key)| key);
        first.chain(&self.other_rsa)
    }

    /// Since when each algorithm's key signs.
    pub fn signing_since(&self) -> impl Iterator<Item = (&'static str, DateTime<Utc>)> {
        let since = self.since.iter();
        since.map(|(kind, since)| (kind.as_str(), *since))
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

/// Whether the key that signs is there, and is opened by this; fails where it is there and is not.
pub async fn open_with(db: &mut PgConnection, sealing: &SealingKeys) -> Result<bool, Error> {
    let stored = store::all(db).await?;
    let is_there = !stored.is_empty();
    if is_there {
        Ring::open(sealing, &stored)?;
    }
    Ok(is_there)
}

/// Publishes the next key, unless one waits already; it signs after [`NOTICE`].
pub async fn rotate(
    db: &mut PgConnection,
    sealing: &SealingKeys,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut transaction = db.begin().await?;
    store::lock(&mut transaction).await?;
    let keys = list(&mut transaction).await?;
    for kind in Kind::ALL {
        let mut same = keys.iter().filter(|key| key.kind == kind);
        let is_used = kind == Kind::EdDsa || same.clone().next().is_some();
        if is_used && !same.any(|key| key.state == State::Next) {
            let step = rotation::Step::Make(State::Next, now + NOTICE);
            store::apply(&mut transaction, &step, kind, sealing, now).await?;
        }
    }
    Ok(transaction.commit().await?)
}

/// Drops a key with all that it signed, tells the edges, and replaces it at once if it was the one that signs.
pub async fn revoke(
    db: &mut PgConnection,
    sealing: &SealingKeys,
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

/// Seals by the first sealing key what another has sealed; counts that.
pub async fn reseal(db: &mut PgConnection, sealing: &SealingKeys) -> Result<u64, Error> {
    let mut transaction = db.begin().await?;
    store::lock(&mut transaction).await?;
    let mut count = 0;
    for key in store::all(&mut transaction).await? {
        let kid = key.term.kid;
        let sealed = seal::reseal(sealing, kid.as_bytes(), &key.sealed_seed);
        if let Some(sealed) = sealed.map_err(|_| Error::Unreadable(kid.clone()))? {
            store::set_seal(&mut transaction, &kid, &sealed).await?;
            count += 1;
        }
    }
    transaction.commit().await?;
    Ok(count)
}

/// Does what is due. Replicas that do so at once wait for one another, and look again.
async fn advance(
    db: &mut PgConnection,
    sealing: &SealingKeys,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if plan(db, now).await?.is_empty() {
        return Ok(());
    }
    let mut transaction = db.begin().await?;
    store::lock(&mut transaction).await?;
    for (kind, step) in plan(&mut transaction, now).await? {
        tracing::info!(?step, ?kind, "signing keys change");
        store::apply(&mut transaction, &step, kind, sealing, now).await?;
    }
    Ok(transaction.commit().await?)
}

/// What is due. RSA keys there are from when somebody wants one.
async fn plan(
    db: &mut PgConnection,
    now: DateTime<Utc>,
) -> Result<Vec<(Kind, rotation::Step)>, Error> {
    let keys = list(db).await?;
    let mut steps = Vec::new();
    for kind in Kind::ALL {
        let same: Vec<Term> = keys
            .iter()
            .filter(|key| key.kind == kind)
            .cloned()
            .collect();
        if kind == Kind::EdDsa || !same.is_empty() || store::wants_rs256(db).await? {
            let plan = rotation::plan(kind, &same, now);
            steps.extend(plan.into_iter().map(|step| (kind, step)));
        }
    }
    Ok(steps)
}
