//! The end of every way to sign in: somebody has proved who they are, and gets a session, or is
//! asked for their second factor first.

use axum::{
    Json,
    http::header,
    response::{AppendHeaders, IntoResponse, Response},
};
use shared::api::{Device, SecondStepAsked, SignedIn, User};
use sqlx::PgConnection;
use url::Url;

use crate::{
    app::App,
    error::Error as Failure,
    front::Client,
    mail::{self, Kind},
    pages::{self, Reader},
    revocations, second_factor,
    sessions::{self, NewSession},
};

use super::DeviceId;

/// Somebody who has proved who they are.
pub struct Arrival<'a> {
    /// Who.
    pub user: User,
    /// By which means, as `amr` says it (RFC 8176).
    pub proved_by: &'a [&'a str],
    /// The device's own name for itself.
    pub device_id: Option<&'a Device>,
    /// What its owner calls it.
    pub device_name: Option<&'a Device>,
    /// Whether the session slides further.
    pub remember: bool,
}

/// What comes of an arrival.
pub enum Entry {
    /// A session, with each `Set-Cookie` of its browser.
    SignedIn(Box<SignedIn>, Vec<String>),
    /// Neither, before a second step.
    SecondStep(SecondStepAsked),
}

impl IntoResponse for Entry {
    fn into_response(self) -> Response {
        match self {
            Self::SignedIn(tokens, cookies) => {
                let cookies = cookies
                    .into_iter()
                    .map(|cookie| (header::SET_COOKIE, cookie));
                (AppendHeaders(cookies), Json(tokens)).into_response()
            }
            Self::SecondStep(asked) => Json(asked).into_response(),
        }
    }
}

impl Entry {
    /// The answer to the form of a page of ours: the browser has the session's cookie, and no use
    /// for tokens.
    pub fn on_page(self, app: &App, reader: &Reader, leads_to: Option<&Url>) -> Response {
        match self {
            Self::SignedIn(_, cookies) => {
                let answer = reader.lead(app, leads_to, reader.words.links.signed_in);
                let half = pages::forget_half(app);
                pages::with_cookies(cookies.into_iter().chain([half]), answer)
            }
            Self::SecondStep(asked) => pages::ask_for_code(app, reader, &asked, leads_to),
        }
    }
}

/// Lets somebody in, or asks them for their second factor, as the last thing that a transaction does
/// that acts for them.
pub async fn enter(
    app: &App,
    db: &mut PgConnection,
    arrival: Arrival<'_>,
    client: &Client,
) -> Result<Entry, Failure> {
    let device = DeviceId::of(client);
    let session = NewSession {
        user: arrival.user.id,
        proved_by: arrival.proved_by,
        device_hash: device.hash(),
        device_id: arrival.device_id.map(Device::as_str),
        device_name: arrival.device_name.map(Device::as_str),
        remember: arrival.remember,
    };
    let Some(opened) = sessions::open(app, db, session, client).await? else {
        let asked = second_factor::ask(db, &arrival, client).await?;
        revocations::append_ended(db).await?;
        return Ok(Entry::SecondStep(asked));
    };
    let user = arrival.user;
    // Where a session was crowded out as well, the feed waits for this one trip.
    if opened.is_new_device && app.mail.is_some() {
        let session = Some(opened.family.session);
        mail::enqueue(db, user.id, Kind::NewDevice, None, session).await?;
    }
    let tokens = sessions::tokens(app, user, &opened.family)?;
    let cookies = vec![opened.cookie, device.cookie(app)];
    Ok(Entry::SignedIn(Box::new(tokens), cookies))
}
