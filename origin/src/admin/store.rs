//! The SQL of what admins and operators do.

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    claims::Role,
    ids::{SessionId, UserId},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{accounts, front::Client};

use super::{Change, Error, Search};

/// Somebody whom a search found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Who.
    pub id: UserId,
    /// As it was typed.
    pub email: String,
    /// What to call them.
    pub name: Option<String>,
    /// What they may do.
    pub role: Role,
    /// `active` or `banned`.
    pub status: String,
    /// Whether the address was shown to be theirs.
    pub email_verified: bool,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// What the list is in the order of.
    #[serde(skip)]
    pub key: String,
}

/// An account as an admin sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Whose.
    pub id: UserId,
    /// As it was typed.
    pub email: String,
    /// What to call them.
    pub name: Option<String>,
    /// What they may do.
    pub role: Role,
    /// `active` or `banned`.
    pub status: String,
    /// Whether the address was shown to be theirs.
    pub email_verified: bool,
    /// Whether there is a password.
    pub has_password: bool,
    /// Whether a second factor is asked for.
    pub has_second_factor: bool,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// Something that happened to an account, as an admin sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What.
    pub r#type: String,
    /// `success` or `failure`.
    pub outcome: String,
    /// The admin who did it, where it was one.
    pub admin_id: Option<Uuid>,
    /// Where from.
    pub ip_address: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// How much mail of a kind waits.
#[derive(Debug)]
pub struct MailCount {
    /// Which kind.
    pub kind: String,
    /// How much.
    pub waiting: i64,
    /// Since when the oldest does.
    pub oldest_at: DateTime<Utc>,
}

/// A mail that was tried and did not leave.
#[derive(Debug)]
pub struct StuckMail {
    /// Which kind.
    pub kind: String,
    /// To whom, as far as it is shown.
    pub masked: String,
    /// How often.
    pub attempts: i32,
    /// Since when it waits.
    pub created_at: DateTime<Utc>,
    /// When it is tried again.
    pub due_at: DateTime<Utc>,
}

/// Insists on the acting user being an admin.
pub async fn insist(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SELECT auth.acting_admin() AS admin")
        .fetch_one(db)
        .await?;
    Ok(())
}

/// Makes `user` whose rows the transaction of an admin reads; says whether there is such a user.
pub async fn look_at(db: &mut PgConnection, user: UserId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"SELECT auth.look_as_admin($1) AS "is!""#, user.uuid())
        .fetch_one(db)
        .await
}

/// Does it to somebody, as the acting user, who is an admin.
pub async fn change(
    db: &mut PgConnection,
    user: UserId,
    change: Change,
    client: &Client,
) -> Result<(), Error> {
    let (address, agent) = (client.address_text(), client.agent.as_deref());
    let outcome = match change {
        Change::Role(role) => {
            sqlx::query_scalar!(
                r#"SELECT auth.admin_changes_role($1, $2, $3::text::inet, $4) AS "outcome!""#,
                user.uuid(),
                role.as_str(),
                address,
                agent
            )
            .fetch_one(db)
            .await
        }
        Change::Ban | Change::Unban => {
            sqlx::query_scalar!(
                r#"SELECT auth.admin_changes_ban($1, $2, $3::text::inet, $4) AS "outcome!""#,
                user.uuid(),
                change == Change::Ban,
                address,
                agent
            )
            .fetch_one(db)
            .await
        }
        Change::EndSession(_) | Change::SignOut => {
            sqlx::query_scalar!(
                r#"SELECT auth.admin_ends_sessions($1, $2, $3::text::inet, $4) AS "outcome!""#,
                user.uuid(),
                change.session(),
                address,
                agent
            )
            .fetch_one(db)
            .await
        }
    };
    conclude(outcome?)
}

/// Does it to somebody, as the owner of the database.
pub async fn operate(db: &mut PgConnection, user: UserId, change: Change) -> Result<(), Error> {
    let outcome = match change {
        Change::Role(role) => {
            sqlx::query_scalar!(
                r#"SELECT auth.change_role(NULL, $1, $2, NULL, NULL) AS "outcome!""#,
                user.uuid(),
                role.as_str()
            )
            .fetch_one(db)
            .await
        }
        Change::Ban | Change::Unban => {
            sqlx::query_scalar!(
                r#"SELECT auth.change_ban(NULL, $1, $2, NULL, NULL) AS "outcome!""#,
                user.uuid(),
                change == Change::Ban
            )
            .fetch_one(db)
            .await
        }
        Change::EndSession(_) | Change::SignOut => {
            sqlx::query_scalar!(
                r#"SELECT auth.end_sessions(NULL, $1, $2, NULL, NULL) AS "outcome!""#,
                user.uuid(),
                change.session()
            )
            .fetch_one(db)
            .await
        }
    };
    conclude(outcome?)
}

impl Change {
    fn session(self) -> Option<Uuid> {
        match self {
            Self::EndSession(session) => Some(SessionId::uuid(session)),
            _ => None,
        }
    }
}

