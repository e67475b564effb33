//! The second factor: an authenticator app, and recovery codes for the day it is lost. Who has
//! confirmed one is half signed in after the first step, by a token of five minutes and one use,
//! and gets a session for a code. The database opens none without it (`auth.open_session`), and [`prove`]
//! is the one place where a code is judged, with the factor's row locked.

mod recovery;
mod routes;
mod store;
mod totp;

use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};
use shared::{
    api::{MfaCode, SecondStepAsked},
    ids::UserId,
};
use sqlx::{Connection, PgConnection};

use crate::{accounts::Arrival, front::Client, rim, seal::SealingKeys, sessions};

pub use routes::{begin, confirm, new_codes, remove, router, second_step};
pub use store::{forget_begun, standing};

/// Wrong codes in a row that are let pass.
const PATIENCE: i32 = 5;
/// The first pause after that, and the longest.
const PAUSE_SECS: i32 = 60;
const LONGEST_PAUSE_SECS: i32 = 24 * 60 * 60;

/// Why a second factor was not enrolled, shown or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is one, which must be removed first.
    #[error("there is a second factor already")]
    AlreadyOn,
    /// There is none.
    #[error("there is no second factor")]
    NotOn,
    /// Nothing to confirm, or it was begun too long ago.
    #[error("no second factor is being enrolled")]
    NotBegun,
    /// No half sign-in goes with the token; why, nobody learns.
    #[error("the token of the second step is not good")]
    BadToken,
    /// At the second step.
    #[error("the code is wrong")]
    WrongCode,
    /// In a call of somebody who is signed in.
    #[error("the code is not a good one")]
    CodeRefused,
    /// None is looked at for a while.
    #[error("too many wrong codes")]
    TooManyWrong {
        /// How long, in seconds.
        retry_after_secs: u32,
    },
    /// A row that this `KEY_ENCRYPTION_KEY` does not open.
    #[error("the second factor of {0} does not open with this KEY_ENCRYPTION_KEY")]
    Unreadable(UserId),
    /// The database failed.
    #[error("second factors in the database")]
    Database(#[from] sqlx::Error),
}

/// What was shown.
#[derive(Clone, Copy)]
enum Means {
    App,
    RecoveryCode,
}

impl Means {
    /// What it adds to `amr` (RFC 8176, which has no word for recovery codes).
    const fn amr(self) -> &'static [&'static str] {
        match self {
            Self::App => &["otp", "mfa"],
            Self::RecoveryCode => &["mfa"],
        }
    }
}

/// Asks somebody who has a second factor for it, in place of a session.
pub async fn ask(
    db: &mut PgConnection,
    arrival: &Arrival<'_>,
    client: &Client,
) -> sqlx::Result<SecondStepAsked> {
    let mfa_token = Base64UrlUnpadded::encode_string(rim::random::<32>().as_slice());
    store::half_sign_in(db, &hash(&mfa_token), arrival).await?;
    sessions::record(db, arrival.user.id, None, "second_factor_asked", client).await?;
    Ok(SecondStepAsked {
        mfa_required: true,
        mfa_token,
        methods: ["totp", "recovery"],
    })
}

/// Seals by the first sealing key what another has sealed, a page at a time; counts that. It can be run again.
pub async fn reseal(db: &mut PgConnection, sealing: &SealingKeys) -> Result<u64, Error> {
    store::see_all(db).await?;
    let (mut last, mut count) = (None, 0);
    loop {
        let mut transaction = db.begin().await?;
        let page = store::page(&mut transaction, last).await?;
        for (user, sealed) in &page {
            if let Some(sealed) = totp::reseal(sealing, *user, sealed)? {
                store::set_seal(&mut transaction, *user, &sealed).await?;
                count += 1;
            }
        }
        transaction.commit().await?;
        let Some((user, _)) = page.last() else {
            return Ok(count);
        };
        last = Some(*user);
    }
}

/// Judges a code of the acting user, once. `None` is a wrong one: it was counted, which the caller
/// commits.
async fn prove(
    sealing: &SealingKeys,
    db: &mut PgConnection,
    user: UserId,
    code: &MfaCode,
    client: &Client,
) -> Result<Option<Means>, Error> {
    let factor = store::lock(db).await?.ok_or(Error::NotOn)?;
    let paused = u32::try_from(factor.pause_secs)
        .ok()
        .filter(|secs| *secs > 0);
    let shown = match code {
        // Nobody guesses one, so its owner gets in whoever else guesses digits.
        MfaCode::Recovery(code) => {
            if store::spend_recovery_code(db, &recovery::hash(user, code)).await? {
                store::forget_failures(db).await?;
                sessions::record(db, user, None, "recovery_code_used", client).await?;
                return Ok(Some(Means::RecoveryCode));
            }
            false
        }
        MfaCode::Totp(_) if paused.is_some() => false,
        MfaCode::Totp(digits) => {
            let step =
                totp::open(sealing, user, &factor.sealed_secret)?.step_of(digits, rim::now());
            match step {
                Some(step) => store::accept(db, step).await?,
                None => false,
            }
        }
    };
    if shown {
        return Ok(Some(Means::App));
    }
    if let Some(retry_after_secs) = paused {
        return Err(Error::TooManyWrong { retry_after_secs });
    }
    let failures = factor.failures.saturating_add(1);
    store::count_failure(db, failures, pause_secs(failures)).await?;
    sessions::record_failure(db, user, None, "second_factor", client).await?;
    Ok(None)
}

/// How long no code is looked at after so many wrong ones in a row: a minute, and then twice as
/// long each time.
fn pause_secs(failures: i32) -> i32 {
    if failures < PATIENCE {
        return 0;
    }
    let doublings = u32::try_from(failures - PATIENCE).unwrap_or_default();
    PAUSE_SECS
        .saturating_mul(2_i32.saturating_pow(doublings))
        .min(LONGEST_PAUSE_SECS)
}

/// What is kept of the token of a second step.
fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_a_day() {
        assert_eq!(
            [0, 1, 4, 5, 6, 7, 15, 16, i32::MAX].map(pause_secs),
            [0, 0, 0, 60, 120, 240, 61_440, 86_400, 86_400]
        );
    }
}
