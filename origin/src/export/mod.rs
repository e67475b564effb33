//! Everything that is held about a person, as one JSON document for them to take along. It is
//! read in pages, each in a transaction of its own, so that whoever reads slowly holds no
//! connection to the database.

mod store;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use shared::ids::UserId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    error::Error as Failure,
    front::Client,
    sessions::{self, Caller},
};

use store::Section;

/// The call about everything.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(export))
}

/// Where a document is.
struct Place {
    /// Sections that are to come.
    rest: std::vec::IntoIter<Section>,
    /// The one at hand, and what was read of it last.
    at: Option<(Section, Option<i64>)>,
}

#[utoipa::path(
    get,
    path = "/api/v1/auth/me/export",
    tag = "Account",
    summary = "Everything that is held about the caller",
    security(("token" = [])),
    responses((status = 200, body = inline(HashMap<String, Vec<HashMap<String, serde_json::Value>>>), content_type = "application/json"))
)]
async fn export(
    State(app): State<App>,
    caller: Caller,
    client: Client,
) -> Result<Response, Failure> {
    document(&app, caller, &client).await
}

/// Everything about somebody, as a file. That it was made is one of the things that happened to them.
pub async fn document(app: &App, caller: Caller, client: &Client) -> Result<Response, Failure> {
    let (app, user) = (app.clone(), caller.user);
    let mut transaction = app.db.writing_as(user).await?;
    let session = Some(caller.session);
    sessions::record(&mut transaction, user, session, "data_exported", client).await?;
    transaction.commit().await?;
    let mut rest = Section::ALL.to_vec().into_iter();
    let at = rest.next().map(|section| (section, None));
    let document = stream::try_unfold(Place { rest, at }, move |place| {
        let app = app.clone();
        async move { next(&app, user, place).await }
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"account.json\""),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    Ok((headers, Body::from_stream(document)).into_response())
}

/// The next piece: a page of a section.
async fn next(app: &App, user: UserId, mut place: Place) -> sqlx::Result<Option<(Bytes, Place)>> {
    let Some((section, after)) = place.at else {
        return Ok(None);
    };
    let mut transaction = app.db.as_user(user).await?;
    let page = store::page(&mut transaction, section, after).await?;
    transaction.commit().await?;

    let mut text = String::new();
    if after.is_none() {
        let opens = if section == Section::ALL[0] { '{' } else { ',' };
        text.extend([opens, '"']);
        text.push_str(section.name());
        text.push_str("\":[");
    }
    let rows: Vec<&str> = page.iter().map(|row| row.json.as_str()).collect();
    if after.is_some() && !rows.is_empty() {
        text.push(',');
    }
    text.push_str(&rows.join(","));
    place.at = match page.last() {
        Some(last) if page.len() == usize::from(store::PAGE) => Some((section, Some(last.at))),
        _ => {
            text.push(']');
            place.rest.next().map(|section| (section, None))
        }
    };
    if place.at.is_none() {
        text.push('}');
    }
    Ok(Some((text.into(), place)))
}
