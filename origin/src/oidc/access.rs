//! What somebody lets clients do, for them to see and to take back.

use chrono::{DateTime, Utc};
use shared::ids::UserId;

use crate::{
    app::App,
    error::Error as Failure,
    front::Client,
    sessions::{self, Caller},
};

use super::{scopes::Scopes, store};

/// A client that may ask about somebody.
#[derive(Debug)]
pub struct Access {
    /// Its `client_id`.
    pub client: String,
    /// What people read.
    pub name: String,
    /// Whether nobody is asked for it.
    pub is_trusted: bool,
    /// What it may learn.
    pub scopes: Scopes,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Whom somebody has allowed, and who has a grant that lives without having been asked for.
pub async fn access(app: &App, user: UserId) -> sqlx::Result<Vec<Access>> {
    let mut transaction = app.db.as_user(user).await?;
    let list = store::access(&mut transaction).await?;
    transaction.commit().await?;
    Ok(list)
}

/// Takes back whatever a client was allowed: its tokens are worth nothing, and it asks again.
pub async fn end_access(
    app: &App,
    caller: Caller,
    name: &str,
    client: &Client,
) -> Result<(), Failure> {
    let mut transaction = app.db.writing_as(caller.user).await?;
    if !store::end_access(&mut transaction, name).await? {
        // It is over already, which is what was wanted.
        return Ok(());
    }
    let what = "client_access_ended";
    sessions::record(
        &mut transaction,
        caller.user,
        Some(caller.session),
        what,
        client,
    )
    .await?;
    Ok(transaction.commit().await?)
}
