//! What happened to an account.

use axum::{Router, extract::State, response::Response, routing::get};
use shared::api::SecurityEvent;

use crate::{app::App, error::Error as Failure, security_events};

use super::{Browser, Item, Part, Section, agent};

const PATH: &str = Section::Events.path();
const A_PAGE: i64 = 25;

pub fn router() -> Router<App> {
    Router::new().route(PATH, get(show))
}

async fn show(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    let caller = browser.member()?.caller;
    let before = browser.asked("before").parse().ok();
    let mut transaction = app.db.as_user(caller.user).await?;
    let from = before.unwrap_or(i64::MAX);
    let page = security_events::page(&mut transaction, A_PAGE, from).await?;
    transaction.commit().await?;
    let words = &browser.words.account;
    let mut links = Vec::new();
    links.extend(
        page.next
            .map(|next| (format!("{PATH}?before={next}"), words.older)),
    );
    links.extend(before.map(|_| (PATH.to_owned(), words.newest)));
    let items = page.events.iter().map(|event| item(&browser, event));
    let page = Section::Events.page(&browser).part(Part {
        says: vec![words.events_says.to_owned()],
        items: items.collect(),
        links,
        ..Part::default()
    });
    Ok(page.show(&browser, None))
}

fn item(browser: &Browser, event: &SecurityEvent) -> Item {
    let words = browser.words;
    let mut lines = vec![(words.account.moment)(event.at)];
    if event.user_agent.is_some() {
        lines.push(agent::name(&words.account, event.user_agent.as_deref()));
    }
    lines.extend(event.ip_address.as_deref().map(words.account.from));
    let is_failure = event.outcome == "failure";
    Item {
        title: words.events.of(&event.r#type).to_owned(),
        marks: Vec::from_iter(is_failure.then(|| words.account.failed.to_owned())),
        lines,
        ..Item::default()
    }
}
