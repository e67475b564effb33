//! That a form was made for the browser that sends it: a keyed MAC over the browser's session or, where
//! nobody is signed in, over a random cookie of a day. Beside it stands the browser's own word on where
//! the form comes from ([`crate::forgery`]).

use axum::http::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use shared::ids::SessionId;

use crate::{
    app::App,
    cookies::{self, Reach},
    rim,
};

/// The field that carries it.
pub const FIELD: &str = "csrf";
const COOKIE: &str = "tollgate-forms";
const OF_COOKIE: &[u8] = b"cookie for forms";
const OF_FORM: &[u8] = b"form of a page";
/// How long a page may stay open, and the cookie is kept.
const LIFETIME: TimeDelta = TimeDelta::days(1);

/// What the forms of a browser are bound to.
#[derive(Clone, Copy)]
pub enum Bound {
    /// Who is signed in there.
    Session(SessionId),
    /// A cookie, which the browser may not have yet.
    Cookie([u8; 16]),
}

impl Bound {
    /// To the session, or else to the cookie that the browser shows, or to a new one.
    pub fn of(app: &App, headers: &HeaderMap, session: Option<SessionId>) -> Self {
        let shown = || {
            let value = cookies::find(headers, &Reach::host(&app.config.public_url), COOKIE)?;
            cookies::read(&app.cookie_key, OF_COOKIE, &[], value)
        };
        match session {
            Some(session) => Self::Session(session),
            None => Self::Cookie(shown().unwrap_or_else(|| *rim::random::<16>())),
        }
    }

    /// The `Set-Cookie` of a page with a form, where it needs one.
    pub fn cookie(self, app: &App) -> Option<String> {
        let Self::Cookie(random) = self else {
            return None;
        };
        let value = cookies::sign(&app.cookie_key, OF_COOKIE, &[], &random);
        let reach = Reach::host(&app.config.public_url);
        Some(cookies::set(&reach, COOKIE, &value, LIFETIME.num_seconds()))
    }

    /// What a form of this browser carries.
    pub fn token(self, app: &App, now: DateTime<Utc>) -> String {
        let until = (now + LIFETIME).timestamp().to_be_bytes();
        cookies::sign(&app.cookie_key, OF_FORM, &self.subject(), &until)
    }

    /// Whether a form with this was made for this browser, not long ago. In constant time.
    pub fn made(self, app: &App, token: &str, now: DateTime<Utc>) -> bool {
        cookies::read(&app.cookie_key, OF_FORM, &self.subject(), token)
            .is_some_and(|until| now.timestamp() < i64::from_be_bytes(until))
    }

    fn subject(self) -> [u8; 17] {
        let mut subject = [0; 17];
        let (kind, id) = match self {
            Self::Session(session) => (1, *session.uuid().as_bytes()),
            Self::Cookie(random) => (2, random),
        };
        subject[0] = kind;
        subject[1..].copy_from_slice(&id);
        subject
    }
}
