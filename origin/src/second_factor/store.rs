//! The SQL of the second factor. All but [`half_signed_in`], and what seals everybody's secrets anew, work on
//! the acting user's rows.

use shared::{api::Device, ids::UserId};
use sqlx::PgConnection;

use crate::{accounts::Arrival, db::Pool};

/// So many secrets are sealed anew at once.
const PAGE: i64 = 500;

/// A page of everybody's secrets behind this user, locked. As the owner, who sees them all.
pub async fn page(
    db: &mut PgConnection,
    after: Option<UserId>,
) -> sqlx::Result<Vec<(UserId, Vec<u8>)>> {
    let rows = sqlx::query!(
        "SELECT user_id, sealed_secret FROM auth.totp
         WHERE $1::uuid IS NULL OR user_id > $1 ORDER BY user_id LIMIT $2 FOR UPDATE",
        after.map(UserId::uuid),
        PAGE
    )
    .fetch_all(db)
    .await?;
    let secrets = rows
        .into_iter()
        .map(|row| (row.user_id.into(), row.sealed_secret));
    Ok(secrets.collect())
}

/// From here on a query fails where this role would not see every row.
pub async fn see_all(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("SET row_security = off").execute(db).await?;
    Ok(())
}

/// Another seal on the same secret.
pub async fn set_seal(db: &mut PgConnection, user: UserId, sealed: &[u8]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE auth.totp SET sealed_secret = $2 WHERE user_id = $1",
        user.uuid(),
        sealed
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A confirmed second factor, locked.
pub struct Factor {
    /// What its app knows.
    pub sealed_secret: Vec<u8>,
    /// Wrong codes since the last right one.
    pub failures: i32,
    /// How long no digits are looked at.
    pub pause_secs: i32,
}

/// The first step of a sign-in.
pub struct Half {
    /// How it was proved.
    pub amr: Vec<String>,
    /// The device's own name for itself.
    pub device_id: Option<String>,
    /// What its owner calls it.
    pub device_name: Option<String>,
    /// Whether the session slides further.
    pub remember: bool,
}

/// Begins to enrol one, unless there is one; what was begun before is forgotten.
pub async fn begin(
    db: &mut PgConnection,
    user: UserId,
    sealed_secret: &[u8],
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "INSERT INTO auth.totp (user_id, sealed_secret) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE
         SET sealed_secret = excluded.sealed_secret, created_at = now(), failures = 0
         WHERE totp.confirmed_at IS NULL",
        user.uuid(),
        sealed_secret
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What was begun in the last ten minutes, locked, and how many wrong codes were shown for it. It
/// needed a recent sign-in, and may not wait for somebody without one.
pub async fn lock_begun(db: &mut PgConnection) -> sqlx::Result<Option<(Vec<u8>, i32)>> {
    let row = sqlx::query!(
        "SELECT sealed_secret, failures FROM auth.totp
         WHERE confirmed_at IS NULL AND created_at > now() - interval '10 minutes' FOR UPDATE"
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.sealed_secret, row.failures)))
}

