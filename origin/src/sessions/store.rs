//! The SQL of sessions.

use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::counter;
use shared::{
    api::{AppId, Session, SessionApp, User},
    claims::{FIRST_PARTY, Role},
    ids::{SessionId, UserId},
};
use sqlx::PgConnection;

use crate::{accounts, db::Pool, front::Client};

use super::{Caller, Error, Family, Presented, salts::Salt};

const LONGEST_DAYS: i32 = 180;
/// How many sessions of an account live at once.
const MOST_LIVE: i32 = 100;

/// How long a session lives without a refresh; `auth.refresh` slides it by as much.
pub const fn slide_days(remember: bool) -> i32 {
    if remember { 30 } else { 7 }
}

/// A session as its owner opens it.
pub struct NewSession<'a> {
    /// Whose.
    pub user: UserId,
    /// How they proved who they are.
    pub proved_by: &'a [&'a str],
    /// What the database knows its device by.
    pub device_hash: [u8; 32],
    /// The device's own name for itself.
    pub device_id: Option<&'a str>,
    /// What its owner calls it.
    pub device_name: Option<&'a str>,
    /// Whether it slides further.
    pub remember: bool,
}

/// What the database says of a session that it has opened.
pub struct Written {
    /// The `iat` of its tokens.
    pub issued_at: DateTime<Utc>,
    /// Whether the account has not been signed in to with this device before.
    pub is_new_device: bool,
}

/// Writes down a new session of the acting user, unless a second factor is to be shown first. It may
/// append to the feed of revocations.
pub async fn open(
    db: &mut PgConnection,
    family: &Family,
    session: &NewSession<'_>,
    cookie_hash: &[u8],
    client: &Client,
) -> sqlx::Result<Option<Written>> {
    sqlx::query_as!(
        Written,
        r#"SELECT issued_at AS "issued_at!", is_new_device AS "is_new_device!"
           FROM auth.open_session($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::inet, $11, $12, $13, $14, $15, $16, $17)"#,
        family.session.uuid(),
        session.user.uuid(),
        family.client_id,
        &family.salt,
        cookie_hash,
        session.device_hash.as_slice(),
        session.device_id,
        session.device_name,
        client.agent,
        client.address_text(),
        session.remember,
        &family.amr,
        family.authenticated_at,
        slide_days(session.remember),
        LONGEST_DAYS,
        MOST_LIVE,
        accounts::MOST_DEVICES,
    )
    .fetch_optional(db)
    .await
}

