//! Where the pages of apps are: for the edge, which answers what browsers ask before they ask, and in
//! memory for ourselves, since browsers say it with every call.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, header},
    routing::get,
};
use shared::api::{PAGES, Pages};

use crate::{app::App, db::Pool, error::Error};

use super::store;

/// How old what is in memory may be.
const FRESH: Duration = Duration::from_secs(5);

/// The call of the edges about apps.
pub fn internal() -> Router<App> {
    Router::new().route(PAGES, get(pages))
}

async fn pages(
    State(app): State<App>,
) -> Result<([(HeaderName, &'static str); 1], Json<Pages>), Error> {
    let origins = store::origins(app.db.pool()).await?;
    Ok((
        [(header::CACHE_CONTROL, "no-store")],
        Json(Pages { origins }),
    ))
}

/// The origins of apps, as they were a moment ago.
#[derive(Default)]
pub struct Origins(Mutex<Option<Kept>>);

struct Kept {
    origins: Arc<HashSet<String>>,
    /// When somebody set out to read them.
    asked_at: Instant,
}

impl Origins {
    /// Whether an app has pages of this origin. However many ask, and whatever they make up, the
    /// database is asked once in a while; when it is away, what was known before goes on to count.
    pub async fn know(&self, db: &Pool, origin: &str) -> sqlx::Result<bool> {
        let (known, is_fresh) = self.look(Instant::now());
        let read = match (known, is_fresh) {
            (Some(known), true) => return Ok(known.contains(origin)),
            (None, _) => store::origins(db).await?,
            (Some(known), false) => match store::origins(db).await {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(%error, "the origins of apps stay as they were");
                    return Ok(known.contains(origin));
                }
            },
        };
        let read: Arc<HashSet<String>> = Arc::new(read.into_iter().collect());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Kept {
            origins: Arc::clone(&read),
            asked_at: Instant::now(),
        });
        Ok(read.contains(origin))
    }

    /// What is known, and whether that will do. One of those who find that it is too old is told so,
    /// and the others meanwhile are not.
    fn look(&self, now: Instant) -> (Option<Arc<HashSet<String>>>, bool) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = kept.as_mut() else {
            return (None, false);
        };
        let is_fresh = now.duration_since(kept.asked_at) < FRESH;
        if !is_fresh {
            kept.asked_at = now;
        }
        (Some(Arc::clone(&kept.origins)), is_fresh)
    }
}
