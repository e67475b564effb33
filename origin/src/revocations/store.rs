//! The SQL of revocations. Appending is a transaction's last statement: others that append wait
//! until it is committed.

use shared::{ids::UserId, revocations::Revocation};
use sqlx::PgConnection;

use super::Read;

/// Ends the tokens of whatever sessions of the acting user this transaction has ended, if any.
pub async fn append_ended(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(r#"SELECT auth.withdraw_ended() AS "done: ()""#)
        .fetch_one(db)
        .await?;
    Ok(())
}

/// Ends a user's tokens of before now. Sessions that live on refresh theirs, and see what this
/// transaction has changed of the account.
pub async fn append_user(db: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"SELECT auth.withdraw_tokens($1) AS "done: ()""#,
        user.uuid()
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// Ends whatever a key has signed; for operators.
pub async fn append_key(db: &mut PgConnection, kid: &str) -> sqlx::Result<()> {
    sqlx::query!(r#"SELECT auth.withdraw_key($1) AS "done: ()""#, kid)
        .fetch_one(db)
        .await?;
    Ok(())
}

/// What came behind a cursor, in order.
pub async fn after(db: &mut PgConnection, cursor: i64, limit: usize) -> sqlx::Result<Vec<Read>> {
    let rows = sqlx::query!(
        r#"SELECT cursor AS "cursor!", user_id, session_id, kid, not_before, until AS "until!",
                  age_secs AS "age_secs!"
           FROM auth.revocations_after($1, $2)"#,
        cursor,
        i32::try_from(limit).unwrap_or(i32::MAX)
    )
    .fetch_all(db)
    .await?;
    let read = rows.into_iter().map(|row| {
        let until = row.until.timestamp();
        let revocation = match (row.session_id, row.user_id, row.kid, row.not_before) {
            (Some(id), ..) => Revocation::Session {
                id: id.into(),
                until,
            },
            (None, Some(id), _, Some(not_before)) => Revocation::User {
                id: id.into(),
                not_before: not_before.timestamp(),
                until,
            },
            (None, None, Some(id), _) => Revocation::Key { id, until },
            _ => return Err(sqlx::Error::Decode("a revocation of nothing".into())),
        };
        Ok(Read {
            cursor: row.cursor,
            revocation,
            age_secs: row.age_secs,
        })
    });
    read.collect()
}

/// Drops what no token can be concerned by any more.
pub async fn sweep(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(r#"SELECT auth.sweep_revocations() AS "done: ()""#)
        .fetch_one(db)
        .await?;
    Ok(())
}
