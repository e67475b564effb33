//! The SQL of one-time links.

use shared::{api::User, ids::UserId};
use sqlx::PgConnection;

use crate::{accounts, db::Pool};

use super::Purpose;

/// Whose link it is, and what is known of them.
pub struct Holder {
    /// The account, which may be used.
    pub user: User,
    /// What its password is compared with, if it has one.
    pub phc: Option<String>,
    /// A page of an app, as it was allowed when the link was made.
    pub redirect_to: Option<String>,
}

/// The holder of a link that is still good.
pub async fn find(db: &Pool, purpose: Purpose, hash: &[u8]) -> sqlx::Result<Option<Holder>> {
    let row = sqlx::query!(
        r#"SELECT id AS "id!", email AS "email!", name, role AS "role!", email_verified AS "email_verified!",
                  phc, redirect_to
           FROM auth.link_holder($1, $2)"#,
        purpose.as_str(),
        hash
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Holder {
            user: User {
                id: row.id.into(),
                email: row.email,
                name: row.name,
                email_verified: row.email_verified,
                role: accounts::role(&row.role)?,
            },
            phc: row.phc,
            redirect_to: row.redirect_to,
        })
    })
    .transpose()
}

/// Keeps a new link of the acting user. The one of the same purpose before it is void.
pub async fn keep(
    db: &mut PgConnection,
    user: UserId,
    purpose: Purpose,
    hash: &[u8],
    redirect_to: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO auth.links AS l (user_id, purpose, secret_hash, redirect_to, expires_at)
         VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
         ON CONFLICT (user_id, purpose) DO UPDATE
         SET secret_hash = $3, redirect_to = $4, created_at = now(),
             expires_at = now() + make_interval(secs => $5), used_at = NULL",
        user.uuid(),
        purpose.as_str(),
        hash,
        redirect_to,
        f64::from(purpose.lifetime_secs()),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Uses a link of the acting user up; says whether it was still good.
pub async fn take(db: &mut PgConnection, purpose: Purpose, hash: &[u8]) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE auth.links SET used_at = now()
         WHERE secret_hash = $1 AND purpose = $2 AND used_at IS NULL AND expires_at > now()",
        hash,
        purpose.as_str(),
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Makes the acting user's link for a purpose void.
pub async fn void(db: &mut PgConnection, purpose: Purpose) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM auth.links WHERE purpose = $1",
        purpose.as_str()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Makes every link of the acting user void.
pub async fn void_all(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM auth.links").execute(db).await?;
    Ok(())
}