/// Writes down what the acting user did, in the transaction that does it.
pub async fn record(
    db: &mut PgConnection,
    user: UserId,
    session: Option<SessionId>,
    r#type: &str,
    client: &Client,
) -> sqlx::Result<()> {
    write_down(db, user, session, (r#type, "success"), client).await
}

/// Writes down what the acting user, or somebody in their name, failed to do.
pub async fn record_failure(
    db: &mut PgConnection,
    user: UserId,
    session: Option<SessionId>,
    r#type: &str,
    client: &Client,
) -> sqlx::Result<()> {
    write_down(db, user, session, (r#type, "failure"), client).await
}

async fn write_down(
    db: &mut PgConnection,
    user: UserId,
    session: Option<SessionId>,
    (r#type, outcome): (&str, &str),
    client: &Client,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO auth.security_events (user_id, session_id, type, outcome, address, user_agent)
         VALUES ($1, $2, $3, $4, $5::text::inet, $6)",
        user.uuid(),
        session.map(SessionId::uuid),
        r#type,
        outcome,
        client.address_text(),
        client.agent,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How a session and its account stand.
pub struct Standing {
    /// Neither revoked nor expired.
    pub live: bool,
    /// The account may be used.
    pub active: bool,
    /// What it may do.
    pub role: Role,
}

/// How the session of a token stands.
pub async fn state(db: &Pool, session: SessionId, user: UserId) -> sqlx::Result<Option<Standing>> {
    let row = sqlx::query!(
        r#"SELECT live AS "live!", status = 'active' AS "active!", role AS "role!"
           FROM auth.session_state($1, $2)"#,
        session.uuid(),
        user.uuid()
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Standing {
            live: row.live,
            active: row.active,
            role: accounts::role(&row.role)?,
        })
    })
    .transpose()
}

/// Whose session it is, and the salt of its refresh tokens.
pub async fn salt(db: &Pool, session: SessionId) -> sqlx::Result<Option<Salt>> {
    let row = sqlx::query!(
        r#"SELECT user_id AS "user_id!", salt AS "salt!" FROM auth.refresh_salt($1)"#,
        session.uuid()
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Salt {
            user: row.user_id.into(),
            salt: salt_of(row.salt)?,
        })
    })
    .transpose()
}

fn salt_of(bytes: Vec<u8>) -> sqlx::Result<[u8; 16]> {
    let salt = bytes.try_into();
    salt.map_err(|_| sqlx::Error::Decode("a salt has 16 bytes".into()))
}

/// Lets Postgres decide what a token with a good MAC is worth.
pub async fn refresh(
    db: &Pool,
    token: &Presented,
    salt: [u8; 16],
    grace: Duration,
    client: &Client,
) -> Result<(User, Family), Error> {
    let row = sqlx::query!(
        r#"SELECT outcome AS "outcome!", counter, user_id, email, name, email_verified, role, client_id,
                  authenticated_at, amr, issued_at, expires_at
           FROM auth.refresh($1, $2, make_interval(secs => $3), $4::text::inet, $5)"#,
        token.session.uuid(),
        token.counter,
        grace.as_secs_f64(),
        client.address_text(),
        client.agent,
    )
    .fetch_one(db)
    .await?;
    counter!("tollgate_refreshes_total", "outcome" => row.outcome.clone()).increment(1);
    if !matches!(
        row.outcome.as_str(),
        "rotated" | "repeated" | "raced" | "recovered"
    ) {
        tracing::info!(outcome = row.outcome, session = %token.session, "a refresh token was refused");
        return Err(Error::BadRefreshToken);
    }
    let (Some(counter), Some(id), Some(email), Some(role)) =
        (row.counter, row.user_id, row.email, row.role)
    else {
        return Err(Error::BadRefreshToken);
    };
    let (Some(email_verified), Some(client_id), Some(authenticated_at), Some(amr)) = (
        row.email_verified,
        row.client_id,
        row.authenticated_at,
        row.amr,
    ) else {
        return Err(Error::BadRefreshToken);
    };
    let (Some(issued_at), Some(expires_at)) = (row.issued_at, row.expires_at) else {
        return Err(Error::BadRefreshToken);
    };
    let user = User {
        id: id.into(),
        email,
        name: row.name,
        email_verified,
        role: accounts::role(&role)?,
    };
    Ok((
        user,
        Family {
            session: token.session,
            client_id,
            authenticated_at,
            amr,
            issued_at,
            expires_at,
            counter,
            salt,
        },
    ))
}

/// The live session that a browser's cookie names, and whose it is.
pub async fn of_cookie(db: &Pool, cookie_hash: &[u8]) -> sqlx::Result<Option<(SessionId, UserId)>> {
    let row = sqlx::query!(
        r#"SELECT session AS "session!", user_id AS "user_id!" FROM auth.session_of_cookie($1)"#,
        cookie_hash
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.session.into(), row.user_id.into())))
}

/// Somebody who is signed in in a browser.
pub struct Visitor {
    /// Who, in which session.
    pub caller: Caller,
    /// Their address.
    pub email: String,
    /// What to call them.
    pub name: Option<String>,
    /// When they last proved who they are.
    pub authenticated_at: DateTime<Utc>,
}

/// The acting user in a live session of theirs.
pub async fn visitor(db: &mut PgConnection, session: SessionId) -> sqlx::Result<Option<Visitor>> {
    let row = sqlx::query!(
        "SELECT u.id, u.email, u.name, u.role, s.authenticated_at
         FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
         WHERE s.id = $1 AND s.revoked_at IS NULL AND s.expires_at > now()",
        session.uuid()
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Visitor {
            caller: Caller {
                user: row.id.into(),
                session,
                role: accounts::role(&row.role)?,
            },
            email: row.email,
            name: row.name,
            authenticated_at: row.authenticated_at,
        })
    })
    .transpose()
}

