//! The calls about outside accounts.

use std::{future::Future, time::Duration};

use axum::{
    Json, Router,
    extract::{
        FromRequestParts, Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use shared::{
    api::{Done, GoOutside, GoThere, OutsideAccount, Refusal},
    ids::OutsideAccountId,
    problem::{FieldError, Problem},
};
use tokio::time::timeout;
use url::{Url, form_urlencoded};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    accounts::{self, Entry},
    app::App,
    apps,
    door::{self, Body},
    error::Error as Failure,
    front::Client,
    pages::{self, Reader},
    rim,
    sessions::{self, Caller, Recent},
};

use super::{
    Error, Identity, arrival,
    flow::{self, Departure, Linking},
    native,
    provider::{Provider, Secrets},
    store,
    wire::Away,
};

/// For all that a provider is asked during one request.
const PATIENCE: Duration = Duration::from_secs(10);

/// The calls about outside accounts.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(forget))
        .routes(routes!(go))
        .routes(routes!(native::google))
        .routes(routes!(native::apple))
}

/// Where providers send people back to, Apple by a form of its own page.
pub fn callback() -> Router<App> {
    Router::new().route(
        "/api/v1/auth/oauth/{provider}/callback",
        get(come_back).post(come_back_by_form),
    )
}

/// Gives up on a provider that takes too long.
pub async fn in_time<T, E: From<Error>>(asked: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let answer = timeout(PATIENCE, asked).await;
    answer.unwrap_or_else(|_| Err(Error::from(Away::TooSlow).into()))
}

#[utoipa::path(
    post,
    path = "/api/v1/auth/oauth/{provider}",
    tag = "Other providers",
    summary = "Where to sign in by another provider",
    description = "Sets a cookie, so the browser that asks must be the one that goes there. Linking needs a token and a sign-in within the last ten minutes. The provider sends the browser to `…/callback`, which answers with a page or leads on.",
    security((), ("token" = [])),
    params(
        ("provider" = String, Path, description = "Which, as the operator named it: `google`, `apple`, …"),
    ),
    request_body = Option<GoOutside>,
    responses(
        (status = 200, body = GoThere),
        (status = 401, description = "UNAUTHENTICATED, INVALID_TOKEN, SESSION_REVOKED"),
        (status = 403, description = "RECENT_SIGN_IN_REQUIRED"),
        (status = 404, description = "NOT_FOUND"),
        (status = 502, description = "SIGN_IN_PROVIDER_FAILED"),
    )
)]
async fn go(
    State(app): State<App>,
    provider: Result<Path<String>, PathRejection>,
    mut parts: Parts,
    Body(wish): Body<GoOutside>,
) -> Result<Response, Failure> {
    let Path(provider) = provider?;
    let provider = app.outside.find(&provider)?;
    let linking = if wish.link {
        let Recent(caller) = Recent::from_request_parts(&mut parts, &app).await?;
        Some(caller.into())
    } else {
        None
    };
    let page = match &wish.redirect_to {
        Some(link) => match apps::page(&app, link.as_str()).await? {
            Some(page) => Some(page),
            None => {
                return Err(Refusal::Invalid(vec![FieldError {
                    pointer: "/redirectTo".to_owned(),
                    detail: apps::NO_PAGE.to_owned(),
                }])
                .into());
            }
        },
        None => None,
    };
    let departs = flow::depart(&app, provider, &parts.headers, page.as_ref(), linking);
    let departure = in_time(departs).await?;
    let url = departure.page.into();
    let cookie = [(header::SET_COOKIE, departure.cookie)];
    Ok((cookie, Json(GoThere { url })).into_response())
}

/// Sends a browser to a provider, from a page of ours, and in the end to this page: to sign in, or
/// for whom an account there is to be linked.
pub async fn depart(
    app: &App,
    provider: &str,
    headers: &HeaderMap,
    page: &Url,
    linking: Option<Linking>,
) -> Result<Departure, Failure> {
    let provider = app.outside.find(provider)?;
    in_time(flow::depart(app, provider, headers, Some(page), linking)).await
}

