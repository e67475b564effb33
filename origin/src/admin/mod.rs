//! What an admin does to somebody else's account: looking, ending sessions, the role, a ban. That
//! they are an admin, and do not do it to themselves, the database says (`auth.acting_admin`), and
//! it writes down who did what to whom. Operators do the same from the command line ([`operator`]),
//! as the owner of the database. Credits have a desk of their own.

mod health;
pub mod operator;
mod store;

use serde::Serialize;
use shared::{
    api::{OutsideAccount, Session},
    claims::Role,
    ids::{SessionId, UserId},
};
use sqlx::{PgConnection, Postgres, Transaction, error::DatabaseError};
use uuid::Uuid;

use crate::{app::App, front::Client, outside, sessions};

pub use health::{Health, health};
pub use store::{Account, Event, Found, MailCount, StuckMail, moved_credits};

/// How many people a page of the search has.
const PAGE: usize = 50;
/// How many events are shown with an account.
const LAST_EVENTS: i64 = 20;
/// How many mails that fail are shown.
const MOST_STUCK: i32 = 50;

/// Why something was not done to an account.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The acting user is no admin, or is none any more.
    #[error("not an admin")]
    NotAdmin,
    /// Nobody has that id, or the account was deleted.
    #[error("no such user")]
    NoSuchUser,
    /// They have no such session that lives.
    #[error("no such session")]
    NoSuchSession,
    /// Nobody takes their own role away, or shuts themselves out.
    #[error("an admin does not do that to their own account")]
    Oneself,
    /// It was like that before.
    #[error("it is like that already")]
    AsBefore,
    /// The schema knows an outcome that this build does not.
    #[error("the database answered {0:?}")]
    UnknownOutcome(String),
    /// The database failed.
    #[error("an admin's work in the database")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(DatabaseError::code);
        // What `auth.acting_admin` raises.
        if code.is_some_and(|code| code == "42501") {
            return Self::NotAdmin;
        }
        Self::Database(error)
    }
}

/// A change that an admin, or an operator, makes to an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// What they may do: `user` or `admin`.
    Role(Role),
    /// Nobody signs in any more, and everybody is signed out.
    Ban,
    /// The account is as others again.
    Unban,
    /// One session ends, with what is below it.
    EndSession(SessionId),
    /// All of them end.
    SignOut,
}

/// People that a search found.
#[derive(Debug, Serialize)]
pub struct People {
    /// In the order of their addresses.
    pub found: Vec<Found>,
    /// After which address the next page begins, if there is one.
    pub next: Option<String>,
}

/// Everything that an admin sees of an account, but for its credits.
#[derive(Debug, Serialize)]
pub struct Looked {
    /// The account.
    pub account: Account,
    /// Its live sessions, the latest first.
    pub sessions: Vec<Session>,
    /// Its accounts at other providers.
    pub linked: Vec<OutsideAccount>,
    /// What happened to it last, the latest first.
    pub events: Vec<Event>,
}

/// What waits to be sent.
#[derive(Debug)]
pub struct Outbox {
    /// By kind.
    pub counts: Vec<MailCount>,
    /// What has failed before, the most often first.
    pub stuck: Vec<StuckMail>,
}

/// What is asked of a search.
#[derive(Debug, Default)]
pub struct Search {
    prefix: String,
    id: Option<Uuid>,
    after: String,
    limit: usize,
}

impl Search {
    /// For an id, or for what an address begins with; from behind `after`, where a page ended.
    #[must_use]
    pub fn new(text: &str, after: &str) -> Self {
        let text = text.trim().to_lowercase();
        Self {
            id: text.parse().ok(),
            prefix: text,
            after: after.to_owned(),
            limit: PAGE,
        }
    }

    /// With pages of another length.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    fn people(&self, mut found: Vec<Found>) -> People {
        let is_more = found.len() > self.limit;
        found.truncate(self.limit);
        let next = found.last().filter(|_| is_more);
        People {
            next: next.map(|last| last.key.clone()),
            found,
        }
    }
}

/// Does it to `user`, as `admin`.
pub async fn change(
    app: &App,
    admin: UserId,
    user: UserId,
    change: Change,
    client: &Client,
) -> Result<(), Error> {
    let mut transaction = app.db.as_user(admin).await?;
    store::change(&mut transaction, user, change, client).await?;
    Ok(transaction.commit().await?)
}

/// Looks for people.
pub async fn find(app: &App, admin: UserId, search: &Search) -> Result<People, Error> {
    let mut transaction = app.db.as_user(admin).await?;
    let found = store::find(&mut transaction, search).await?;
    Ok(search.people(found))
}

/// A transaction of an admin that reads what is `user`'s, by the functions that do it for them.
pub async fn look_at(
    app: &App,
    admin: UserId,
    user: UserId,
) -> Result<Transaction<'static, Postgres>, Error> {
    let mut transaction = app.db.as_user(admin).await?;
    if store::look_at(&mut transaction, user).await? {
        Ok(transaction)
    } else {
        Err(Error::NoSuchUser)
    }
}

/// What there is to see of an account.
pub async fn look(app: &App, admin: UserId, user: UserId) -> Result<Looked, Error> {
    seen(&mut *look_at(app, admin, user).await?).await
}

/// What there is to see of the acting user.
async fn seen(db: &mut PgConnection) -> Result<Looked, Error> {
    Ok(Looked {
        account: store::account(&mut *db).await?,
        sessions: sessions::list(&mut *db, SessionId::from(Uuid::nil())).await?,
        linked: outside::list(&mut *db).await?,
        events: store::events(db, LAST_EVENTS).await?,
    })
}

/// A transaction of an admin, to read what is nobody's.
pub async fn as_admin(app: &App, admin: UserId) -> Result<Transaction<'static, Postgres>, Error> {
    let mut transaction = app.db.as_user(admin).await?;
    store::insist(&mut transaction).await?;
    Ok(transaction)
}

/// What waits to be sent.
pub async fn outbox(app: &App, admin: UserId) -> Result<Outbox, Error> {
    let mut transaction = app.db.as_user(admin).await?;
    Ok(Outbox {
        counts: store::mail_counts(&mut transaction).await?,
        stuck: store::stuck_mail(&mut transaction, MOST_STUCK).await?,
    })
}
