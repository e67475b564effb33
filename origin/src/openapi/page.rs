//! `/docs`: the document for people to read, a page for each of its tags, and the document itself.

use std::sync::LazyLock;

use askama::Template;
use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;

use crate::{app::App, error::Error, pages::Reader};

use super::words::{self, Call, Shape};

const CACHE: &str = "public, max-age=300";

static JSON: LazyLock<String> = LazyLock::new(super::text);
static BOOK: LazyLock<Book> = LazyLock::new(|| {
    let document = serde_json::from_str(&JSON).expect("the document is JSON");
    Book::read(&document)
});

/// The pages, and the document.
pub fn router() -> Router<App> {
    Router::new()
        .route("/docs", get(overview))
        .route("/docs/openapi.json", get(document))
        .route("/docs/{group}", get(group))
}

/// What all pages are made of.
struct Book {
    /// What holds for every call.
    says: Vec<String>,
    groups: Vec<Group>,
    /// What a problem looks like, and its parts.
    problem: [Shape; 2],
    /// Each code, its status, and what it says.
    codes: Vec<(&'static str, u16, &'static str)>,
    /// Who may call, by which name.
    schemes: Vec<(String, String)>,
}

struct Group {
    slug: String,
    name: String,
    says: String,
    calls: Vec<Call>,
    shapes: Vec<Shape>,
}

/// The first page.
#[derive(Template)]
#[template(path = "pages/docs.html")]
struct Overview<'a> {
    reader: &'a Reader,
    title: &'a str,
    menu: Menu<'a>,
    book: &'a Book,
}

/// The page of a tag.
#[derive(Template)]
#[template(path = "pages/docs_group.html")]
struct GroupPage<'a> {
    reader: &'a Reader,
    title: &'a str,
    menu: Menu<'a>,
    group: &'a Group,
}

/// The links to each page, and whether it is this one.
type Menu<'a> = Vec<(String, &'a str, bool)>;

impl Book {
    fn read(document: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let tags = document["tags"].as_array().into_iter().flatten();
        let groups = tags.map(|tag| {
            let name = text(&tag["name"]);
            let (calls, shapes) = words::of_tag(document, &name);
            Group {
                slug: words::slug(&name),
                says: words::marked(&tag["description"]),
                name,
                calls,
                shapes,
            }
        });
        let schemes = document["components"]["securitySchemes"].as_object();
        let schemes = schemes.into_iter().flatten();
        let says = text(&document["info"]["description"]);
        Self {
            says: says
                .split("\n\n")
                .map(|part| words::marked(&part.into()))
                .collect(),
            groups: groups.collect(),
            problem: ["Problem", "FieldError"].map(|name| words::shape(document, name)),
            codes: shared::problem::Code::ALL
                .iter()
                .map(|code| (code.as_str(), code.status(), code.title()))
                .collect(),
            schemes: schemes
                .map(|(name, scheme)| (words::who(name), words::scheme(scheme)))
                .collect(),
        }
    }

    fn menu(&self, here: &str) -> Menu<'_> {
        let first = ("/docs".to_owned(), "Overview", here.is_empty());
        let groups = self.groups.iter().map(|group| {
            let href = format!("/docs/{}", group.slug);
            (href, group.name.as_str(), group.slug == here)
        });
        [first].into_iter().chain(groups).collect()
    }
}

async fn overview(State(app): State<App>) -> Response {
    let page = Overview {
        reader: &Reader::in_english(&app),
        title: "The calls of Tollgate",
        menu: BOOK.menu(""),
        book: &BOOK,
    };
    kept(page.reader.show(StatusCode::OK, &page, None))
}

async fn group(
    State(app): State<App>,
    slug: Result<Path<String>, PathRejection>,
) -> Result<Response, Error> {
    let Path(slug) = slug?;
    let group = BOOK.groups.iter().find(|group| group.slug == slug);
    let group = group.ok_or(Error::NotFound)?;
    let page = GroupPage {
        reader: &Reader::in_english(&app),
        title: &group.name,
        menu: BOOK.menu(&slug),
        group,
    };
    Ok(kept(page.reader.show(StatusCode::OK, &page, None)))
}

async fn document() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, CACHE),
    ];
    (headers, JSON.as_str()).into_response()
}

/// A page that is the same for everybody, whatever their language.
fn kept(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.remove(header::VARY);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE));
    response
}