fn conclude(outcome: String) -> Result<(), Error> {
    match outcome.as_str() {
        "done" => Ok(()),
        "unknown_user" => Err(Error::NoSuchUser),
        "unknown_session" => Err(Error::NoSuchSession),
        "oneself" => Err(Error::Oneself),
        "as_before" => Err(Error::AsBefore),
        _ => Err(Error::UnknownOutcome(outcome)),
    }
}

struct Row {
    id: Uuid,
    email: String,
    name: Option<String>,
    role: String,
    status: String,
    email_verified: bool,
    created_at: DateTime<Utc>,
    key: String,
}

/// One more than a page has, as the acting user, who is an admin.
pub async fn find(db: &mut PgConnection, search: &Search) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id!", email AS "email!", name, role AS "role!", status AS "status!",
                  email_verified AS "email_verified!", created_at AS "created_at!", key AS "key!"
           FROM auth.admin_finds_people($1, $2, $3, $4)"#,
        search.prefix,
        search.id,
        search.after,
        search.most()
    )
    .fetch_all(db)
    .await?;
    found(rows)
}

/// The same, as the owner of the database.
pub async fn people(db: &mut PgConnection, search: &Search) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id!", email AS "email!", name, role AS "role!", status AS "status!",
                  email_verified AS "email_verified!", created_at AS "created_at!", key AS "key!"
           FROM auth.people($1, $2, $3, $4)"#,
        search.prefix,
        search.id,
        search.after,
        search.most()
    )
    .fetch_all(db)
    .await?;
    found(rows)
}

impl Search {
    fn most(&self) -> i32 {
        i32::try_from(self.limit + 1).unwrap_or(i32::MAX)
    }
}

fn found(rows: Vec<Row>) -> sqlx::Result<Vec<Found>> {
    let found = rows.into_iter().map(|row| {
        Ok(Found {
            id: row.id.into(),
            email: row.email,
            name: row.name,
            role: accounts::role(&row.role)?,
            status: row.status,
            email_verified: row.email_verified,
            created_at: row.created_at,
            key: row.key,
        })
    });
    found.collect()
}

/// The acting user's account.
pub async fn account(db: &mut PgConnection) -> sqlx::Result<Account> {
    let row = sqlx::query!(
        r#"SELECT id, email, name, role, status, email_verified, created_at,
                  EXISTS (SELECT user_id FROM auth.passwords) AS "has_password!",
                  EXISTS (SELECT user_id FROM auth.totp WHERE confirmed_at IS NOT NULL) AS "has_second_factor!"
           FROM auth.users"#
    )
    .fetch_one(db)
    .await?;
    Ok(Account {
        id: row.id.into(),
        email: row.email,
        name: row.name,
        role: accounts::role(&row.role)?,
        status: row.status,
        email_verified: row.email_verified,
        has_password: row.has_password,
        has_second_factor: row.has_second_factor,
        created_at: row.created_at,
    })
}

/// What happened to the acting user's account, the latest first.
pub async fn events(db: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Event>> {
    sqlx::query_as!(
        Event,
        r#"SELECT type AS "type!", outcome, admin_id, host(address) AS ip_address, at
           FROM auth.security_events ORDER BY id DESC LIMIT $1"#,
        limit
    )
    .fetch_all(db)
    .await
}

/// Makes the owner's transaction one of the runtime role, which sees what is `user`'s alone.
pub async fn become_user(db: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        r#"SELECT set_config('role', 'tollgate_app', true) AS role, set_config('tollgate.user', $1, true) AS acting"#,
        user.to_string()
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// Writes down that the acting user, an admin, moved somebody's credits.
pub async fn moved_credits(
    db: &mut PgConnection,
    user: UserId,
    r#type: &str,
    client: &Client,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"SELECT auth.admin_moved_credits($1, $2, $3::text::inet, $4) AS "done: ()""#,
        user.uuid(),
        r#type,
        client.address_text(),
        client.agent
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// How much mail waits, as an admin sees it.
pub async fn mail_counts(db: &mut PgConnection) -> sqlx::Result<Vec<MailCount>> {
    sqlx::query_as!(
        MailCount,
        r#"SELECT kind AS "kind!", waiting AS "waiting!", oldest_at AS "oldest_at!" FROM auth.admin_counts_mail()"#
    )
    .fetch_all(db)
    .await
}

/// What does not leave, as an admin sees it.
pub async fn stuck_mail(db: &mut PgConnection, limit: i32) -> sqlx::Result<Vec<StuckMail>> {
    sqlx::query_as!(
        StuckMail,
        r#"SELECT kind AS "kind!", masked AS "masked!", attempts AS "attempts!",
                  created_at AS "created_at!", due_at AS "due_at!"
           FROM auth.admin_sees_mail($1)"#,
        limit
    )
    .fetch_all(db)
    .await
}
