//! How a browser goes to a provider and comes back. What it went for is a row, found by a hash of the
//! `state` in the URL and by a hash of a cookie that only this browser has, and taken once: a URL that
//! leads somebody else's browser back to us is good for nothing. The verifier (RFC 7636) and the nonce
//! are made from the state and a key of ours, so neither is stored.

use axum::http::HeaderMap;
use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};
use shared::ids::{SessionId, UserId};
use url::Url;
use zeroize::Zeroizing;

use crate::{
    app::App,
    cookies::{self, Reach},
    error::Error as Failure,
    rim,
    sessions::Caller,
};

use super::{
    Error,
    provider::{Provider, Secrets},
    store,
};

/// Until when somebody must be back.
pub const LIFETIME_SECS: i32 = 10 * 60;
const COOKIE: &str = "tollgate-outside";
const LABEL: &[u8] = b"browser at a provider";

/// Somebody who is signed in and wants to link an account.
#[derive(Clone, Copy)]
pub struct Linking {
    pub user: UserId,
    pub session: SessionId,
}

impl From<Caller> for Linking {
    fn from(caller: Caller) -> Self {
        Self {
            user: caller.user,
            session: caller.session,
        }
    }
}

/// What a browser went to a provider for.
pub struct Trip {
    /// A page of an app, as it was allowed when the browser went.
    pub redirect_to: Option<String>,
    /// For whom, if not to sign in.
    pub linking: Option<Linking>,
    /// As they were when it went.
    pub secrets: Secrets,
}

/// A trip that begins: where to, and the `Set-Cookie` of the browser.
pub struct Departure {
    pub page: Url,
    pub cookie: String,
}

/// Where a provider sends people back to.
pub fn callback(app: &App, provider: &Provider) -> String {
    format!(
        "{}/api/v1/auth/oauth/{}/callback",
        app.config.public_url.as_str(),
        provider.id
    )
}

/// Sends a browser to a provider. One that is under way already keeps its cookie, so that its other
/// tabs come back too.
pub async fn depart(
    app: &App,
    provider: &Provider,
    headers: &HeaderMap,
    redirect_to: Option<&Url>,
    linking: Option<Linking>,
) -> Result<Departure, Failure> {
    let random = Base64UrlUnpadded::encode_string(rim::random::<32>().as_slice());
    let secrets = secrets(app, random);
    let redirect = callback(app, provider);
    let page = provider
        .page(&app.outside.wire, &redirect, &secrets, rim::now())
        .await?;
    let browser = shown(app, headers).unwrap_or_else(|| *rim::random::<16>());
    let mut transaction = match linking {
        // Meanwhile the account may be gone, and then nothing is written of it.
        Some(linking) => app.db.writing_as(linking.user).await?,
        None => app.db.pool().begin().await?,
    };
    store::begin(
        &mut transaction,
        &Sha256::digest(secrets.state.as_bytes()),
        &Sha256::digest(browser),
        &provider.id,
        redirect_to.map(Url::as_str),
        linking,
    )
    .await?;
    transaction.commit().await?;
    let value = cookies::sign(&app.cookie_key, LABEL, &[], &browser);
    let max_age_secs = i64::from(LIFETIME_SECS);
    Ok(Departure {
        page,
        cookie: cookies::set(
            &Reach::host(&app.config.public_url),
            COOKIE,
            &value,
            max_age_secs,
        ),
    })
}

/// What this browser went to the provider for, which is then over.
pub async fn arrive(
    app: &App,
    provider: &Provider,
    headers: &HeaderMap,
    state: &str,
) -> Result<Trip, Error> {
    let browser = shown(app, headers).ok_or(Error::BadState)?;
    let found = store::take(
        app.db.pool(),
        &Sha256::digest(state),
        &Sha256::digest(browser),
        &provider.id,
    )
    .await?;
    let (redirect_to, linking) = found.ok_or(Error::BadState)?;
    Ok(Trip {
        redirect_to,
        linking,
        secrets: secrets(app, state.to_owned()),
    })
}

fn shown(app: &App, headers: &HeaderMap) -> Option<[u8; 16]> {
    let value = cookies::find(headers, &Reach::host(&app.config.public_url), COOKIE)?;
    cookies::read(&app.cookie_key, LABEL, &[], value)
}

fn secrets(app: &App, state: String) -> Secrets {
    let of = |label: &[u8]| {
        let secret = cookies::derive(&app.cookie_key, label, state.as_bytes());
        Zeroizing::new(Base64UrlUnpadded::encode_string(secret.as_slice()))
    };
    Secrets {
        nonce: of(b"nonce for a provider"),
        verifier: of(b"verifier for a provider"),
        state: Zeroizing::new(state),
    }
}
