//! The SQL of security events, but for writing them.

use shared::api::SecurityEvent;
use sqlx::PgConnection;

use crate::db::Pool;

/// Some of the acting user's events, the latest first.
pub struct Page {
    /// The events.
    pub events: Vec<SecurityEvent>,
    /// Before which the next page begins, if there is one.
    pub next: Option<i64>,
}

/// At most `limit` events before the one with this id.
pub async fn page(db: &mut PgConnection, limit: i64, before: i64) -> sqlx::Result<Page> {
    let mut events = sqlx::query_as!(
        SecurityEvent,
        // Where an admin sits is nothing that the owner of the account needs to know.
        r#"SELECT id, type AS "type!", outcome, CASE WHEN admin_id IS NULL THEN host(address) END AS ip_address,
                  CASE WHEN admin_id IS NULL THEN user_agent END AS user_agent, at
           FROM auth.security_events WHERE id < $1
           ORDER BY id DESC LIMIT $2"#,
        before,
        limit + 1
    )
    .fetch_all(db)
    .await?;
    let limit = usize::try_from(limit).unwrap_or_default();
    let is_more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| is_more).map(|event| event.id);
    Ok(Page { events, next })
}

/// Deletes at most so many rows of what is old; says whether there may be more.
pub async fn sweep(db: &Pool, rows: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT auth.sweep_security($1) AS "more!""#, rows)
        .fetch_one(db)
        .await
}
