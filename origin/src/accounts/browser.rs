//! What a browser can show that it did before, by a keyed cookie: that it registered an account, or
//! that it asked for a link to an address. Whoever opens a link that a stranger asked for, or one of a
//! stranger's account, has no such cookie.

use axum::http::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use shared::ids::UserId;

use crate::{
    app::App,
    cookies::{self, Reach},
};

/// What a browser did.
pub enum Deed<'a> {
    /// It registered this account.
    Registered(UserId),
    /// It asked for a link to this address, normalised.
    Asked(&'a str),
}

/// As long as links of registering are sent again.
const REMEMBERED: TimeDelta = TimeDelta::days(7);

impl Deed<'_> {
    /// The `Set-Cookie` for a browser that has just done it.
    pub fn remember(&self, app: &App, now: DateTime<Utc>) -> String {
        let (name, label, subject) = self.parts();
        let until = (now + REMEMBERED).timestamp().to_be_bytes();
        let value = cookies::sign(&app.cookie_key, label, &subject, &until);
        cookies::set(
            &Reach::host(&app.config.public_url),
            name,
            &value,
            REMEMBERED.num_seconds(),
        )
    }

    /// Whether this browser did it, and not long ago.
    pub fn was_done(&self, app: &App, headers: &HeaderMap, now: DateTime<Utc>) -> bool {
        let (name, label, subject) = self.parts();
        cookies::find(headers, &Reach::host(&app.config.public_url), name)
            .and_then(|value| cookies::read(&app.cookie_key, label, &subject, value))
            .is_some_and(|until| now.timestamp() < i64::from_be_bytes(until))
    }

    /// The cookie's name, and what its MAC is about.
    fn parts(&self) -> (&'static str, &'static [u8], Vec<u8>) {
        match self {
            Self::Registered(user) => (
                "tollgate-registered",
                b"browser that registered",
                user.uuid().as_bytes().to_vec(),
            ),
            Self::Asked(email) => (
                "tollgate-asked",
                b"browser that asked",
                email.as_bytes().to_vec(),
            ),
        }
    }
}
