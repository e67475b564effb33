//! The apps of others that somebody signs in to from here, and what those may learn.

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};

use crate::{
    app::App,
    error::Error as Failure,
    front::Client,
    oidc::{self, Access},
};

use super::{
    super::{Sent, go},
    Browser, Item, Part, Section,
};

const PATH: &str = Section::Access.path();
const END: &str = "/account/access/end";

pub fn router() -> Router<App> {
    Router::new()
        .route(PATH, get(show))
        .route(END, post(end).get(async || go(PATH)))
}

async fn show(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    let user = browser.member()?.caller.user;
    let list = oidc::access(&app, user).await?;
    let words = &browser.words.account;
    let mut says = vec![words.access_says.to_owned()];
    if list.is_empty() {
        says.push(words.access_none.to_owned());
    }
    let page = Section::Access.page(&browser).part(Part {
        says,
        items: list.iter().map(|access| item(&browser, access)).collect(),
        ..Part::default()
    });
    Ok(page.show(&browser, None))
}

fn item(browser: &Browser, access: &Access) -> Item {
    let words = browser.words;
    let learns = oidc::learns(&words.clients, &access.scopes);
    let mut lines: Vec<String> = learns.map(str::to_owned).collect();
    lines.push((words.account.access_since)(&(words.account.moment)(
        access.since,
    )));
    let (mark, button) = if access.is_trusted {
        (Some(words.account.access_unasked), words.account.access_out)
    } else {
        (None, words.account.access_end)
    };
    let form = browser.form(END, button).hidden("client", &access.client);
    Item {
        title: access.name.clone(),
        marks: mark.map(str::to_owned).into_iter().collect(),
        lines,
        form: Some(form.quiet()),
        ..Item::default()
    }
}

async fn end(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let caller = sent.browser.member()?.caller;
    oidc::end_access(&app, caller, sent.text("client"), &client).await?;
    Ok(go(&format!("{PATH}?done=access")))
}
