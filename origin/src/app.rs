//! The parts of the origin, and the router over all of them.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use axum::{Router, middleware};
use shared::{gcra::Quota, ids::SessionId, jwt::Expect, tokens::Tokens};
use tokio_util::task::TaskTracker;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    accounts::{self, Passwords},
    apps::{self, Origins},
    config::{Config, Key},
    cookies,
    credits::{self, Ledger},
    db::{self, Db},
    error::Error,
    export, forgery, front,
    keys::{self, Keys, RELOAD_SECS},
    limits::{self, Limit},
    mail::{self, Mail},
    oidc, openapi,
    outside::{self, Outside},
    pages,
    payments::{self, Stripe},
    revocations::{self, Recent},
    rim, second_factor, security_events,
    sessions::{self, Salts},
};

/// How many verified tokens are kept: 32 MB when full.
const KEPT_TOKENS: usize = 16_384;

/// What handlers work with. Every request clones it several times: that is one count.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts.
pub struct Parts {
    /// What the operator said.
    pub config: Config,
    /// The database, under the runtime role.
    pub db: Db,
    /// The signing keys.
    pub keys: Keys,
    /// What access tokens of ours say about where they are from and for.
    pub expect: Expect,
    /// Tokens whose signature was verified before.
    tokens: Mutex<Tokens>,
    /// Tokens that end before their time.
    pub revocations: Recent,
    /// The password queue.
    pub passwords: Passwords,
    /// The ledger.
    pub ledger: Ledger,
    /// Who sends mail, if anybody does.
    pub mail: Option<Mail>,
    /// What proves our cookies.
    pub cookie_key: Key,
    /// Who collects money, if anybody does.
    pub stripe: Option<Stripe>,
    /// Who signs people in besides us.
    pub outside: Outside,
    /// What refresh tokens are compared with.
    pub salts: Salts,
    /// Where the pages of apps are.
    pub origins: Origins,
    /// Refreshes of one session.
    pub refreshes: Limit<SessionId>,
    /// The requests under way.
    pub requests: TaskTracker,
    /// Whether it was told to stop, and takes no new clients.
    pub stopping: AtomicBool,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// The parts, as configured. Neither the database nor the keys are there yet.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let redis = config.redis_url.clone().map(limits::connect).transpose()?;
        let db = Db::new(
            config.database.database_url.clone(),
            config.database_pooler_url.clone(),
            config.database_pool,
        );
        Ok(Self(Arc::new(Parts {
            keys: Keys::new(config.sealing.key_encryption_key.clone()),
            expect: Expect {
                issuer: config.public_url.as_str().to_owned(),
                audience: config.token_audience.clone(),
            },
            tokens: Mutex::new(Tokens::new(KEPT_TOKENS)),
            revocations: Recent::default(),
            passwords: Passwords::new(&config.passwords)?,
            ledger: Ledger::new(db.clone(), config.credits),
            mail: Mail::new(&config.mail, redis.clone(), config.limit_scale),
            cookie_key: cookies::key(&config.remembering.email_hash_key),
            stripe: config.stripe.client()?,
            outside: Outside::new(&config.outside)?,
            salts: Salts::default(),
            origins: Origins::default(),
            refreshes: Limit::new(
                "refresh",
                Quota::per_minute(60).scaled(config.limit_scale),
                redis,
            ),
            requests: TaskTracker::new(),
            stopping: AtomicBool::new(false),
            config,
            db,
        })))
    }

    /// Who sends mail.
    pub fn mail(&self) -> Result<&Mail, mail::Error> {
        self.mail.as_ref().ok_or(mail::Error::NotConfigured)
    }

    /// Tokens whose signature was verified before.
    pub fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets failed sign-ins that are old.
    pub async fn tend_accounts(self) {
        let mut ticks = tokio::time::interval(Duration::from_hours(1));
        loop {
            ticks.tick().await;
            if let Err(error) = db::turn(accounts::sweep(self.db.pool())).await {
                tracing::warn!(%error, "old failures stay until the next sweep");
            }
        }
    }

    /// Keeps the keys as the database has them, and rotates them when it is time.
    pub async fn tend_keys(self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(RELOAD_SECS.into()));
        loop {
            ticks.tick().await;
            let reload = self.keys.reload(self.db.pool(), rim::now());
            if let Err(error) = db::turn(reload).await {
                tracing::warn!(%error, "the signing keys stay as they were");
            }
        }
    }
}

/// Every public route.
pub fn router(app: App) -> Router {
    let (router, _) = guarded()
        .route_layer(middleware::from_fn_with_state(app.clone(), forgery::guard))
        .merge(unguarded())
        .split_for_parts();
    router
        .fallback(async || Error::NotFound)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(middleware::from_fn_with_state(app.clone(), front::front))
        .with_state(app)
}

/// Every public route, with what is said of it where it is told.
pub fn calls() -> OpenApiRouter<App> {
    guarded().merge(unguarded())
}

/// What browsers send for people.
fn guarded() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(accounts::router())
        .merge(sessions::router())
        .merge(second_factor::router())
        .merge(oidc::router())
        .merge(outside::router())
        .merge(security_events::router())
        .merge(credits::router())
        .merge(payments::router())
        .merge(export::router())
        .merge(pages::router().into())
        .merge(openapi::router().into())
}

/// What other sites' servers and pages are to send, and what is for the edges alone.
fn unguarded() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(oidc::endpoints())
        .merge(outside::callback().into())
        .merge(payments::webhook())
        .merge(apps::internal().into())
        .merge(credits::internal().into())
        .merge(revocations::router().into())
        .merge(keys::router())
}
