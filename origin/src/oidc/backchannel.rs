//! Telling clients that somebody has signed out (OpenID Connect Back-Channel Logout 1.0). Whatever ends a
//! browser's session fills a queue in the database (the trigger `tell_clients`); this empties it. Several
//! processes share it: each takes a notice with a lease, and forgets it once it has arrived.

use std::{sync::Arc, time::Duration};

use metrics::counter;
use serde::Serialize;
use serde_json::{Value, json};
use shared::ids::TokenId;
use tokio::{sync::Semaphore, time::sleep};
use url::form_urlencoded;

use crate::{app::App, db, rim};

use super::{
    store::{self, Notice},
    tokens,
};

/// How often the queue is looked at.
const POLL: Duration = Duration::from_secs(1);
/// How many are on their way at once. A client that does not answer has four of them at the most
/// (`claim_logout_notice`).
const AT_ONCE: usize = 16;
/// How long a notice may be shown.
const LIFETIME_SECS: i64 = 120;

/// Back-Channel Logout 1.0 §2.4.
#[derive(Serialize)]
struct Logout<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    sid: String,
    iat: i64,
    exp: i64,
    jti: TokenId,
    events: Value,
}

/// Sends what is due, for as long as the process lives.
pub async fn tell(app: App) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match db::turn(store::claim_notice(app.db.pool())).await {
            Ok(Some(notice)) => {
                let app = app.clone();
                tokio::spawn(async move {
                    if let Err(error) = db::turn(deliver(&app, &notice)).await {
                        tracing::warn!(%error, "a logout notice that was sent is sent once more");
                    }
                    drop(place);
                });
            }
            Ok(None) => sleep(POLL).await,
            Err(error) => {
                tracing::warn!(%error, "the queue of logout notices cannot be reached");
                sleep(POLL * 5).await;
            }
        }
    }
}

/// Takes the next notice and sends it; says whether there was one.
pub async fn send_next(app: &App) -> sqlx::Result<bool> {
    let notice = store::claim_notice(app.db.pool()).await?;
    if let Some(notice) = &notice {
        deliver(app, notice).await?;
    }
    Ok(notice.is_some())
}

/// Sends a notice, and takes it out of the queue if it is over.
async fn deliver(app: &App, notice: &Notice) -> sqlx::Result<()> {
    let (client, attempts) = (&notice.client, notice.attempts);
    let outcome = match &notice.to {
        _ if notice.is_over => "given_up",
        None => "no_client",
        Some(_) => match send(app, notice).await {
            Ok(()) => "sent",
            Err(why) => {
                counter!("tollgate_logout_notices_total", "outcome" => "failed").increment(1);
                tracing::warn!(client, attempts, why, "a client did not hear of a sign-out");
                return Ok(());
            }
        },
    };
    counter!("tollgate_logout_notices_total", "outcome" => outcome).increment(1);
    store::forget_notice(app.db.pool(), notice.id).await
}

async fn send(app: &App, notice: &Notice) -> Result<(), String> {
    let Some((uri, alg)) = &notice.to else {
        return Ok(());
    };
    let now = rim::now().timestamp();
    let claims = Logout {
        iss: &app.expect.issuer,
        aud: &notice.client,
        sub: notice.user.to_string(),
        sid: tokens::sid(&app.cookie_key, notice.session, &notice.client),
        iat: now,
        exp: now + LIFETIME_SECS,
        jti: rim::new_id(),
        events: json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
    };
    let ring = app.keys.ring().map_err(|why| why.to_string())?;
    let token = tokens::sign(&ring, *alg, "logout+jwt", &claims).map_err(|why| why.to_string())?;
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("logout_token", &token)
        .finish();
    let request = http::Request::post(uri)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.into_bytes())
        .map_err(|why| why.to_string())?;
    let answer = app.outside.wire.ask(request).await;
    let status = answer.map_err(|why| why.to_string())?.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("it answers {status}"))
    }
}
