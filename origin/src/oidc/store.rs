//! The SQL of grants.

use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::counter;
use shared::{
    api::{MatrixLink, MatrixSession, User},
    claims::Role,
    ids::{SessionId, UserId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::Pool;
use crate::front::Client as Asker;

use super::{access::Access, clients::Alg, scopes::Scopes};

/// Who is signed in in a browser.
pub struct Browser {
    /// The session of its cookie.
    pub session: SessionId,
    /// Their address.
    pub email: String,
    /// Whose it is.
    pub user: UserId,
    /// When they last proved who they are.
    pub authenticated_at: DateTime<Utc>,
}

/// Who is signed in in the browser with this cookie.
pub async fn browser(db: &Pool, cookie_hash: &[u8]) -> sqlx::Result<Option<Browser>> {
    let row = sqlx::query!(
        r#"SELECT session_id AS "session_id!", user_id AS "user_id!", email AS "email!",
                  authenticated_at AS "authenticated_at!"
           FROM auth.signed_in_browser($1)"#,
        cookie_hash
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Browser {
        session: row.session_id.into(),
        email: row.email,
        user: row.user_id.into(),
        authenticated_at: row.authenticated_at,
    }))
}

/// A grant to be opened.
pub struct NewGrant<'a> {
    /// Its id, which is in the code.
    pub id: Uuid,
    /// What the code is known by.
    pub code_hash: [u8; 32],
    /// To whom.
    pub client: &'a str,
    /// For what.
    pub scopes: &'a [String],
    /// Where its code goes.
    pub redirect_uri: &'a str,
    /// What the code is bound to.
    pub challenge: Option<&'a str>,
    /// What the client wants to see again.
    pub nonce: Option<&'a str>,
    /// What the MAC of its refresh tokens covers.
    pub salt: [u8; 16],
    /// For how long the code is good.
    pub code_secs: i32,
    /// Whether they have just said yes.
    pub consents: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening {
    /// It is there.
    Opened,
    /// They are to be asked.
    Consent,
    /// Nobody is signed in any more.
    Ended,
}

/// Opens a grant for whoever is signed in in the browser with this cookie.
pub async fn open(
    db: &Pool,
    cookie_hash: &[u8],
    grant: &NewGrant<'_>,
    from: &Asker,
) -> sqlx::Result<Opening> {
    let outcome = sqlx::query_scalar!(
        r#"SELECT auth.open_grant($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::text::inet, $13) AS "outcome!""#,
        cookie_hash,
        grant.id,
        grant.client,
        grant.scopes,
        grant.redirect_uri,
        &grant.code_hash,
        grant.challenge,
        grant.nonce,
        &grant.salt,
        grant.code_secs,
        grant.consents,
        from.address_text(),
        from.agent,
    )
    .fetch_one(db)
    .await?;
    match outcome.as_str() {
        "opened" => Ok(Opening::Opened),
        "consent" => Ok(Opening::Consent),
        "ended" => Ok(Opening::Ended),
        _ => Err(sqlx::Error::Decode("what became of a grant".into())),
    }
}

/// What a client has been granted.
pub struct Granted {
    /// The grant.
    pub grant: Uuid,
    /// Which refresh token of it is the good one.
    pub counter: i32,
    /// What its MAC covers.
    pub salt: Vec<u8>,
    /// By whom.
    pub user: UserId,
    /// In which session of their browser.
    pub session: SessionId,
    /// For what.
    pub scopes: Vec<String>,
    /// What the client wanted to see again.
    pub nonce: Option<String>,
    /// When they had proved who they are.
    pub authenticated_at: DateTime<Utc>,
    /// How.
    pub amr: Vec<String>,
    /// The `iat` of its tokens.
    pub issued_at: DateTime<Utc>,
}

/// The columns of both functions that give a client its tokens.
struct Row {
    outcome: String,
    counter: Option<i32>,
    salt: Option<Vec<u8>>,
    user_id: Option<Uuid>,
    session_id: Option<Uuid>,
    scopes: Option<Vec<String>>,
    nonce: Option<String>,
    authenticated_at: Option<DateTime<Utc>>,
    amr: Option<Vec<String>>,
    issued_at: Option<DateTime<Utc>>,
}

impl Row {
    fn granted(self, grant: Uuid) -> Option<Granted> {
        if !matches!(
            self.outcome.as_str(),
            "redeemed" | "rotated" | "repeated" | "raced" | "recovered"
        ) {
            tracing::info!(outcome = self.outcome, %grant, "a code or refresh token was refused");
            return None;
        }
        Some(Granted {
            grant,
            counter: self.counter?,
            salt: self.salt?,
            user: self.user_id?.into(),
            session: self.session_id?.into(),
            scopes: self.scopes?,
            nonce: self.nonce,
            authenticated_at: self.authenticated_at?,
            amr: self.amr?,
            issued_at: self.issued_at?,
        })
    }
}

/// A code as a client shows it.
pub struct Shown<'a> {
    /// The grant that it names.
    pub grant: Uuid,
    /// What it is known by.
    pub code_hash: [u8; 32],
    /// Who shows it.
    pub client: &'a str,
    /// Where it came.
    pub redirect_uri: &'a str,
    /// What the shown verifier makes.
    pub challenge: Option<&'a str>,
}

