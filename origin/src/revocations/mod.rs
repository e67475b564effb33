//! Revocations: tokens that end before their time. Whatever ends them appends a row in its own
//! transaction, as the last statement. Each process follows the rows by their cursor and keeps
//! them in memory, from where the edges fetch what is new; the edges refuse such tokens, and so
//! an answer that never reaches us is as good as ours a few seconds later.

mod recent;
mod routes;
mod store;

use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};
use shared::revocations::{PAGE, Revocation};
use sqlx::PgConnection;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::{app::App, db, rim};

pub use recent::Recent;
pub use routes::router;
pub use store::{append_ended, append_key, append_user};

/// How often the database is looked at; what a revocation waits here at the most.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A look that takes longer has failed.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// How long after a failure the keys are read again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How often rows are dropped that concern no token any more.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// Why the feed cannot be told.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Error {
    /// It was not read yet.
    #[error("no revocations are loaded")]
    Unavailable,
}

/// A revocation as it was read.
pub struct Read {
    cursor: i64,
    revocation: Revocation,
    /// How long it had been there.
    age_secs: f64,
}

/// Keeps the feed in memory as the database has it, for ever.
pub async fn follow(app: App) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut line, mut failing, mut swept) = (None, false, Instant::now());
    loop {
        ticks.tick().await;
        let sweeps = swept.elapsed() >= SWEEP_EVERY;
        match timeout(LOOK_WITHIN, look(&app, line.take(), sweeps)).await {
            Ok(Ok(still_good)) => {
                (line, failing) = (Some(still_good), false);
                if sweeps {
                    swept = Instant::now();
                }
            }
            // Once, and not ten times a second.
            _ if failing => {}
            Ok(Err(error)) => {
                failing = true;
                tracing::warn!(%error, "the revocations stay as they were");
            }
            Err(_) => {
                failing = true;
                tracing::warn!("the revocations stay as they were: the database is too slow");
            }
        }
        app.revocations.measure();
    }
}

/// Looks once, over a connection that serves nothing else: it never waits behind requests.
async fn look(app: &App, line: Option<PgConnection>, sweeps: bool) -> sqlx::Result<PgConnection> {
    let mut db = match line {
        Some(db) => db,
        None => app.db.connect().await?,
    };
    catch_up(app, &mut db).await?;
    if sweeps {
        store::sweep(&mut db).await?;
        app.revocations.forget(rim::now());
    }
    Ok(db)
}

/// Reads what was appended since the last look.
pub async fn catch_up(app: &App, db: &mut PgConnection) -> sqlx::Result<()> {
    loop {
        let begun = Instant::now();
        let is_first = app.revocations.age().is_none();
        let read = store::after(db, app.revocations.cursor(), PAGE).await?;
        for revocation in read.iter().filter(|_| !is_first) {
            counter!("tollgate_revocations_total").increment(1);
            histogram!("tollgate_revocations_lag_seconds").record(revocation.age_secs);
        }
        // Before the edges hear of it: they then fetch a key set that is without it.
        let ends_key = |read: &Read| matches!(read.revocation, Revocation::Key { .. });
        if read.iter().any(ends_key) {
            app.keys.fall_behind();
            drop_keys(app).await;
        }
        let is_all = read.len() < PAGE;
        app.revocations.add(read, is_all.then_some(begun));
        if is_all {
            break;
        }
    }
    if app.keys.are_behind() {
        drop_keys(app).await;
    }
    Ok(())
}

/// Has the signing keys read again, of which one was revoked. What else was revoked waits for that no
/// longer than for a look; it goes on, and what fails is tried again by a later look.
async fn drop_keys(app: &App) {
    let app = app.clone();
    let reload = tokio::spawn(async move {
        let Some(_alone) = app.keys.catch_up() else {
            return;
        };
        if let Err(error) = db::turn(app.keys.reload(app.db.pool(), rim::now())).await {
            tracing::warn!(%error, "a revoked signing key is still in memory");
            sleep(TRY_AGAIN).await;
        }
    });
    // It is not ended by this.
    let _ = timeout(LOOK_WITHIN / 2, reload).await;
}

impl Recent {
    /// Counts what is kept, and tells how old it is.
    fn measure(&self) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "of numbers that stay below 2^53"
        )]
        gauge!("tollgate_revocations").set(self.kept() as f64);
        if let Some(age) = self.age() {
            gauge!("tollgate_revocations_age_seconds").set(age.as_secs_f64());
        }
    }
}
