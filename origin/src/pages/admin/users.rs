//! Looking for people.

use axum::{Router, extract::State, response::Response, routing::get};
use shared::claims::Role;
use url::form_urlencoded;

use crate::{
    admin::{self, Found},
    app::App,
    error::Error as Failure,
};

use super::{
    super::{Browser, Field, Form, Item, Part, words::Words},
    Desk,
};

const PATH: &str = Desk::Users.path();

pub fn router() -> Router<App> {
    Router::new().route(PATH, get(show))
}

async fn show(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    let admin = browser.admin()?.caller.user;
    let (wanted, after) = (browser.asked("q"), browser.asked("after"));
    let search = admin::Search::new(wanted, after);
    let people = admin::find(&app, admin, &search).await?;
    let words = &browser.words.admin;
    let field = Field::text("q", words.search, "off")
        .value(wanted)
        .optional();
    let mut says = Vec::new();
    if people.found.is_empty() {
        says.push(words.nobody.to_owned());
    }
    let next = people.next.map(|next| {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("q", wanted), ("after", next.as_str())])
            .finish();
        (format!("{PATH}?{query}"), words.more)
    });
    let page = Desk::Users
        .page(&browser)
        .part(Part {
            forms: vec![Form::look(PATH, words.search_button).field(field)],
            ..Part::default()
        })
        .part(Part {
            says,
            items: people
                .found
                .iter()
                .map(|found| item(&browser, found))
                .collect(),
            links: Vec::from_iter(next),
            ..Part::default()
        });
    Ok(page.show(&browser, None))
}

fn item(browser: &Browser, found: &Found) -> Item {
    let words = browser.words;
    let mut lines = Vec::from_iter(found.name.clone());
    let since = (words.account.moment)(found.created_at);
    lines.push((words.admin.since)(&since));
    Item {
        title: found.email.clone(),
        href: Some(format!("/admin/users/{}", found.id)),
        marks: marks(words, found.role, &found.status, found.email_verified),
        lines,
        ..Item::default()
    }
}

/// What is out of the ordinary about somebody.
pub fn marks(words: &Words, role: Role, status: &str, is_verified: bool) -> Vec<String> {
    let words = &words.admin;
    let mut marks = Vec::new();
    if role == Role::Admin {
        marks.push(words.staff_mark);
    }
    if status != "active" {
        marks.push(words.is_banned);
    }
    if !is_verified {
        marks.push(words.is_unverified);
    }
    marks.into_iter().map(str::to_owned).collect()
}
