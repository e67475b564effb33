//! The SQL of signing keys, and the seal on their private halves.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use chrono::{DateTime, Utc};
use shared::jwks::SigningKey;
use sqlx::PgConnection;
use zeroize::Zeroizing;

use crate::{config::Key, rim};

use super::{
    Error,
    rotation::{State, Step, Term},
};

const NONCE_BYTES: usize = 24;

/// A key as the database has it.
pub struct Stored {
    /// Where it is in its life.
    pub term: Term,
    /// Its seed, sealed.
    pub sealed_seed: Vec<u8>,
}

/// Takes the lock under which keys change, until the transaction ends.
pub async fn lock(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        r#"SELECT pg_advisory_xact_lock(hashtext('tollgate signing keys')) AS "done: ()""#
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// Every key, the newest first.
pub async fn all(db: &mut PgConnection) -> Result<Vec<Stored>, Error> {
    let rows = sqlx::query!(
        "SELECT kid, sealed_seed, state, activate_at, remove_at FROM auth.signing_keys ORDER BY activate_at DESC"
    )
    .fetch_all(db)
    .await?;
    let keys = rows.into_iter().map(|row| {
        let state = match row.state.as_str() {
            "next" => State::Next,
            "active" => State::Active,
            "retiring" => State::Retiring,
            _ => return Err(Error::Unreadable(row.kid)),
        };
        let term = Term {
            kid: row.kid,
            state,
            activate_at: row.activate_at,
            remove_at: row.remove_at,
        };
        Ok(Stored {
            term,
            sealed_seed: row.sealed_seed,
        })
    });
    keys.collect()
}

/// Carries out one step.
pub async fn apply(
    db: &mut PgConnection,
    step: &Step,
    sealing: &Key,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    match step {
        Step::Make(state, activate_at) => make(db, *state, *activate_at, sealing, now).await?,
        Step::Retire(kid, remove_at) => {
            sqlx::query!(
                "UPDATE auth.signing_keys SET state = 'retiring', remove_at = $2 WHERE kid = $1",
                kid,
                remove_at
            )
            .execute(db)
            .await?;
        }
        Step::Activate(kid) => {
            sqlx::query!(
                "UPDATE auth.signing_keys SET state = 'active', activate_at = $2 WHERE kid = $1",
                kid,
                now
            )
            .execute(db)
            .await?;
        }
        Step::Remove(kid) => {
            remove(db, kid).await?;
        }
    }
    Ok(())
}

/// Forgets a key; says whether there was one.
pub async fn remove(db: &mut PgConnection, kid: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("DELETE FROM auth.signing_keys WHERE kid = $1", kid)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

async fn make(
    db: &mut PgConnection,
    state: State,
    activate_at: DateTime<Utc>,
    sealing: &Key,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let seed = rim::random();
    let key = SigningKey::from_seed(&seed);
    let state = if state == State::Active {
        "active"
    } else {
        "next"
    };
    sqlx::query!(
        "INSERT INTO auth.signing_keys (kid, sealed_seed, state, published_at, activate_at) VALUES ($1, $2, $3, $4, $5)",
        key.kid(),
        seal(sealing, key.kid(), &seed)?,
        state,
        now,
        activate_at
    )
    .execute(db)
    .await?;
    Ok(())
}

fn seal(sealing: &Key, kid: &str, seed: &Key) -> Result<Vec<u8>, Error> {
    let nonce = rim::random::<NONCE_BYTES>();
    let payload = Payload {
        msg: seed.as_slice(),
        aad: kid.as_bytes(),
    };
    let sealed = XChaCha20Poly1305::new((&**sealing).into())
        .encrypt(&XNonce::from(*nonce), payload)
        .map_err(|_| Error::Unreadable(kid.to_owned()))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

/// Opens a seal. Only the key that the row is named after comes out of it.
pub fn open(sealing: &Key, kid: &str, sealed: &[u8]) -> Result<SigningKey, Error> {
    let unreadable = || Error::Unreadable(kid.to_owned());
    let (nonce, sealed) = sealed
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or_else(unreadable)?;
    let payload = Payload {
        msg: sealed,
        aad: kid.as_bytes(),
    };
    let opened = XChaCha20Poly1305::new((&**sealing).into())
        .decrypt(&XNonce::from(*nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| unreadable())?;
    let mut seed = Zeroizing::new([0; 32]);
    if opened.len() != seed.len() {
        return Err(unreadable());
    }
    seed.copy_from_slice(&opened);
    let key = SigningKey::from_seed(&seed);
    if key.kid() == kid {
        Ok(key)
    } else {
        Err(unreadable())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_for_its_own_key_and_name_alone() {
        let (sealing, seed) = (Zeroizing::new([7; 32]), Zeroizing::new([9; 32]));
        let kid = SigningKey::from_seed(&seed).kid().to_owned();
        let sealed = seal(&sealing, &kid, &seed).expect("sealed");
        assert!(!sealed.windows(32).any(|window| window == seed.as_slice()));
        assert_eq!(open(&sealing, &kid, &sealed).expect("opens").kid(), kid);
        assert!(open(&Zeroizing::new([8; 32]), &kid, &sealed).is_err());
        assert!(open(&sealing, "another", &sealed).is_err());
        assert!(open(&sealing, &kid, &sealed[..20]).is_err());
    }
}
