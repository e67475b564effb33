//! The end-session endpoint (OpenID Connect RP-Initiated Logout 1.0): somebody comes from a client to sign
//! out here. That is done at once where the client shows by its `id_token` that it is this browser's
//! session which it means; otherwise the person is asked.

use axum::{
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

use crate::{
    app::App,
    door,
    error::Error as Failure,
    forgery,
    front::Client as Asker,
    openapi,
    pages::{Reader, go},
    sessions::{self, cookie},
};

use super::{
    authorize::{again_by_get, csrf, moment, signed_in, subject},
    clients, pages,
    params::{MOST_BYTES, Params},
    tokens::{self, Hint},
};

const CONFIRM: &[u8] = b"tollgate sign-out";

/// What is asked for.
struct Asked {
    hint: Option<Hint>,
    /// Where people go in the end: an address of the client's.
    leads_to: Option<String>,
}

/// `GET /oauth2/logout`.
#[utoipa::path(
    get,
    path = "/oauth2/logout",
    tag = "OpenID provider",
    summary = "Where a client sends people to sign out",
    description = "OpenID Connect RP-Initiated Logout 1.0. A `POST` of the same as a form is sent on to this. Also at `/api/auth/oauth2/logout` and `/api/oidc/logout`.",
    params(openapi::SignOut),
    responses(
        (status = 200, content_type = "text/html", body = String, description = "A page: signed out, or whether to"),
        (status = 400, content_type = "text/html", body = String, description = "A page: the client or its address is wrong"),
        (status = 303, description = "Signed out, and back to the client", headers(("Location" = String))),
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
    let Some((_, browser)) = signed_in(&app, &headers).await? else {
        return Ok(leave(&app, &reader, &asked));
    };
    let means_it = asked.hint.as_ref().is_some_and(|hint| {
        let sid = tokens::sid(&app.cookie_key, browser.session, &hint.aud);
        hint.sub == browser.user.to_string() && hint.sid == sid
    });
    if !means_it {
        let csrf = csrf(&app, CONFIRM, &subject(&browser, &query));
        return Ok(pages::sign_out(
            &reader,
            &browser.email,
            (&query, &csrf),
            asked.leads_to.as_deref(),
        ));
    }
    sessions::sign_out(&app, browser.user, browser.session, &from).await?;
    Ok(leave(&app, &reader, &asked))
}

/// `POST /oauth2/logout`, which a client's page may send: no cookie comes with that, but with the `GET` of
/// the same request.
pub async fn by_post(
    State(app): State<App>,
    reader: Reader,
    request: Request,
) -> Result<Response, Failure> {
    let body = door::read(request.into_body(), app.config.max_body_bytes).await?;
    Ok(again_by_get(&reader, "/oauth2/logout", &body))
}

/// `POST /oauth2/logout/confirm`: somebody has pressed a button of our page.
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
    let query = form.clear("request").unwrap_or_default();
    let asked = match read(&app, &reader, query).await? {
        Ok(asked) => asked,
        Err(answer) => return Ok(answer),
    };
    let Some((_, browser)) = signed_in(&app, &headers).await? else {
        return Ok(leave(&app, &reader, &asked));
    };
    let shown = form.clear("csrf").unwrap_or_default();
    if moment(&app, CONFIRM, &subject(&browser, query), shown).is_none() {
        let csrf = csrf(&app, CONFIRM, &subject(&browser, query));
        return Ok(pages::sign_out(
            &reader,
            &browser.email,
            (query, &csrf),
            asked.leads_to.as_deref(),
        ));
    }
    if form.clear("answer") != Some("yes") {
        return Ok(reader.note(
            StatusCode::OK,
            reader.words.clients.stayed,
            reader.words.clients.stayed_says,
        ));
    }
    sessions::sign_out(&app, browser.user, browser.session, &from).await?;
    Ok(leave(&app, &reader, &asked))
}

/// Reads a request, or says what to answer: to an address that is not the client's nobody is sent, and
/// nothing is done.
async fn read(app: &App, reader: &Reader, query: &str) -> Result<Result<Asked, Response>, Failure> {
    let words = &reader.words.clients;
    let params = Params::parse(query.as_bytes());
    if query.len() > MOST_BYTES || params.is_unclear() {
        return Ok(Err(pages::mistake(reader, words.too_long)));
    }
    let hint = match params.clear("id_token_hint") {
        Some(token) => tokens::hint(app, token)?,
        None => None,
    };
    let named = params.clear("client_id");
    let meant = hint.as_ref().map(|hint| hint.aud.as_str());
    if named.is_some() && meant.is_some() && named != meant {
        return Ok(Err(pages::mistake(reader, words.two)));
    }
    let client = match meant.or(named) {
        Some(id) => clients::by_id(app.db.pool(), id).await?,
        None => None,
    };
    let Some(uri) = params.clear("post_logout_redirect_uri") else {
        let leads_to = None;
        return Ok(Ok(Asked { hint, leads_to }));
    };
    if !client.is_some_and(|client| client.leaves_to(uri)) {
        return Ok(Err(pages::mistake(reader, words.wrong_way_out)));
    }
    let state = params.clear("state").map(|state| ("state", state));
    let leads_to = match state {
        Some(state) => pages::with_query(uri, &[state]),
        None => uri.to_owned(),
    };
    let leads_to = Some(leads_to);
    Ok(Ok(Asked { hint, leads_to }))
}

/// What somebody sees who is signed out.
fn leave(app: &App, reader: &Reader, asked: &Asked) -> Response {
    let mut response = match &asked.leads_to {
        Some(uri) => go(uri),
        None => reader.note(
            StatusCode::OK,
            reader.words.sign_in.out_done,
            reader.words.common.close,
        ),
    };
    let cookie = cookie::clear(&app.config);
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
