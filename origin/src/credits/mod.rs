//! Credits: what somebody has, spends and has spent. Money moves in the database alone, through
//! the functions of the `credits` schema; this is how they are called. Charges and holds go
//! through the [`batcher`], what is rarer goes by itself.

mod batcher;
mod desk;
mod holds;
pub mod ledger;
mod operation;
mod priced;
mod routes;
pub mod verification;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::counter;
use shared::{
    api::{Balance, Grant, Refund, Spent, Transaction},
    credits::Credits,
    ids::UserId,
};
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    admin,
    app::App,
    config::CreditsConfig,
    db::{self, Db},
    error::Error as Failure,
    front::Client,
    rim, sessions,
};

use self::{batcher::Batcher, ledger::Outcome, verification::Verified};
pub use operation::{By, Operation, Order};
pub use priced::router as internal;

/// What takes longer waits on a line on which nothing will ever come.
const LONGEST_VERIFICATION: Duration = Duration::from_hours(12);
/// How many wallets are swept at once.
const SWEPT_AT_ONCE: i32 = 5;

/// Every call about credits.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(routes::router())
        .merge(holds::router())
        .merge(desk::router())
}

/// Why credits did not move, or were not shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are fewer than that.
    #[error("{required} credits needed, {available} available")]
    Insufficient {
        /// What could be spent.
        available: Credits,
        /// What should have been.
        required: Credits,
    },
    /// The key or reference was used with other values.
    #[error("the idempotency key was used for something else")]
    Mismatch,
    /// The header and the field name two keys.
    #[error("two idempotency keys")]
    TwoKeys,
    /// The header is no key.
    #[error("the Idempotency-Key header is no key")]
    BadKey,
    /// A hold needs a key.
    #[error("no idempotency key")]
    NoKey,
    /// No such person, or none that the app has to do with.
    #[error("no such user")]
    NoSuchUser,
    /// No such hold, or somebody else's.
    #[error("no such hold")]
    NoSuchHold,
    /// No charge that could be refunded, or another app's.
    #[error("no such charge")]
    NoSuchCharge,
    /// The hold was captured or voided before, otherwise.
    #[error("the hold was settled before")]
    HoldSettled,
    /// The hold's time was over.
    #[error("the hold has expired")]
    HoldExpired,
    /// More than the hold.
    #[error("more than was held")]
    HoldExceeded,
    /// More than is left of the charge.
    #[error("more than the {left} left of the charge")]
    RefundExceeds {
        /// What could still be refunded.
        left: Credits,
    },
    /// More than a wallet may ever hold.
    #[error("more than a wallet may hold")]
    TooMuch,
    /// The app has granted its day's worth.
    #[error("the app has granted its day's worth")]
    GrantCapReached,
    /// A moment that has passed.
    #[error("it would have expired already")]
    ExpiresInThePast,
    /// Days out of all range.
    #[error("no such days")]
    NoSuchDays,
    /// Too many operations wait.
    #[error("the ledger's queue is full")]
    QueueFull,
    /// The schema knows an outcome that this build does not.
    #[error("the ledger answered {0:?}")]
    UnknownOutcome(String),
    /// It may have been done, and it could not be found out in time.
    #[error("a batch whose end is not known")]
    Unclear(#[source] Option<Arc<sqlx::Error>>),
    /// The database failed under a batch.
    #[error("a batch in the database")]
    Batch(#[source] Arc<sqlx::Error>),
    /// The database failed.
    #[error("credits in the database")]
    Database(#[from] sqlx::Error),
}

/// The ledger, and the rules of the free credits. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    db: Db,
    rules: CreditsConfig,
    batcher: Arc<Batcher>,
    verified: Arc<Mutex<Option<Verified>>>,
}

/// Who grants and refunds.
#[derive(Clone, Copy)]
pub enum Clerk<'a> {
    /// Somebody whom the database knows as an admin. It is written down for whom they do it to.
    Admin(UserId, &'a Client),
    /// An app, for its own people and charges.
    App(&'a str),
}

/// What was written down, now or when it was first asked for.
#[derive(Debug)]
pub struct Posted {
    /// The line of the ledger.
    pub transaction: Transaction,
    /// Whether it was written before.
    pub replayed: bool,
}

impl Ledger {
    /// The ledger of this database.
    pub fn new(db: Db, rules: CreditsConfig) -> Self {
        Self {
            batcher: Arc::new(Batcher::start(db.clone(), rules)),
            db,
            rules,
            verified: Arc::default(),
        }
    }

    /// Does it once, however often it is asked with the same id, key or hold.
    pub async fn post(&self, operation: Operation) -> Result<Posted, Failure> {
        let (operation, outcome) = self.batcher.submit(operation).await?;
        let what = outcome.kind.clone();
        counter!("tollgate_ledger_posts_total", "kind" => operation.kind(), "outcome" => what)
            .increment(1);
        let required = operation.amount().unwrap_or_default();
        let Posted {
            transaction: said,
            replayed,
        } = conclude(operation.kind(), required, outcome)?;
        // The ledger tells of a settlement what its hold was for; of a charge it was just told.
        let ours = |text: Option<&str>| text.map(str::to_owned);
        let transaction = Transaction {
            app_id: said.app_id.or_else(|| ours(operation.app())),
            description: said.description.or_else(|| ours(operation.description())),
            metadata: operation.metadata().cloned(),
            ..said
        };
        Ok(Posted {
            transaction,
            replayed,
        })
    }

    /// What somebody has, the day's free credits included; an app sees that of its own people.
    pub async fn balance(&self, user: UserId, app: Option<&str>) -> Result<Balance, Error> {
        ledger::balance(self.db.pool(), user, app, self.rules).await
    }

    /// What somebody has, to another: the day's free credits come when they look themselves.
    pub async fn look(&self, user: UserId) -> Result<Balance, Error> {
        let rules = CreditsConfig {
            credits_daily: Credits::ZERO,
            ..self.rules
        };
        ledger::balance(self.db.pool(), user, None, rules).await
    }

    /// Gives credits once for their reference.
    pub async fn grant(&self, grant: &Grant, clerk: Clerk<'_>) -> Result<Posted, Failure> {
        let (id, required) = (rim::new_id(), grant.amount.credits());
        let mut posted = match clerk {
            Clerk::App(app) => {
                let outcome = ledger::grant(self.db.pool(), id, Some(app), grant).await?;
                conclude("grant", required, outcome)?
            }
            Clerk::Admin(admin, client) => {
                let mut desk = self.db.as_user(admin).await?;
                let outcome = ledger::grant(&mut *desk, id, None, grant).await;
                let posted = conclude("grant", required, outcome.map_err(admin::Error::from)?)?;
                if !posted.replayed {
                    let what = "credits_granted";
                    admin::moved_credits(&mut desk, grant.user_id, what, client).await?;
                }
                desk.commit().await?;
                posted
            }
        };
        posted.transaction.description = Some(grant.reason.as_str().to_owned());
        if let Clerk::App(app) = clerk {
            posted.transaction.app_id = Some(app.to_owned());
        }
        Ok(posted)
    }

    /// Refunds a charge once for its reference; an app, one that it charged.
    pub async fn refund(&self, refund: &Refund, clerk: Clerk<'_>) -> Result<Posted, Failure> {
        let (id, required) = (rim::new_id(), Credits::ZERO);
        let mut posted = match clerk {
            Clerk::App(app) => {
                let outcome = ledger::refund(self.db.pool(), id, Some(app), refund).await?;
                conclude("refund", required, outcome)?
            }
            Clerk::Admin(admin, client) => {
                let mut desk = self.db.as_user(admin).await?;
                let outcome = ledger::refund(&mut *desk, id, None, refund).await;
                let posted = conclude("refund", required, outcome.map_err(admin::Error::from)?)?;
                if !posted.replayed {
                    let what = "credits_refunded";
                    admin::moved_credits(&mut desk, refund.user_id, what, client).await?;
                }
                desk.commit().await?;
                posted
            }
        };
        posted.transaction.description = Some(refund.reason.as_str().to_owned());
        Ok(posted)
    }

    /// How many operations wait to be written.
    pub fn queued(&self) -> usize {
        self.batcher.queued()
    }

    /// What the last look of this process at the whole ledger said.
    pub fn last_verified(&self) -> Option<Verified> {
        *self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what has expired in wallets that nobody looks at, from time to time, for ever.
    /// Several replicas may.
    pub async fn tend(self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            ticks.tick().await;
            let mut swept = SWEPT_AT_ONCE;
            while swept == SWEPT_AT_ONCE {
                swept = match db::turn(ledger::sweep(self.db.pool(), SWEPT_AT_ONCE)).await {
                    Ok(swept) => swept,
                    Err(error) => {
                        tracing::warn!(%error, "what has expired stays until the next sweep");
                        0
                    }
                };
            }
        }
    }

    /// Compares everything that is kept twice once a day, for ever, and counts what differs.
    pub async fn verify_daily(self) {
        // Not at once: a process that is started again and again would do nothing else.
        let first = tokio::time::Instant::now() + Duration::from_mins(10);
        let mut days = tokio::time::interval_at(first, Duration::from_hours(24));
        loop {
            days.tick().await;
            let verified = verification::run_and_count(&self.db);
            match timeout(LONGEST_VERIFICATION, verified).await {
                Ok(Ok(verified)) => {
                    *self.verified.lock().unwrap_or_else(PoisonError::into_inner) = Some(verified);
                }
                Ok(Err(error)) => tracing::warn!(%error, "the ledger was not verified"),
                Err(_) => tracing::warn!("the ledger was not verified in {LONGEST_VERIFICATION:?}"),
            }
        }
    }

    /// Carries out what is queued, and takes nothing more.
    pub async fn drain(&self) {
        self.batcher.drain().await;
    }
}

impl From<Posted> for Spent {
    fn from(posted: Posted) -> Self {
        let transaction = posted.transaction;
        Self {
            success: true,
            new_balance: transaction.balance_after,
            free_credits_remaining: transaction.free_credits_after,
            transaction,
        }
    }
}

/// Turns what the ledger said into an answer. `required` is what was asked for.
fn conclude(kind: &str, required: Credits, said: Outcome) -> Result<Posted, Failure> {
    let replayed = match said.kind.as_str() {
        "posted" => false,
        "replayed" => true,
        _ => return Err(refusal(kind, required, said)),
    };
    let (Some(id), Some(amount), Some(free), Some(paid), Some(created_at)) = (
        said.transaction_id,
        said.amount,
        said.free,
        said.paid,
        said.created_at,
    ) else {
        return Err(Error::UnknownOutcome(said.kind).into());
    };
    let transaction = Transaction {
        id: id.into(),
        r#type: kind.to_owned(),
        amount: ledger::credits(amount)?,
        app_id: said.app_id,
        description: said.description,
        metadata: None,
        balance_after: ledger::credits(paid)?,
        free_credits_after: ledger::credits(free)?,
        created_at,
    };
    Ok(Posted {
        transaction,
        replayed,
    })
}

fn refusal(kind: &str, required: Credits, said: Outcome) -> Failure {
    let amount = |thousandths: Option<i64>| ledger::credits(thousandths.unwrap_or_default());
    let spendable = said.free.unwrap_or_default() + said.paid.unwrap_or_default();
    let error = match said.kind.as_str() {
        "mismatch" => Error::Mismatch,
        "insufficient" => match amount(Some(spendable)) {
            Ok(available) => Error::Insufficient {
                available,
                required,
            },
            Err(error) => error,
        },
        "exceeded" => match amount(said.amount) {
            Ok(left) if kind == "refund" => Error::RefundExceeds { left },
            Ok(_) => Error::HoldExceeded,
            Err(error) => error,
        },
        "signed_out" => return sessions::Error::Ended.into(),
        "unknown_user" => Error::NoSuchUser,
        "unknown_hold" => Error::NoSuchHold,
        "unknown_transaction" => Error::NoSuchCharge,
        "settled" => Error::HoldSettled,
        "expired" => Error::HoldExpired,
        "too_much" => Error::TooMuch,
        "past" => Error::ExpiresInThePast,
        "capped" => Error::GrantCapReached,
        _ => Error::UnknownOutcome(said.kind),
    };
    error.into()
}
