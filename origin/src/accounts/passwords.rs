//! Password hashing off the async threads, a bounded number at once and a bounded number
//! waiting: past that, callers are told to come back, and the process never piles up.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHasher, Version,
    password_hash::{
        Error,
        phc::{Output, PasswordHash, Salt},
    },
};
use metrics::histogram;
use shared::api::Password;
use subtle::ConstantTimeEq;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError},
    task,
    time::sleep,
};

use crate::config::PasswordConfig;

use super::{
    common::{self, Breaches},
    foreign,
};

/// Hashes and verifies passwords with argon2id.
#[derive(Clone)]
pub struct Passwords {
    hasher: Hasher,
    /// A hash that no password has, for accounts that are not there.
    dummy: Arc<str>,
    /// What knows the passwords of breaches, where there is one.
    breaches: Option<Breaches>,
    /// A place for all who hash or wait.
    places: Arc<Semaphore>,
    /// A worker for those who hash.
    workers: Arc<Semaphore>,
}

/// A place among those who hash or wait, or write what comes of it.
#[derive(Debug)]
#[must_use]
pub struct Place {
    _permit: OwnedSemaphorePermit,
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
#[derive(Debug)]
pub enum Comparison {
    /// It is another one.
    Differs,
    /// It is the one.
    Matches {
        /// A hash as it is made today, when the stored one was not.
        rehashed: Option<String>,
        /// To be kept until what comes of it is written: sign-ins that are let through faster than
        /// they are written would line up for the database.
        place: Place,
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
        let begun = Instant::now();
        let dummy = argon2.hash_password(b"the password of nobody")?;
        let refusal = Refusal(AtomicU64::new(0));
        refusal.at_least(2 * begun.elapsed());
        Ok(Self {
            dummy: dummy.to_string().into(),
            hasher: Hasher {
                argon2,
                spare: Arc::default(),
                refusal: Arc::new(refusal),
            },
            breaches: config
                .breach_api_base
                .as_ref()
                .map(|base| Breaches::new(base.as_str()))
                .transpose()?,
            places: Arc::new(Semaphore::new(workers + config.password_queue)),
            workers: Arc::new(Semaphore::new(workers)),
        })
    }

    /// A place, or none when too many wait. Who compares takes it before asking the database, where
    /// those who will find no place would keep everybody else waiting.
    pub fn place(&self) -> Result<Place, NotHashed> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: permit }),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => Err(NotHashed::QueueFull),
        }
    }

    /// How many more may come: at none, whoever comes is refused.
    pub fn free_places(&self) -> usize {
        self.places.available_permits()
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
        let place = self.place()?;
        let (phc, _) = self
            .run(place, move |hasher| hasher.hash(&password))
            .await?;
        Ok(phc)
    }

    /// Compares with an account's hash, or for as long with nobody's.
    pub async fn compare(
        &self,
        place: Place,
        password: Password,
        phc: Option<String>,
    ) -> Result<Comparison, NotHashed> {
        let dummy = Arc::clone(&self.dummy);
        let ((matched, took), place) = self
            .run(place, move |hasher| {
                let begun = Instant::now();
                let stored = phc.as_deref().unwrap_or(&dummy);
                let current = hasher.current(stored);
                let matches = match &current {
                    Some((salt, made)) => hasher.matches(&password, salt, made)?,
                    None => foreign::matches(&hasher.argon2, password.as_bytes(), stored)?,
                };
                let took = begun.elapsed();
                if current.is_none() {
                    hasher.refusal.at_least(took);
                }
                if !matches || phc.is_none() {
                    return Ok((None, took));
                }
                let rehashed = current.is_none().then(|| hasher.hash(&password));
                Ok((Some(rehashed.transpose()?), took))
            })
            .await?;
        if let Some(rehashed) = matched {
            return Ok(Comparison::Matches { rehashed, place });
        }
        // Whoever waits here was let through by the queue.
        drop(place);
        sleep(self.hasher.refusal.lasts().saturating_sub(took)).await;
        Ok(Comparison::Differs)
    }

    async fn run<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce(&Hasher) -> Result<T, Error> + Send + 'static,
    ) -> Result<(T, Place), NotHashed> {
        let begun = Instant::now();
        let worker = Arc::clone(&self.workers)
            .acquire_owned()
            .await
            .map_err(|_| NotHashed::QueueFull)?;
        histogram!("tollgate_password_wait_seconds").record(begun.elapsed());
        let hasher = self.hasher.clone();
        // The permits go along: a caller who leaves does not make room while his work is still done.
        let done = task::spawn_blocking(move || {
            let begun = Instant::now();
            let result = work(&hasher);
            histogram!("tollgate_password_hash_seconds").record(begun.elapsed());
            drop(worker);
            (result, place)
        });
        let (result, place) = done.await?;
        Ok((result?, place))
    }
}

