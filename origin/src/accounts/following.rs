//! What following a link of a mail has in common, whatever the link is for. Looking at its page
//! changes nothing, since scanners of mail do that too; the button on it does, or a program that
//! knows more than the link.

use axum::{
    Json,
    extract::{Query, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use shared::api::Done;
use sqlx::PgConnection;
use url::Url;

use crate::{
    app::App,
    apps,
    error::Error as Failure,
    links::{self, Holder, Purpose},
    pages::{By, Reader},
};

use super::Error;

/// What a link carries.
#[derive(Deserialize)]
pub struct Carried {
    #[serde(default)]
    pub token: String,
}

/// The query of a page that a link leads to. One that cannot be read carries nothing.
pub type Link = Result<Query<Carried>, QueryRejection>;

/// A link that is still good, and not yet used.
pub struct Followed {
    /// Whose it is.
    pub holder: Holder,
    /// Where it leads in the end, if that may still be.
    pub leads_to: Option<Url>,
    purpose: Purpose,
    hash: [u8; 32],
}

impl Followed {
    /// Looks the link up.
    pub async fn find(app: &App, purpose: Purpose, token: &str) -> Result<Self, Error> {
        let hash = links::hash(token);
        let holder = links::find(app.db.pool(), purpose, &hash).await?;
        let holder = holder.ok_or(Error::InvalidLink)?;
        let leads_to = match &holder.redirect_to {
            Some(page) => apps::page(app, page).await?,
            None => None,
        };
        Ok(Self {
            holder,
            leads_to,
            purpose,
            hash,
        })
    }

    /// Uses it up, in a transaction that acts for its holder. Of two who follow it at once, the
    /// other one finds it used.
    pub async fn take(&self, db: &mut PgConnection) -> Result<(), Error> {
        if links::take(db, self.purpose, &self.hash).await? {
            Ok(())
        } else {
            Err(Error::InvalidLink)
        }
    }

    /// Says that it is done, to a program or by a page with this title, and leads on.
    pub fn done(
        &self,
        app: &App,
        reader: &Reader,
        by: By,
        (message, title): (&'static str, &str),
    ) -> Response {
        let leads_to = self.leads_to.as_ref();
        let done = Json(Done {
            success: true,
            message,
        });
        match (by, leads_to) {
            (By::Program, None) => done.into_response(),
            (By::Program, Some(url)) => {
                let there = [(header::LOCATION, url.as_str())];
                (StatusCode::SEE_OTHER, there, done).into_response()
            }
            (By::Page, None) => reader.sign_in_next(title),
            (By::Page, leads_to) => reader.lead(app, leads_to, title),
        }
    }
}

/// An answer for whoever asked: a link that is good no more has a page too.
pub fn tell(
    reader: &Reader,
    by: By,
    answer: Result<Response, Failure>,
) -> Result<Response, Failure> {
    match answer {
        Err(Failure::Account(Error::InvalidLink)) if by == By::Page => Ok(reader.gone()),
        answer => answer,
    }
}

/// The token of a link, which is empty when it carries none.
pub fn token(link: Link) -> String {
    link.map(|Query(carried)| carried.token).unwrap_or_default()
}
