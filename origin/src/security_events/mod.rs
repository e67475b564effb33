//! What happened to an account, for its owner to see. Whatever changes an account or fails to get
//! into it writes an event in its own transaction (`sessions::record`); here they are listed, and
//! forgotten after 400 days.

mod routes;
mod store;

use std::time::Duration;

use crate::{app::App, db};

pub use routes::router;
pub use store::page;

/// How many rows of a kind one sweep deletes, so that none takes long.
const SWEPT_AT_ONCE: i32 = 500;

/// Forgets what is old, and second steps that nobody took, for ever.
pub async fn tend(app: App) {
    let mut ticks = tokio::time::interval(Duration::from_mins(1));
    loop {
        ticks.tick().await;
        let mut is_more = true;
        while is_more {
            is_more = match db::turn(store::sweep(app.db.pool(), SWEPT_AT_ONCE)).await {
                Ok(is_more) => is_more,
                Err(error) => {
                    tracing::warn!(%error, "old security events stay until the next sweep");
                    false
                }
            };
        }
    }
}
