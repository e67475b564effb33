//! Accounts at other providers that somebody signs in by, and their ids on Matrix servers.

use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    http::HeaderMap,
    response::Response,
    routing::{get, post},
};
use shared::{
    api::{MatrixLink, OutsideAccount},
    ids::OutsideAccountId,
};
use url::Url;

use crate::{app::App, error::Error as Failure, front::Client, oidc, outside};

use super::{
    super::{Mistake, Sent, go, with_cookies},
    Browser, Item, Part, Section,
};

const PATH: &str = Section::Linked.path();
const UNLINK: &str = "/account/linked/unlink";
const UNLINK_MATRIX: &str = "/account/linked/unlink-matrix";

pub fn router() -> Router<App> {
    let back = async || go(PATH);
    Router::new()
        .route(PATH, get(show))
        .route(UNLINK, post(unlink).get(back))
        .route(UNLINK_MATRIX, post(unlink_matrix).get(back))
        .route("/account/linked/with/{provider}", post(link).get(back))
}

async fn show(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    page(&app, &browser, None).await
}

async fn page(
    app: &App,
    browser: &Browser,
    mistake: Option<&Mistake>,
) -> Result<Response, Failure> {
    let user = browser.member()?.caller.user;
    let mut transaction = app.db.as_user(user).await?;
    let accounts = outside::list(&mut transaction).await?;
    let ids = oidc::matrix_links(&mut transaction).await?;
    transaction.commit().await?;
    let words = &browser.words.account;
    let mut says = vec![words.linked_says.to_owned()];
    if accounts.is_empty() {
        says.push(words.linked_none.to_owned());
    }
    let forms = browser.providers().map(|provider| {
        let action = format!("/account/linked/with/{}", provider.id);
        browser.form(action, (words.link)(&provider.name)).quiet()
    });
    let list = Part {
        says,
        items: accounts
            .iter()
            .map(|account| item(browser, account))
            .collect(),
        forms: forms.collect(),
        ..Part::default()
    };
    let mut page = Section::Linked.page(browser).part(list);
    if !ids.is_empty() {
        page = page.part(Part {
            heading: Some(words.matrix),
            items: ids.iter().map(|link| matrix_item(browser, link)).collect(),
            ..Part::default()
        });
    }
    let page = page.mistake(mistake.and_then(|mistake| mistake.text));
    Ok(page.show(browser, mistake))
}

fn item(browser: &Browser, account: &OutsideAccount) -> Item {
    let words = &browser.words.account;
    let mut lines = Vec::from_iter(account.email.clone());
    lines.push((words.linked_since)(&(words.moment)(account.linked_at)));
    lines.push((words.last_used)(&(words.moment)(account.last_used_at)));
    let form = browser
        .form(UNLINK, words.unlink)
        .hidden("account", account.id.to_string());
    Item {
        title: browser.provider_name(&account.provider),
        lines,
        form: Some(form.quiet()),
        ..Item::default()
    }
}

fn matrix_item(browser: &Browser, link: &MatrixLink) -> Item {
    let words = &browser.words.account;
    let form = browser
        .form(UNLINK_MATRIX, words.unlink)
        .hidden("mxid", &link.matrix_user_id);
    Item {
        title: link.matrix_user_id.clone(),
        lines: vec![(words.linked_since)(&(words.moment)(link.linked_at))],
        form: Some(form.quiet()),
        ..Item::default()
    }
}

async fn unlink(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let caller = browser.recent()?.caller;
    // What is no id is no account's.
    let id: Result<OutsideAccountId, _> = sent.text("account").parse();
    let id = id.map_err(|_| outside::Error::NoSuchAccount)?;
    match outside::unlink(&app, caller, id, &client).await {
        // It is gone already, which is what was wanted.
        Ok(()) | Err(Failure::Outside(outside::Error::NoSuchAccount)) => {
            Ok(go(&format!("{PATH}?done=unlinked")))
        }
        Err(failure) => {
            let mistake = Mistake::of(browser, failure)?;
            page(&app, browser, Some(&mistake)).await
        }
    }
}

async fn unlink_matrix(
    State(app): State<App>,
    client: Client,
    sent: Sent,
) -> Result<Response, Failure> {
    let caller = sent.browser.member()?.caller;
    oidc::unlink_matrix(&app, caller, sent.text("mxid"), &client).await?;
    Ok(go(&format!("{PATH}?done=unlinked")))
}

/// Sends a browser to a provider, to come back with an account there.
async fn link(
    State(app): State<App>,
    provider: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let caller = browser.recent()?.caller;
    let Path(provider) = provider?;
    let back = format!("{}{PATH}?done=linked", app.config.public_url.as_str());
    let back = Url::parse(&back).map_err(|_| Failure::NotFound)?;
    let departure = outside::depart(&app, &provider, &headers, &back, Some(caller.into())).await?;
    let words = browser.words;
    let name = browser.provider_name(&provider);
    let (title, says) = ((words.account.link)(&name), (words.sign_in.going)(&name));
    let page = browser.go_on(departure.page.as_str(), &title, &says);
    Ok(with_cookies([departure.cookie], page))
}
