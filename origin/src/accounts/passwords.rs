//! Password hashing off the async threads, a bounded number at once and a bounded number
//! waiting: past that, callers are told to come back, and the process never piles up.

use std::{num::NonZeroUsize, sync::Arc, thread};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, Version,
    password_hash::{Error, phc::PasswordHash},
};
use shared::api::Password;
use tokio::{
    sync::{Semaphore, TryAcquireError},
    task,
};

use crate::config::PasswordConfig;

use super::{
    common::{self, Breaches},
    foreign,
};

/// Hashes and verifies passwords with argon2id.
#[derive(Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    /// A hash that no password has, for accounts that are not there.
    dummy: Arc<str>,
    /// What knows the passwords of breaches, where there is one.
    breaches: Option<Breaches>,
    /// A place for all who hash or wait.
    places: Arc<Semaphore>,
    /// A worker for those who hash.
    workers: Arc<Semaphore>,
}

/// Why a password was not hashed or compared.
#[derive(Debug, thiserror::Error)]
pub enum NotHashed {
    /// Too many wait already.
    #[error("the queue for password hashing is full")]
    QueueFull,
    /// Whoever guesses tries it first.
    #[error("the password is too common")]
    TooCommon,
    /// A stored hash that cannot be read, or no memory.
    #[error("hashing a password")]
    Failed(#[from] Error),
    /// The worker panicked.
    #[error("a password worker died")]
    Died(#[from] task::JoinError),
}

/// How a password compares with a hash.
#[derive(Debug, Eq, PartialEq)]
pub enum Comparison {
    /// It is another one.
    Differs,
    /// It is the one.
    Matches {
        /// A hash as it is made today, when the stored one was not.
        rehashed: Option<String>,
    },
}

impl Passwords {
    /// Workers and a queue with these parameters.
    pub fn new(config: &PasswordConfig) -> anyhow::Result<Self> {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, config.params()?);
        let workers = config
            .password_workers
            .or_else(|| thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get);
        Ok(Self {
            dummy: argon2
                .hash_password(b"the password of nobody")?
                .to_string()
                .into(),
            argon2,
            breaches: config
                .breach_api_base
                .as_ref()
                .map(|base| Breaches::new(base.as_str()))
                .transpose()?,
            places: Arc::new(Semaphore::new(workers + config.password_queue)),
            workers: Arc::new(Semaphore::new(workers)),
        })
    }

    /// A PHC string of a new password, unless guessers try it first.
    pub async fn hash(&self, password: Password) -> Result<String, NotHashed> {
        let is_known = match &self.breaches {
            _ if common::is_common(&password) => true,
            Some(breaches) => breaches.know(&password).await,
            None => false,
        };
        if is_known {
            return Err(NotHashed::TooCommon);
        }
        self.run(move |argon2| hash(argon2, &password)).await
    }

    /// Compares with an account's hash, or for as long with nobody's.
    pub async fn compare(
        &self,
        password: Password,
        phc: Option<String>,
    ) -> Result<Comparison, NotHashed> {
        let dummy = Arc::clone(&self.dummy);
        self.run(move |argon2| {
            let stored = phc.as_deref().unwrap_or(&dummy);
            if !foreign::matches(argon2, password.as_bytes(), stored)? || phc.is_none() {
                return Ok(Comparison::Differs);
            }
            let rehashed = (!is_current(argon2.params(), stored)).then(|| hash(argon2, &password));
            Ok(Comparison::Matches {
                rehashed: rehashed.transpose()?,
            })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Argon2<'static>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, NotHashed> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                return Err(NotHashed::QueueFull);
            }
        };
        let worker = Arc::clone(&self.workers)
            .acquire_owned()
            .await
            .map_err(|_| NotHashed::QueueFull)?;
        let argon2 = self.argon2.clone();
        // The permits go along: a caller who leaves does not make room while his work is still done.
        let done = task::spawn_blocking(move || {
            let result = work(&argon2);
            drop((worker, place));
            result
        });
        Ok(done.await??)
    }
}

fn hash(argon2: &Argon2<'_>, password: &Password) -> Result<String, Error> {
    Ok(argon2.hash_password(password.as_bytes())?.to_string())
}

fn is_current(params: &Params, stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|stored| {
        stored.algorithm == argon2::ARGON2ID_IDENT
            && Params::try_from(&stored).is_ok_and(|stored| {
                (stored.m_cost(), stored.t_cost(), stored.p_cost())
                    == (params.m_cost(), params.t_cost(), params.p_cost())
            })
    })
}
