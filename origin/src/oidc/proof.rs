//! Whether a client is who it says (RFC 6749 §2.3, RFC 7523 §3). It says so in one way and no more.

use axum::http::{HeaderMap, header};
use base64ct::{Base64, Encoding};
use chrono::TimeDelta;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use crate::{
    app::App,
    outside::{self, id_token},
    rim,
};

use super::{
    clients::{self, Client, Method},
    error::Refused,
    params::Params,
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The longest that an assertion may be good, in seconds: for so long it is remembered.
const LONGEST_SECS: i64 = 10 * 60;
const LEEWAY_SECS: i64 = 30;
const MOST_JTI_BYTES: usize = 500;

/// What a client shows of itself.
enum Shown {
    Nothing,
    Secret(String),
    Assertion(String),
}

/// The client that sends a form, if it is who it says. A public one shows nothing but its name.
pub async fn client(app: &App, headers: &HeaderMap, form: &Params) -> Result<Client, Refused> {
    let (id, shown) = read(headers, form)?;
    let client = clients::by_id(app.db.pool(), &id).await?;
    let client = client.ok_or_else(Refused::client)?;
    let is_good = match (client.method, &shown) {
        (Method::None, Shown::Nothing) => true,
        (Method::Secret, Shown::Secret(secret)) => client.has_secret(secret),
        (Method::Key, Shown::Assertion(token)) => has_signed(app, &client, token).await?,
        _ => false,
    };
    if !is_good {
        tracing::info!(client = client.id, "a client is not who it says");
        return Err(Refused::client());
    }
    Ok(client)
}

/// The same of one that has shown more than its name.
pub async fn confidential(
    app: &App,
    headers: &HeaderMap,
    form: &Params,
) -> Result<Client, Refused> {
    let client = client(app, headers, form).await?;
    if client.method == Method::None {
        return Err(Refused::client());
    }
    Ok(client)
}

fn read(headers: &HeaderMap, form: &Params) -> Result<(String, Shown), Refused> {
    let named = form.one("client_id")?;
    let secret = form.one("client_secret")?;
    let assertion = form.one("client_assertion")?;
    let twice = || Refused::new("invalid_request", "A client says in one way who it is");
    let mut basic = headers.get_all(header::AUTHORIZATION).iter();
    let header = basic.next();
    if basic.next().is_some() {
        return Err(twice());
    }
    match (header, secret, assertion) {
        (Some(header), None, None) => {
            let pair = header.to_str().ok().and_then(decode);
            let (id, secret) = pair.ok_or_else(Refused::client)?;
            if named.is_some_and(|named| named != id) {
                return Err(twice());
            }
            Ok((id, Shown::Secret(secret)))
        }
        (None, Some(secret), None) => {
            let id = named.ok_or_else(Refused::client)?;
            Ok((id.to_owned(), Shown::Secret(secret.to_owned())))
        }
        (None, None, Some(assertion)) => {
            if form.one("client_assertion_type")? != Some(JWT_BEARER) {
                return Err(Refused::client());
            }
            // Not believed yet: it tells whose keys to take.
            let id = issuer(assertion).ok_or_else(Refused::client)?;
            if named.is_some_and(|named| named != id) {
                return Err(twice());
            }
            Ok((id, Shown::Assertion(assertion.to_owned())))
        }
        (None, None, None) => {
            let id = named.ok_or_else(Refused::client)?;
            Ok((id.to_owned(), Shown::Nothing))
        }
        _ => Err(twice()),
    }
}

/// `client_secret_basic`: both halves are form-encoded before they are joined (RFC 6749 §2.3.1).
fn decode(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(Base64::decode_vec(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let plain = |text: &str| {
        let (text, _) = form_urlencoded::parse(text.as_bytes()).next()?;
        Some(text.into_owned()).filter(|text| !text.contains('\0'))
    };
    Some((plain(id)?, plain(secret)?))
}

#[derive(Deserialize)]
struct Assertion {
    iss: String,
    sub: String,
    #[serde(deserialize_with = "id_token::one_or_many")]
    aud: Vec<String>,
    exp: i64,
    nbf: Option<i64>,
    jti: String,
}

fn issuer(assertion: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let payload = assertion.split('.').nth(1)?;
    let payload = base64ct::Base64UrlUnpadded::decode_vec(payload).ok()?;
    let said: Issuer = serde_json::from_slice(&payload).ok()?;
    Some(said.iss).filter(|iss| !iss.contains('\0'))
}

/// Whether an assertion is the client's, for us, and for the first time.
async fn has_signed(app: &App, client: &Client, token: &str) -> Result<bool, Refused> {
    let listed = client.jwks.as_ref().and_then(|set| set["keys"].as_array());
    let keys: Vec<id_token::Key> = listed
        .into_iter()
        .flatten()
        .filter_map(|jwk| id_token::Key::read(jwk.clone()))
        .collect();
    let Ok((said, alg)) = id_token::signed::<Assertion>(token, &keys) else {
        return Ok(false);
    };
    let issuer = &app.expect.issuer;
    let ours = [issuer.clone(), format!("{issuer}/oauth2/token")];
    let now = rim::now();
    let age = said.exp.saturating_sub(now.timestamp());
    let is_good = matches!(alg, Algorithm::EdDSA | Algorithm::ES256 | Algorithm::RS256)
        && said.iss == client.id
        && said.sub == client.id
        // One that is for somebody else as well could have been made for them (draft-ietf-oauth-rfc7523bis).
        && matches!(said.aud.as_slice(), [aud] if ours.contains(aud))
        && (-LEEWAY_SECS..=LONGEST_SECS).contains(&age)
        && said
            .nbf
            .is_none_or(|nbf| nbf <= now.timestamp() + LEEWAY_SECS)
        && (1..=MOST_JTI_BYTES).contains(&said.jti.len());
    if !is_good {
        return Ok(false);
    }
    let name = format!("client assertion\0{}\0{}", client.id, said.jti);
    let over_at = now + TimeDelta::seconds(LONGEST_SECS + 2 * LEEWAY_SECS);
    let mut transaction = app.db.pool().begin().await?;
    let is_new = outside::use_token(&mut transaction, &Sha256::digest(name), over_at).await?;
    transaction.commit().await?;
    Ok(is_new)
}