/// Gives a client what its code stands for, once.
pub async fn redeem(db: &Pool, shown: &Shown<'_>, from: &Asker) -> sqlx::Result<Option<Granted>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT outcome AS "outcome!", counter, salt, user_id, session_id, scopes, nonce, authenticated_at, amr, issued_at
           FROM auth.redeem_code($1, $2, $3, $4, $5, $6::text::inet, $7)"#,
        shown.grant,
        &shown.code_hash,
        shown.client,
        shown.redirect_uri,
        shown.challenge,
        from.address_text(),
        from.agent,
    )
    .fetch_one(db)
    .await?;
    Ok(row.granted(shown.grant))
}

/// Whose a grant is, and what the MAC of its refresh tokens covers.
pub async fn salt(db: &Pool, grant: Uuid) -> sqlx::Result<Option<(String, Vec<u8>)>> {
    let row = sqlx::query!(
        r#"SELECT client_id AS "client_id!", salt AS "salt!" FROM auth.grant_salt($1)"#,
        grant
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.client_id, row.salt)))
}

/// Lets Postgres decide what a refresh token with a good MAC is worth.
pub async fn refresh(
    db: &Pool,
    (grant, counter): (Uuid, i32),
    client: &str,
    grace: Duration,
    from: &Asker,
) -> sqlx::Result<Option<Granted>> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT outcome AS "outcome!", counter, salt, user_id, session_id, scopes, nonce, authenticated_at, amr, issued_at
           FROM auth.refresh_grant($1, $2, $3, make_interval(secs => $4), $5::text::inet, $6)"#,
        grant,
        client,
        counter,
        grace.as_secs_f64(),
        from.address_text(),
        from.agent,
    )
    .fetch_one(db)
    .await?;
    counter!("tollgate_grant_refreshes_total", "outcome" => row.outcome.clone()).increment(1);
    Ok(row.granted(grant))
}

/// A grant that lives, and who gave it.
pub struct Holder {
    /// To whom.
    pub client_id: String,
    /// Who.
    pub user_id: Uuid,
    /// Their address.
    pub email: String,
    /// Whether it is known to be theirs.
    pub email_verified: bool,
    /// What they call themselves.
    pub name: Option<String>,
    /// Where their picture is.
    pub image: Option<String>,
    /// The client's server name, where it is a Matrix server.
    pub matrix_server: Option<String>,
}

/// A grant that lives.
pub async fn holder(db: &Pool, grant: Uuid) -> sqlx::Result<Option<Holder>> {
    sqlx::query_as!(
        Holder,
        r#"SELECT client_id AS "client_id!", user_id AS "user_id!", email AS "email!",
                  email_verified AS "email_verified!", name, image, matrix_server
           FROM auth.grant_of($1)"#,
        grant
    )
    .fetch_optional(db)
    .await
}

/// The client gives a grant up.
pub async fn revoke(db: &Pool, grant: Uuid, client: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r#"SELECT auth.revoke_grant($1, $2) AS "done: ()""#,
        grant,
        client
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// A client that is to hear of the end of a session.
pub struct Notice {
    /// Which one it is.
    pub id: i64,
    /// Who is to hear.
    pub client: String,
    /// Of whom.
    pub user: UserId,
    /// Of which session.
    pub session: SessionId,
    /// How many attempts there were, with this one.
    pub attempts: i32,
    /// Whether it would help nobody any more.
    pub is_over: bool,
    /// Where, and how it is signed; nowhere, where the client is none any more.
    pub to: Option<(String, Alg)>,
}

/// The notice that has been due longest, if one is.
pub async fn claim_notice(db: &Pool) -> sqlx::Result<Option<Notice>> {
    let row = sqlx::query!(
        r#"SELECT id AS "id!", client_id AS "client_id!", user_id AS "user_id!", session_id AS "session_id!",
                  attempts AS "attempts!", is_over AS "is_over!", uri, alg
           FROM auth.claim_logout_notice()"#
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Notice {
        id: row.id,
        client: row.client_id,
        user: row.user_id.into(),
        session: row.session_id.into(),
        attempts: row.attempts,
        is_over: row.is_over,
        to: row.uri.zip(row.alg.as_deref().map(Alg::parse)),
    }))
}

