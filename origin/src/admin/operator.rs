//! What an operator does to accounts, as the owner of the database.

use shared::ids::UserId;
use sqlx::{Connection, PgConnection};

use super::{Change, Error, Looked, People, Search, seen, store};

/// Looks for people.
pub async fn find(db: &mut PgConnection, search: &Search) -> Result<People, Error> {
    Ok(search.people(store::people(db, search).await?))
}

/// Who has this id or exactly this address.
pub async fn named(db: &mut PgConnection, text: &str) -> Result<UserId, Error> {
    let search = Search::new(text, "").limit(1);
    let found = store::people(db, &search).await?;
    let first = found.into_iter().next();
    first
        .filter(|first| search.id.is_some() || first.key == search.prefix)
        .map(|first| first.id)
        .ok_or(Error::NoSuchUser)
}

/// Everything that there is to see of an account, but for its credits.
pub async fn look(db: &mut PgConnection, user: UserId) -> Result<Looked, Error> {
    let mut transaction = db.begin().await?;
    store::become_user(&mut transaction, user).await?;
    seen(&mut transaction).await
}

/// Does it to somebody.
pub async fn change(db: &mut PgConnection, user: UserId, change: Change) -> Result<(), Error> {
    let mut transaction = db.begin().await?;
    store::operate(&mut transaction, user, change).await?;
    Ok(transaction.commit().await?)
}
