//! The SQL of signing keys, and the seal on their private halves.

use chrono::{DateTime, Utc};
use shared::jwks::SigningKey;
use sqlx::PgConnection;
use zeroize::Zeroizing;

use crate::{
    rim,
    seal::{self, SealingKeys},
};

use super::{
    Error,
    rotation::{Kind, State, Step, Term},
    rsa::RsaKey,
};

/// A key as the database has it.
pub struct Stored {
    /// Where it is in its life.
    pub term: Term,
    /// Its seed, or its PKCS #8, sealed.
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
        "SELECT kid, alg, sealed_seed, state, activate_at, remove_at FROM auth.signing_keys ORDER BY activate_at DESC"
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
        let mut kinds = Kind::ALL.into_iter();
        let Some(kind) = kinds.find(|kind| kind.as_str() == row.alg) else {
            return Err(Error::Unreadable(row.kid));
        };
        let term = Term {
            kid: row.kid,
            kind,
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

/// Whether a client wants an RSA key.
pub async fn wants_rs256(db: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM auth.clients WHERE id_token_alg = 'RS256' AND disabled_at IS NULL) AS "wants!""#
    )
    .fetch_one(db)
    .await
}

/// Carries out one step with a key of this kind.
pub async fn apply(
    db: &mut PgConnection,
    step: &Step,
    algorithm: Kind,
    sealing: &SealingKeys,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    match step {
        Step::Make(state, activate_at) => {
            make(db, algorithm, *state, *activate_at, sealing, now).await?;
        }
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
    algorithm: Kind,
    state: State,
    activate_at: DateTime<Utc>,
    sealing: &SealingKeys,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let (kid, secret) = match algorithm {
        Kind::EdDsa => {
            let seed = rim::random();
            let kid = SigningKey::from_seed(&seed).kid().to_owned();
            (kid, Zeroizing::new(seed.to_vec()))
        }
        Kind::Rs256 => RsaKey::make(),
    };
    sqlx::query!(
        "INSERT INTO auth.signing_keys (kid, alg, sealed_seed, state, published_at, activate_at) VALUES ($1, $2, $3, $4, $5, $6)",
        kid,
        algorithm.as_str(),
        seal::seal(sealing, kid.as_bytes(), &secret),
        state.as_str(),
        now,
        activate_at
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Another seal on the same secret.
pub async fn set_seal(db: &mut PgConnection, kid: &str, sealed: &[u8]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE auth.signing_keys SET sealed_seed = $2 WHERE kid = $1",
        kid,
        sealed
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Opens a seal. Only the key that the row is named after comes out of it.
pub fn open(sealing: &SealingKeys, kid: &str, sealed: &[u8]) -> Result<SigningKey, Error> {
    let opened = seal::open(sealing, kid.as_bytes(), sealed);
    let seed = opened.and_then(|seed| <[u8; 32]>::try_from(seed.as_slice()).ok());
    seed.map(|seed| SigningKey::from_seed(&Zeroizing::new(seed)))
        .filter(|key| key.kid() == kid)
        .ok_or_else(|| Error::Unreadable(kid.to_owned()))
}

/// The same of an RSA key.
pub fn open_rsa(sealing: &SealingKeys, kid: &str, sealed: &[u8]) -> Result<RsaKey, Error> {
    let opened = seal::open(sealing, kid.as_bytes(), sealed);
    opened
        .and_then(|pkcs8| RsaKey::from_pkcs8(&pkcs8))
        .filter(|key| key.jwk().kid == kid)
        .ok_or_else(|| Error::Unreadable(kid.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_that_a_row_is_named_after_comes_out_of_it() {
        let seed = Zeroizing::new([9; 32]);
        let sealing = SealingKeys::new([Zeroizing::new([7; 32])]).expect("a key");
        let kid = SigningKey::from_seed(&seed).kid().to_owned();
        let sealed = seal::seal(&sealing, kid.as_bytes(), seed.as_slice());
        assert_eq!(open(&sealing, &kid, &sealed).expect("opens").kid(), kid);
        let other = seal::seal(&sealing, b"another", seed.as_slice());
        assert!(open(&sealing, "another", &other).is_err());
        let short = seal::seal(&sealing, kid.as_bytes(), &seed[1..]);
        assert!(open(&sealing, &kid, &short).is_err());
    }
}