/// How long comparing lasts at least when it ends in a refusal. Hashes of another service take another
/// time than ours, which would tell whose account they are: a refusal lasts twice as long as a
/// hash of ours did at the start, or as long as the slowest of another's has, and does so for
/// every address.
struct Refusal(AtomicU64);

/// However slow a hash of another service is.
const LONGEST_REFUSAL: Duration = Duration::from_secs(1);

impl Refusal {
    fn at_least(&self, took: Duration) {
        let micros = took.min(LONGEST_REFUSAL).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        self.0.fetch_max(micros, Ordering::Relaxed);
    }

    fn lasts(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// Hashes as it is done today.
#[derive(Clone)]
struct Hasher {
    argon2: Argon2<'static>,
    /// Memory of hashes that are done, for at most as many as there are workers. To be given 19 MiB
    /// anew, page by page, is a part of the time that a hash takes.
    spare: Arc<Mutex<Vec<Vec<Block>>>>,
    refusal: Arc<Refusal>,
}

impl Hasher {
    fn hash(&self, password: &Password) -> Result<String, Error> {
        Ok(self.argon2.hash_password(password.as_bytes())?.to_string())
    }

    /// The salt and the output of a hash that is as they are made today.
    fn current(&self, stored: &str) -> Option<(Salt, Output)> {
        let (stored, params) = (PasswordHash::new(stored).ok()?, self.argon2.params());
        let theirs = Params::try_from(&stored).ok()?;
        let is_current = stored.algorithm == argon2::ARGON2ID_IDENT
            && stored.version == Some(Version::V0x13.into())
            && theirs.data().is_empty()
            && (theirs.m_cost(), theirs.t_cost(), theirs.p_cost())
                == (params.m_cost(), params.t_cost(), params.p_cost());
        stored
            .salt
            .zip(stored.hash)
            .filter(|(_, made)| is_current && made.len() == Params::DEFAULT_OUTPUT_LEN)
    }

    /// Whether this password makes this output, compared in constant time.
    fn matches(&self, password: &Password, salt: &Salt, made: &Output) -> Result<bool, Error> {
        let spare = self.spare().pop();
        let mut memory =
            spare.unwrap_or_else(|| vec![Block::new(); self.argon2.params().block_count()]);
        let mut output = vec![0; made.len()];
        let hashed = self.argon2.hash_password_into_with_memory(
            password.as_bytes(),
            salt,
            &mut output,
            &mut memory,
        );
        self.spare().push(memory);
        hashed?;
        Ok(output.as_slice().ct_eq(made.as_bytes()).into())
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<Block>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use clap::Parser;
    use futures_util::{FutureExt, future::join_all};

    use shared::api::{self, Login};

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        passwords: PasswordConfig,
    }

    fn passwords() -> Passwords {
        let flags = Flags::parse_from([
            "origin",
            "--argon2-memory-kib=64",
            "--argon2-passes=1",
            "--password-workers=1",
            "--password-queue=9",
        ]);
        Passwords::new(&flags.passwords).expect("good parameters")
    }

    fn password(text: &str) -> Password {
        let body = format!(r#"{{"email": "ada@example.org", "password": "{text}"}}"#);
        let login: Login = api::parse(body.as_bytes()).expect("a body");
        login.password
    }

    #[tokio::test]
    async fn hashes_take_turns_with_one_memory_and_do_not_mix() {
        let passwords = passwords();
        let texts: Vec<String> = (0..5)
            .map(|number| format!("horse number {number}"))
            .collect();
        let hash = texts.iter().map(|text| passwords.hash(password(text)));
        let hashes = join_all(hash).await;
        let pairs = texts.iter().zip(&hashes).map(|(text, phc)| {
            let phc = phc.as_ref().expect("a hash").clone();
            let place = passwords.place().expect("a place");
            passwords.compare(place, password(text), Some(phc))
        });
        for compared in join_all(pairs).await {
            assert!(matches!(
                compared.expect("compared"),
                Comparison::Matches { rehashed: None, .. }
            ));
        }
        for text in &texts[1..] {
            let phc = hashes[0].as_ref().expect("a hash").clone();
            let place = passwords.place().expect("a place");
            let compared = passwords.compare(place, password(text), Some(phc)).await;
            assert!(matches!(compared, Ok(Comparison::Differs)));
        }
        assert_eq!(passwords.hasher.spare().len(), 1);
    }

    #[tokio::test]
    async fn who_leaves_while_he_waits_makes_room() {
        let passwords = passwords();
        let worker = passwords.workers.acquire().await.expect("a worker");
        {
            let place = passwords.place().expect("a place");
            let mut waits = pin!(passwords.compare(place, password("correct horse"), None));
            assert!(waits.as_mut().now_or_never().is_none());
            assert_eq!(passwords.places.available_permits(), 9);
        }
        assert_eq!(passwords.places.available_permits(), 10);
        drop(worker);
        let place = passwords.place().expect("a place");
        let compared = passwords
            .compare(place, password("correct horse"), None)
            .await;
        assert!(matches!(compared, Ok(Comparison::Differs)));
    }
}