/// Takes a notice out of the queue.
pub async fn forget_notice(db: &Pool, id: i64) -> sqlx::Result<()> {
    sqlx::query!(r#"SELECT auth.forget_logout_notice($1) AS "done: ()""#, id)
        .fetch_one(db)
        .await?;
    Ok(())
}

/// Links a Matrix id to whoever gave a grant; says whether it is theirs now.
pub async fn link_matrix(db: &Pool, grant: Uuid, mxid: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT auth.link_matrix($1, $2) AS "is_theirs!""#,
        grant,
        mxid
    )
    .fetch_one(db)
    .await
}

/// Whose a Matrix id is.
pub async fn matrix_holder(db: &Pool, mxid: &str) -> sqlx::Result<Option<MatrixSession>> {
    let row = sqlx::query!(
        r#"SELECT user_id AS "user_id!", email AS "email!", name, email_verified AS "email_verified!",
                  linked_at AS "linked_at!", last_used_at AS "last_used_at!"
           FROM auth.matrix_holder($1)"#,
        mxid
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| MatrixSession {
        user: User {
            id: row.user_id.into(),
            email: row.email,
            name: row.name,
            email_verified: row.email_verified,
            // A bot does for nobody what only an admin may.
            role: Role::User,
        },
        matrix_user_id: mxid.to_owned(),
        linked_at: row.linked_at,
        last_used_at: row.last_used_at,
    }))
}

/// The acting user's Matrix ids.
pub async fn matrix_links(db: &mut PgConnection) -> sqlx::Result<Vec<MatrixLink>> {
    sqlx::query_as!(
        MatrixLink,
        "SELECT mxid AS matrix_user_id, linked_at, last_used_at FROM auth.matrix_links ORDER BY linked_at, mxid"
    )
    .fetch_all(db)
    .await
}

/// Forgets one of the acting user's Matrix ids; says whether it was theirs.
pub async fn unlink_matrix(db: &mut PgConnection, mxid: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!("DELETE FROM auth.matrix_links WHERE mxid = $1", mxid)
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The clients that the acting user has allowed something, and those with a grant that lives.
pub async fn access(db: &mut PgConnection) -> sqlx::Result<Vec<Access>> {
    let rows = sqlx::query!(
        r#"SELECT c.id, c.name, c.trusted, least(k.given_at, g.since) AS "since!",
                  coalesce(k.scopes, '{}') || coalesce(g.scopes, '{}') AS "scopes!"
           FROM auth.clients c
           LEFT JOIN auth.consents k ON k.client_id = c.id
           LEFT JOIN (
               SELECT o.client_id, min(o.created_at) AS since, array_agg(DISTINCT scope) AS scopes
               FROM auth.client_grants o JOIN auth.sessions s ON s.id = o.session_id, unnest(o.scopes) AS scope
               WHERE o.revoked_at IS NULL AND o.expires_at > now()
                 AND (o.offline OR s.revoked_at IS NULL AND s.expires_at > now())
               GROUP BY o.client_id
           ) g ON g.client_id = c.id
           WHERE k.client_id IS NOT NULL OR g.client_id IS NOT NULL
           ORDER BY c.name, c.id"#
    )
    .fetch_all(db)
    .await?;
    let list = rows.into_iter().map(|row| Access {
        client: row.id,
        name: row.name,
        is_trusted: row.trusted,
        scopes: Scopes::read(&row.scopes),
        since: row.since,
    });
    Ok(list.collect())
}

/// Forgets what the acting user has allowed a client, ends its grants, and lets it hear of that; says
/// whether there was anything.
pub async fn end_access(db: &mut PgConnection, client: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT auth.end_access($1) AS "was_there!""#, client)
        .fetch_one(db)
        .await
}

/// Drops grants that have ended.
pub async fn sweep(db: &Pool, most: i32) -> sqlx::Result<()> {
    sqlx::query!(r#"SELECT auth.sweep_grants($1) AS "done: ()""#, most)
        .fetch_one(db)
        .await?;
    Ok(())
}
