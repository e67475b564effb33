//! The authorization endpoint: somebody comes with a client's request, and goes back with a code.

use axum::{
    extract::{RawQuery, Request, State},
    http::HeaderMap,
    response::Response,
};
use base64ct::{Base64UrlUnpadded, Encoding};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use url::form_urlencoded;
use uuid::Uuid;

use crate::{
    app::App,
    cookies, door,
    error::Error as Failure,
    forgery,
    front::Client as Asker,
    openapi,
    pages::{Reader, go},
    rim,
    sessions::cookie,
};

use super::{
    clients::{self, Client},
    pages,
    params::{MOST_BYTES, Params},
    request::{Ask, Return},
    store::{self, Browser, NewGrant, Opening},
};

/// RFC 6749 §4.1.2 recommends ten minutes at the most.
const CODE_SECS: i32 = 60;
/// How long somebody may take to sign in once more, or to say yes.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);
const AGAIN: &[u8] = b"tollgate sign-in asked for";
const CONSENT: &[u8] = b"tollgate consent";
/// Where we add when we have asked somebody to sign in once more.
const ASKED: &str = "&asked=";

/// A request of a client that may be answered.
struct Asked {
    client: Client,
    back: Return,
    ask: Ask,
}

/// `GET /oauth2/authorize`.
#[utoipa::path(
    get,
    path = "/oauth2/authorize",
    tag = "OpenID provider",
    summary = "Where a client sends people to sign in",
    description = "RFC 6749 §4.1, OpenID Connect Core 1.0 §3.1; PKCE with S256 (RFC 7636). A `POST` of the same as a form is sent on to this. Also at `/api/auth/oauth2/authorize` and `/api/oidc/authorize`.",
    params(openapi::Authorize),
    responses(
        (status = 200, content_type = "text/html", body = String, description = "A page: what is asked, or what is wrong with the client or its address"),
        (status = 400, content_type = "text/html", body = String, description = "A page: the client or its address is wrong"),
        (status = 303, description = "Back to the client with a code or an error, or to sign in first", headers(("Location" = String))),
    )
)]
pub async fn by_get(
    State(app): State<App>,
    from: Asker,
    headers: HeaderMap,
    reader: Reader,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = query.unwrap_or_default();
    let asked = match read(&app, &reader, &query).await? {
        Ok(asked) => asked,
        Err(answer) => return Ok(answer),
    };
    let Some((cookie, browser)) = signed_in(&app, &headers).await? else {
        return Ok(sign_in(&app, &reader, &asked, &query, false));
    };
    if wants_sign_in(&app, &asked, &browser, &query) {
        return Ok(sign_in(&app, &reader, &asked, &query, true));
    }
    if asked.ask.consent || !asked.client.is_assured(&asked.back.uri) {
        return Ok(consent(&app, &reader, &asked, &browser, &query));
    }
    answer(
        &app,
        &reader,
        &asked,
        &browser,
        (&cookie, &query, false),
        &from,
    )
    .await
}

/// `POST /oauth2/authorize`, which a client's page may send: no cookie comes with that, but with the `GET`
/// of the same request (OpenID Connect Core 1.0 §3.1.2.1).
pub async fn by_post(
    State(app): State<App>,
    reader: Reader,
    request: Request,
) -> Result<Response, Failure> {
    let body = door::read(request.into_body(), app.config.max_body_bytes).await?;
    Ok(again_by_get(&reader, "/oauth2/authorize", &body))
}

/// The `GET` with the fields of a form.
pub fn again_by_get(reader: &Reader, path: &str, form: &[u8]) -> Response {
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form_urlencoded::parse(form))
        .finish();
    if query.len() > MOST_BYTES {
        return pages::mistake(reader, reader.words.clients.too_long);
    }
    go(&format!("{path}?{query}"))
}

/// `POST /oauth2/consent`: somebody has pressed a button of our page.
pub async fn decide(
    State(app): State<App>,
    from: Asker,
    headers: HeaderMap,
    reader: Reader,
    request: Request,
) -> Result<Response, Failure> {
    if !forgery::is_ours(&app, &headers) {
        return Err(Failure::ForeignPage);
    }
    let body = door::read(request.into_body(), app.config.max_body_bytes).await?;
    let form = Params::parse(&body);
    let query = form.clear("request").unwrap_or_default().to_owned();
    let asked = match read(&app, &reader, &query).await? {
        Ok(asked) => asked,
        Err(answer) => return Ok(answer),
    };
    let Some((cookie, browser)) = signed_in(&app, &headers).await? else {
        return Ok(sign_in(&app, &reader, &asked, &query, false));
    };
    if wants_sign_in(&app, &asked, &browser, &query) {
        return Ok(sign_in(&app, &reader, &asked, &query, true));
    }
    let csrf = form.clear("csrf").unwrap_or_default();
    if moment(&app, CONSENT, &subject(&browser, &query), csrf).is_none() {
        return Ok(consent(&app, &reader, &asked, &browser, &query));
    }
    if form.clear("answer") != Some("yes") {
        let refused = ("access_denied", "the answer was no");
        return Ok(refuse(&app, &reader, &asked.back, refused));
    }
    answer(
        &app,
        &reader,
        &asked,
        &browser,
        (&cookie, &query, true),
        &from,
    )
    .await
}

/// Who is signed in in a browser, and by which cookie.
pub async fn signed_in(
    app: &App,
    headers: &HeaderMap,
) -> sqlx::Result<Option<([u8; 32], Browser)>> {
    let Some(cookie) = cookie::shown(&app.config, headers) else {
        return Ok(None);
    };
    let browser = store::browser(app.db.pool(), &cookie).await?;
    Ok(browser.map(|browser| (cookie, browser)))
}