/// The session of an app below one of the acting user's, made with this id and salt where there is
/// none. None where the one above has ended.
pub async fn open_below(
    db: &mut PgConnection,
    parent: SessionId,
    app: &AppId,
    (session, salt): (SessionId, [u8; 16]),
    client: &Client,
) -> sqlx::Result<Option<Family>> {
    let row = sqlx::query!(
        r#"SELECT session AS "session!", salt AS "salt!", counter AS "counter!", amr AS "amr!",
                  authenticated_at AS "authenticated_at!", issued_at AS "issued_at!", expires_at AS "expires_at!"
           FROM auth.open_below($1, $2, $3, $4, $5::text::inet, $6)"#,
        parent.uuid(),
        app.as_str(),
        session.uuid(),
        &salt,
        client.address_text(),
        client.agent,
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Family {
            session: row.session.into(),
            client_id: app.as_str().to_owned(),
            authenticated_at: row.authenticated_at,
            amr: row.amr,
            issued_at: row.issued_at,
            expires_at: row.expires_at,
            counter: row.counter,
            salt: salt_of(row.salt)?,
        })
    })
    .transpose()
}

/// The acting user's live sessions, the latest first.
pub async fn list(db: &mut PgConnection, current: SessionId) -> sqlx::Result<Vec<Session>> {
    let rows = sqlx::query!(
        r#"SELECT s.id, s.parent_id, s.client_id, a.name AS "app_name?", s.device_id, s.device_name, s.user_agent,
                  host(s.address) AS ip_address, s.created_at, s.last_used_at, s.expires_at
           FROM auth.sessions s LEFT JOIN auth.apps a ON a.id = s.client_id
           WHERE s.revoked_at IS NULL AND s.expires_at > now() ORDER BY s.last_used_at DESC, s.id"#
    )
    .fetch_all(db)
    .await?;
    let sessions = rows.into_iter().map(|row| Session {
        id: row.id.into(),
        current: row.id == current.uuid(),
        app: (row.client_id != FIRST_PARTY).then(|| SessionApp {
            name: row.app_name.unwrap_or_else(|| row.client_id.clone()),
            id: row.client_id,
        }),
        parent_id: row.parent_id.map(SessionId::from),
        device_id: row.device_id,
        device_name: row.device_name,
        user_agent: row.user_agent,
        ip_address: row.ip_address,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        expires_at: row.expires_at,
    });
    Ok(sessions.collect())
}

/// What was asked to end.
pub struct Ended {
    /// Whether it was live.
    pub was_live: bool,
    /// Whether it was an app's, below the one of the browser's cookie.
    pub is_below: bool,
}

/// Ends one of the acting user's sessions, and what is below it. None where it is not theirs.
pub async fn revoke(db: &mut PgConnection, session: SessionId) -> sqlx::Result<Option<Ended>> {
    sqlx::query_as!(
        Ended,
        r#"WITH ended AS (
               UPDATE auth.sessions SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING id
           )
           SELECT EXISTS (SELECT FROM ended) AS "was_live!", parent_id IS NOT NULL AS "is_below!"
           FROM auth.sessions WHERE id = $1"#,
        session.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Ends all of the acting user's sessions, and those that wait for a second step.
pub async fn revoke_all(db: &mut PgConnection) -> sqlx::Result<()> {
    end_all_but(db, None).await
}

/// Ends all of the acting user's sessions but this one, and those that wait for a second step. Where it
/// is an app's, the one above stays, with which it would end.
pub async fn revoke_others(db: &mut PgConnection, current: SessionId) -> sqlx::Result<()> {
    end_all_but(db, Some(current)).await
}

/// In the order of whatever ends one with what is below it: neither waits for the other in a circle.
async fn end_all_but(db: &mut PgConnection, current: Option<SessionId>) -> sqlx::Result<()> {
    forget_halves(&mut *db).await?;
    sqlx::query!(
        "WITH ending AS MATERIALIZED (
             SELECT id FROM auth.sessions
             WHERE revoked_at IS NULL AND id IS DISTINCT FROM $1
               AND id IS DISTINCT FROM (SELECT parent_id FROM auth.sessions WHERE id = $1)
             ORDER BY parent_id NULLS FIRST, id FOR UPDATE
         )
         UPDATE auth.sessions SET revoked_at = now() WHERE id IN (SELECT id FROM ending)",
        current.map(SessionId::uuid)
    )
    .execute(&mut *db)
    .await?;
    end_grants(db, current).await
}

/// Ends what the acting user has granted relying parties, but in this session; grants for when nobody is
/// there, too.
async fn end_grants(db: &mut PgConnection, current: Option<SessionId>) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE auth.client_grants SET revoked_at = now() WHERE revoked_at IS NULL AND session_id IS DISTINCT FROM $1",
        current.map(SessionId::uuid)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Comes before revoking: a second step that is being taken ends first, and its session is seen.
async fn forget_halves(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM auth.half_sign_ins")
        .execute(db)
        .await?;
    Ok(())
}
