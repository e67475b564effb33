//! The SQL of the queue.

use chrono::{DateTime, Utc};
use shared::ids::{SessionId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{db::Pool, rim};

use super::Kind;

/// Puts a mail to the acting user into the queue, in the transaction that it tells of.
pub async fn enqueue(
    db: &mut PgConnection,
    user: UserId,
    kind: Kind,
    redirect_to: Option<&str>,
    session: Option<SessionId>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO auth.outbox (id, kind, user_id, redirect_to, session_id, expires_at)
         VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))",
        rim::new_id::<Uuid>(),
        kind.as_str(),
        user.uuid(),
        redirect_to,
        session.map(SessionId::uuid),
        f64::from(kind.patience_secs()),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Puts a mail into the queue that somebody asks for who is not signed in. Whether the address has
/// an account is of no importance here.
pub async fn ask(
    db: &Pool,
    kind: Kind,
    email_normalised: &str,
    redirect_to: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"SELECT auth.ask_for_mail($1, $2, $3, $4, make_interval(secs => $5)) AS "done: ()""#,
        rim::new_id::<Uuid>(),
        kind.as_str(),
        email_normalised,
        redirect_to,
        f64::from(kind.patience_secs()),
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// A mail to send, leased for a minute.
pub struct Due {
    pub id: Uuid,
    pub kind: Kind,
    /// How many attempts there were, with this one.
    pub attempts: i32,
    /// Whether it would help nobody any more.
    pub is_over: bool,
    pub redirect_to: Option<String>,
    /// When it was put into the queue.
    pub created_at: DateTime<Utc>,
    /// To whom; nobody when the address has no account.
    pub to: Option<Addressee>,
    /// The sign-in that it tells of.
    pub sign_in: Option<SignIn>,
}

/// Who gets it.
pub struct Addressee {
    pub user: UserId,
    pub email: String,
    pub name: Option<String>,
    pub email_verified: bool,
}

/// A sign-in, as its session has it.
pub struct SignIn {
    pub at: DateTime<Utc>,
    pub address: Option<String>,
    pub agent: Option<String>,
}

/// The mail that has been due longest, if one is.
pub async fn claim(db: &Pool) -> sqlx::Result<Option<Due>> {
    let row = sqlx::query!(
        r#"SELECT id AS "id!", kind AS "kind!", attempts AS "attempts!", is_over AS "is_over!", redirect_to,
                  created_at AS "created_at!", user_id, email, name, email_verified,
                  signed_in_at, address, user_agent
           FROM auth.claim_mail()"#
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let kind = Kind::parse(&row.kind);
        let to = match (row.user_id, row.email, row.email_verified) {
            (Some(user), Some(email), Some(email_verified)) => Some(Addressee {
                user: user.into(),
                email,
                name: row.name,
                email_verified,
            }),
            _ => None,
        };
        Ok(Due {
            id: row.id,
            kind: kind.ok_or_else(|| sqlx::Error::Decode("a kind of mail".into()))?,
            attempts: row.attempts,
            is_over: row.is_over,
            redirect_to: row.redirect_to,
            created_at: row.created_at,
            to,
            sign_in: row.signed_in_at.map(|at| SignIn {
                at,
                address: row.address,
                agent: row.user_agent,
            }),
        })
    })
    .transpose()
}

/// Takes a mail out of the queue.
pub async fn forget(db: &Pool, id: Uuid) -> sqlx::Result<()> {
    sqlx::query!(r#"SELECT auth.forget_mail($1) AS "done: ()""#, id)
        .fetch_one(db)
        .await?;
    Ok(())
}

/// How many mails wait, and for how many seconds the oldest has.
pub async fn waiting(db: &Pool) -> sqlx::Result<(i64, f64)> {
    let row = sqlx::query!(
        r#"SELECT waiting AS "waiting!", oldest_secs AS "oldest_secs!" FROM auth.mail_waiting()"#
    )
    .fetch_one(db)
    .await?;
    Ok((row.waiting, row.oldest_secs))
}