/// What a provider sends people back with; whatever else it says is not read.
#[derive(Deserialize)]
struct Returned {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

async fn come_back(
    State(app): State<App>,
    provider: Result<Path<String>, PathRejection>,
    client: Client,
    headers: HeaderMap,
    reader: Reader,
    returned: Result<Query<Returned>, QueryRejection>,
) -> Response {
    let answer = async {
        let Path(provider) = provider?;
        let Query(returned) = returned.map_err(|_| Error::BadState)?;
        receive(&app, &provider, &client, (&headers, &reader), returned).await
    };
    let answer = answer.await;
    answer.unwrap_or_else(|failure| on_page(&reader, failure))
}

async fn receive(
    app: &App,
    provider: &str,
    client: &Client,
    (headers, reader): (&HeaderMap, &Reader),
    returned: Returned,
) -> Result<Response, Failure> {
    let provider = app.outside.find(provider)?;
    let state = returned.state.as_deref().ok_or(Error::BadState)?;
    let trip = flow::arrive(app, provider, headers, state).await?;
    let identity = in_time(hear(app, provider, &trip.secrets, returned)).await?;
    let leads_to = match &trip.redirect_to {
        Some(page) => apps::page(app, page).await?,
        None => None,
    };
    if let Some(linking) = trip.linking {
        arrival::link(app, &identity, linking, client).await?;
        return Ok(reader.lead(app, leads_to.as_ref(), reader.words.links.linked));
    }
    let entry = arrival::sign_in(
        app,
        &identity,
        None,
        &shared::api::DeviceInfo::default(),
        client,
    )
    .await?;
    Ok(lead_in(app, reader, entry, leads_to))
}

/// Asks the provider who it is that came back.
async fn hear(
    app: &App,
    provider: &Provider,
    secrets: &Secrets,
    returned: Returned,
) -> Result<Identity, Error> {
    let (wire, now) = (&app.outside.wire, rim::now());
    if !provider
        .sent_back(wire, returned.iss.as_deref(), now)
        .await?
    {
        return Err(Error::BadState);
    }
    let (Some(code), None) = (returned.code, returned.error) else {
        return Err(Error::Refused);
    };
    let redirect = flow::callback(app, provider);
    provider.identify(wire, &redirect, code, secrets, now).await
}

/// The page that somebody came for. Who has a second factor takes its token along, in the part of
/// the URL that no server sees: there may be no other way to sign in that would ask for it.
fn lead_in(app: &App, reader: &Reader, entry: Entry, leads_to: Option<Url>) -> Response {
    match (entry, leads_to) {
        (Entry::SecondStep(asked), Some(mut page)) if !pages::is_ours(app, &page) => {
            let fragment = form_urlencoded::Serializer::new(String::new())
                .append_pair("mfaToken", &asked.mfa_token)
                .append_pair("methods", &asked.methods.join(","))
                .finish();
            page.set_fragment(Some(&fragment));
            pages::go(page.as_str())
        }
        (entry, leads_to) => entry.on_page(app, reader, leads_to.as_ref()),
    }
}

/// Apple sends people back by a form of another site, with which no `SameSite=Lax` cookie comes. It
/// is believed nothing and changes nothing: the browser is sent on to ask again by a GET, with which
/// its cookie does come.
async fn come_back_by_form(
    State(app): State<App>,
    provider: Result<Path<String>, PathRejection>,
    reader: Reader,
    request: Request,
) -> Response {
    let answer = async {
        let Path(provider) = provider?;
        let provider = app.outside.find(&provider)?;
        let form = door::read(request.into_body(), app.config.max_body_bytes).await?;
        let known = form_urlencoded::parse(&form)
            .filter(|(name, _)| ["state", "code", "error", "iss"].contains(&name.as_ref()));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(known)
            .finish();
        let there = format!("{}?{query}", flow::callback(&app, provider));
        Ok::<_, Failure>(pages::go(&there))
    };
    let answer = answer.await;
    answer.unwrap_or_else(|failure| on_page(&reader, failure))
}

/// What went wrong, for people, in place of the problem that programs read.
fn on_page(reader: &Reader, failure: Failure) -> Response {
    let mut response = failure.into_response();
    let Some(problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    pages::tell(reader, response.status(), &problem)
}

#[utoipa::path(
    get,
    path = "/api/v1/auth/accounts",
    tag = "Other providers",
    summary = "The accounts at other providers that are linked",
    security(("token" = [])),
    responses((status = 200, body = Vec<OutsideAccount>))
)]
async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Vec<OutsideAccount>>, Failure> {
    let mut transaction = app.db.as_user(caller.user).await?;
    let accounts = store::list(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Json(accounts))
}

/// `DELETE /auth/accounts/{id}`.
#[utoipa::path(
    delete,
    path = "/api/v1/auth/accounts/{id}",
    tag = "Other providers",
    summary = "Unlinks an account",
    description = "Needs a sign-in within the last ten minutes, and another way to sign in.",
    security(("token" = [])),
    params(
        ("id" = OutsideAccountId, Path, description = "Which"),
    ),
    responses(
        (status = 200, body = Done),
        (status = 403, description = "RECENT_SIGN_IN_REQUIRED"),
        (status = 404, description = "NOT_FOUND"),
        (status = 409, description = "LAST_SIGN_IN_METHOD"),
    )
)]
async fn forget(
    State(app): State<App>,
    id: Result<Path<OutsideAccountId>, PathRejection>,
    Recent(caller): Recent,
    client: Client,
) -> Result<Json<Done>, Failure> {
    // What is no id is no account's.
    let Path(id) = id.map_err(|_| Error::NoSuchAccount)?;
    unlink(&app, caller, id, &client).await?;
    Ok(Json(Done {
        success: true,
        message: "The account is not linked any more",
    }))
}

/// Unlinks an account of somebody who has signed in not long ago. They must be able to sign in
/// afterwards: by a password, by another linked account, or by mail where that is set up and the
/// address is theirs.
pub async fn unlink(
    app: &App,
    caller: Caller,
    id: OutsideAccountId,
    client: &Client,
) -> Result<(), Failure> {
    let mut transaction = app.db.writing_as(caller.user).await?;
    let user = accounts::own(&mut transaction).await?;
    if !store::unlink(&mut transaction, id).await? {
        return Err(Error::NoSuchAccount.into());
    }
    let by_mail = app.mail.is_some() && user.email_verified;
    if !by_mail && !store::has_way_in(&mut transaction).await? {
        return Err(Error::LastWay.into());
    }
    sessions::record(
        &mut transaction,
        user.id,
        Some(caller.session),
        "outside_unlinked",
        client,
    )
    .await?;
    Ok(transaction.commit().await?)
}