/// Reads a request, or says what to answer.
async fn read(app: &App, reader: &Reader, query: &str) -> Result<Result<Asked, Response>, Failure> {
    let words = &reader.words.clients;
    if query.len() > MOST_BYTES {
        return Ok(Err(pages::mistake(reader, words.too_long)));
    }
    let params = Params::parse(query.as_bytes());
    let client = match params.clear("client_id") {
        Some(id) => clients::by_id(app.db.pool(), id).await?,
        None => None,
    };
    let Some(client) = client else {
        return Ok(Err(pages::mistake(reader, words.unknown)));
    };
    let Some(back) = Return::read(&params, &client) else {
        return Ok(Err(pages::mistake(reader, words.wrong_address)));
    };
    Ok(match Ask::read(&params, &client) {
        Ok(ask) => Ok(Asked { client, back, ask }),
        Err(wrong) => Err(refuse(app, reader, &back, wrong)),
    })
}

fn refuse(
    app: &App,
    reader: &Reader,
    back: &Return,
    (error, description): (&str, &str),
) -> Response {
    let fields = [("error", error), ("error_description", description)];
    back.answer(reader, &app.expect.issuer, &fields)
}

/// Lets somebody sign in, and come back with the same request. Who is to do it `again` comes back with the
/// time of this, under a MAC, so that only a later sign-in will do and none is asked for twice.
fn sign_in(app: &App, reader: &Reader, asked: &Asked, query: &str, again: bool) -> Response {
    if asked.ask.silent {
        let wrong = ("login_required", "nobody is signed in, or too long ago");
        return refuse(app, reader, &asked.back, wrong);
    }
    let (bare, _) = parts(query);
    let mut back = format!("/oauth2/authorize?{bare}");
    let mut fields = Vec::new();
    if again {
        let now = rim::now().timestamp_micros().to_be_bytes();
        back.push_str(ASKED);
        back.push_str(&cookies::sign(
            &app.cookie_key,
            AGAIN,
            bare.as_bytes(),
            &now,
        ));
        fields.push(("again", "1"));
    }
    fields.push(("returnUrl", back.as_str()));
    if let Some(hint) = &asked.ask.login_hint {
        fields.push(("login_hint", hint.as_str()));
    }
    go(&pages::with_query("/sign-in", &fields))
}

fn wants_sign_in(app: &App, asked: &Asked, browser: &Browser, query: &str) -> bool {
    let (bare, mac) = parts(query);
    let asked_at = mac.and_then(|mac| moment(app, AGAIN, bare.as_bytes(), mac));
    asked
        .ask
        .wants_sign_in(browser.authenticated_at, asked_at, rim::now())
}

/// A request, and what we have added to it.
fn parts(query: &str) -> (&str, Option<&str>) {
    match query.rsplit_once(ASKED) {
        Some((bare, mac)) => (bare, Some(mac)),
        None => (query, None),
    }
}

/// The time under a MAC of ours, unless it was too long ago.
pub fn moment(app: &App, label: &[u8], subject: &[u8], mac: &str) -> Option<DateTime<Utc>> {
    let micros = cookies::read::<8>(&app.cookie_key, label, subject, mac)?;
    let at = DateTime::from_timestamp_micros(i64::from_be_bytes(micros))?;
    (rim::now() - at < PATIENCE).then_some(at)
}

fn consent(app: &App, reader: &Reader, asked: &Asked, browser: &Browser, query: &str) -> Response {
    if asked.ask.silent {
        let wrong = ("consent_required", "they were not asked yet");
        return refuse(app, reader, &asked.back, wrong);
    }
    let csrf = csrf(app, CONSENT, &subject(browser, query));
    pages::consent(
        reader,
        (&asked.client.name, &browser.email),
        &asked.ask.scopes,
        (query, &csrf),
        &asked.back.uri,
    )
}

/// That a form is one of ours, for this browser and this request.
pub fn csrf(app: &App, label: &[u8], subject: &[u8]) -> String {
    let now = rim::now().timestamp_micros().to_be_bytes();
    cookies::sign(&app.cookie_key, label, subject, &now)
}

/// What a form is bound to.
pub fn subject(browser: &Browser, query: &str) -> Vec<u8> {
    [browser.session.uuid().as_bytes(), query.as_bytes()].concat()
}

/// Opens the grant, unless they are to be asked first.
async fn answer(
    app: &App,
    reader: &Reader,
    asked: &Asked,
    browser: &Browser,
    (cookie, query, consents): (&[u8; 32], &str, bool),
    from: &Asker,
) -> Result<Response, Failure> {
    let (id, secret) = (rim::new_id::<Uuid>(), rim::random::<32>());
    let code = [id.as_bytes(), secret.as_slice()].concat();
    let scopes = asked.ask.scopes.texts();
    let grant = NewGrant {
        id,
        code_hash: Sha256::digest(secret.as_slice()).into(),
        client: &asked.client.id,
        scopes: &scopes,
        redirect_uri: &asked.back.uri,
        challenge: asked.ask.challenge.as_deref(),
        nonce: asked.ask.nonce.as_deref(),
        salt: *rim::random::<16>(),
        code_secs: CODE_SECS,
        consents,
    };
    match store::open(app.db.pool(), cookie, &grant, from).await? {
        Opening::Opened => {
            let code = Base64UrlUnpadded::encode_string(&code);
            Ok(asked
                .back
                .answer(reader, &app.expect.issuer, &[("code", &code)]))
        }
        Opening::Consent => Ok(consent(app, reader, asked, browser, query)),
        Opening::Ended => Ok(sign_in(app, reader, asked, query, false)),
    }
}