/// Turns on what was begun; the code of this step is used up.
pub async fn confirm(db: &mut PgConnection, step: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE auth.totp SET confirmed_at = now(), last_step = $1, failures = 0 WHERE confirmed_at IS NULL",
        step
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether the acting user has a second factor, and how many recovery codes are left.
pub async fn standing(db: &mut PgConnection) -> sqlx::Result<(bool, i64)> {
    let row = sqlx::query!(
        r#"SELECT EXISTS (SELECT FROM auth.totp WHERE confirmed_at IS NOT NULL) AS "is_on!",
                  (SELECT count(*) FROM auth.recovery_codes) AS "codes!""#
    )
    .fetch_one(db)
    .await?;
    Ok((row.is_on, row.codes))
}

/// The second factor, locked: codes that come at once are judged one after the other, so that
/// none is looked at before the wrong ones before it were counted.
pub async fn lock(db: &mut PgConnection) -> sqlx::Result<Option<Factor>> {
    sqlx::query_as!(
        Factor,
        r#"SELECT sealed_secret, failures,
                  ceil(coalesce(greatest(extract(epoch FROM refused_until - now()), 0), 0))::int AS "pause_secs!"
           FROM auth.totp WHERE confirmed_at IS NOT NULL FOR UPDATE"#
    )
    .fetch_optional(db)
    .await
}

/// Uses the code of this step, unless one of it or of a later one was used before.
pub async fn accept(db: &mut PgConnection, step: i64) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "UPDATE auth.totp SET last_step = $1, failures = 0, refused_until = NULL
         WHERE confirmed_at IS NOT NULL AND last_step < $1",
        step
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Starts counting wrong codes anew.
pub async fn forget_failures(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("UPDATE auth.totp SET failures = 0, refused_until = NULL")
        .execute(db)
        .await?;
    Ok(())
}

/// Writes down so many wrong codes, and the pause after them.
pub async fn count_failure(
    db: &mut PgConnection,
    failures: i32,
    pause_secs: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE auth.totp SET failures = $1,
             refused_until = CASE WHEN $2::int > 0 THEN clock_timestamp() + make_interval(secs => $2::int) END",
        failures,
        pause_secs
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Replaces all recovery codes. The factor's row is locked, so that of two replacements one stays.
pub async fn replace_recovery_codes(
    db: &mut PgConnection,
    user: UserId,
    hashes: &[Vec<u8>],
) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM auth.recovery_codes")
        .execute(&mut *db)
        .await?;
    sqlx::query!(
        "INSERT INTO auth.recovery_codes (user_id, code_hash) SELECT $1, unnest($2::bytea[])",
        user.uuid(),
        hashes
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Uses a recovery code up; says whether it was one.
pub async fn spend_recovery_code(db: &mut PgConnection, hash: &[u8]) -> sqlx::Result<bool> {
    let done = sqlx::query!("DELETE FROM auth.recovery_codes WHERE code_hash = $1", hash)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes the second factor, and what goes with it.
pub async fn remove(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM auth.recovery_codes")
        .execute(&mut *db)
        .await?;
    sqlx::query!("DELETE FROM auth.totp").execute(db).await?;
    Ok(())
}

/// Forgets a second factor that was begun, and not confirmed.
pub async fn forget_begun(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM auth.totp WHERE confirmed_at IS NULL")
        .execute(db)
        .await?;
    Ok(())
}

/// Keeps the first step of a sign-in for five minutes.
pub async fn half_sign_in(
    db: &mut PgConnection,
    token_hash: &[u8],
    arrival: &Arrival<'_>,
) -> sqlx::Result<()> {
    let amr: Vec<String> = arrival
        .proved_by
        .iter()
        .copied()
        .map(str::to_owned)
        .collect();
    sqlx::query!(
        "INSERT INTO auth.half_sign_ins (token_hash, user_id, amr, device_id, device_name, remember, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, now() + interval '5 minutes')",
        token_hash,
        arrival.user.id.uuid(),
        &amr,
        arrival.device_id.map(Device::as_str),
        arrival.device_name.map(Device::as_str),
        arrival.remember,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whose half sign-in it is, while they may go on with it.
pub async fn half_signed_in(db: &Pool, token_hash: &[u8]) -> sqlx::Result<Option<UserId>> {
    let user = sqlx::query_scalar!("SELECT auth.half_signed_in($1)", token_hash)
        .fetch_one(db)
        .await?;
    Ok(user.map(UserId::from))
}

/// Takes the first step of a sign-in, once, unless the password is another since then.
pub async fn take_half(db: &mut PgConnection, token_hash: &[u8]) -> sqlx::Result<Option<Half>> {
    sqlx::query_as!(
        Half,
        "DELETE FROM auth.half_sign_ins h
         WHERE token_hash = $1 AND expires_at > now()
           AND NOT EXISTS (SELECT FROM auth.passwords p WHERE p.user_id = h.user_id AND p.changed_at > h.created_at)
         RETURNING amr, device_id, device_name, remember",
        token_hash
    )
    .fetch_optional(db)
    .await
}
