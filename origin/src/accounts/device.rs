//! Devices: browsers, each known by a long-lived keyed cookie that signing in sets. Who has signed in
//! with which is written down by a hash of it. A thief who has the password has not the cookie: his
//! sign-in is a new device's, which the account's owner hears of.

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use shared::ids::UserId;
use sqlx::PgConnection;

use crate::{
    app::App,
    cookies::{self, Reach},
    front::Client,
    rim,
};

use super::store;

const COOKIE: &str = "tollgate-device";
const LABEL: &[u8] = b"device";
/// The longest that browsers keep a cookie.
const MAX_AGE_SECS: i64 = 400 * 24 * 60 * 60;

/// A device, under our MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeviceId([u8; 16]);

impl DeviceId {
    /// The device that a request comes from, if it has our cookie.
    pub fn shown(app: &App, headers: &HeaderMap) -> Option<Self> {
        let value = cookies::find(headers, &Reach::host(&app.config.public_url), COOKIE)?;
        cookies::read(&app.cookie_key, LABEL, &[], value).map(Self)
    }

    /// What the database knows it by.
    pub fn hash(self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// The device of somebody who signs in: a new one, unless it was shown.
    pub fn of(client: &Client) -> Self {
        client.device.unwrap_or_else(Self::new)
    }

    fn new() -> Self {
        Self(*rim::random::<16>())
    }

    /// The `Set-Cookie` that it is known by the next time.
    pub fn cookie(self, app: &App) -> String {
        let value = cookies::sign(&app.cookie_key, LABEL, &[], &self.0);
        cookies::set(
            &Reach::host(&app.config.public_url),
            COOKIE,
            &value,
            MAX_AGE_SECS,
        )
    }
}

/// Gives the browser in which the acting user has set another password a name that is new, so that
/// it is known at once and nobody's failures are counted of it; gives the `Set-Cookie`.
pub async fn meet_anew(app: &App, db: &mut PgConnection, user: UserId) -> sqlx::Result<String> {
    let device = DeviceId::new();
    store::meet_device(db, user, &device.hash()).await?;
    Ok(device.cookie(app))
}
