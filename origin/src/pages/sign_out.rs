//! Signing out. Looking at the page signs nobody out: any page can make a browser look.

use axum::{Router, extract::State, http::StatusCode, response::Response, routing::get};

use crate::{app::App, error::Error as Failure, front::Client, sessions};

use super::{Browser, Sent, page::with_cookies};

const PATH: &str = "/sign-out";

/// The page.
pub fn router() -> Router<App> {
    Router::new().route(PATH, get(show).post(send))
}

async fn show(browser: Browser) -> Response {
    let Some(visitor) = browser.visitor() else {
        return done(&browser);
    };
    let words = &browser.words.sign_in;
    let page = browser
        .page(words.out_title)
        .says((words.out_says)(&visitor.email))
        .form(browser.form(PATH, words.out_button))
        .link(browser.leads_to().as_str(), words.out_stay);
    browser.show_forms(StatusCode::OK, &page)
}

async fn send(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let cookie = match browser.visitor() {
        Some(visitor) => {
            let caller = visitor.caller;
            sessions::sign_out(&app, caller.user, caller.session, &client).await?
        }
        None => None,
    };
    let answer = match browser.return_to.url() {
        Some(url) => browser.lead(&app, Some(url), browser.words.sign_in.out_done),
        None => done(browser),
    };
    Ok(with_cookies(cookie, answer))
}

fn done(browser: &Browser) -> Response {
    let words = &browser.words.sign_in;
    let page = browser
        .page(words.out_done)
        .says(words.out_done_says)
        .link(browser.along("/sign-in"), words.button);
    browser.show(StatusCode::OK, &page, None)
}
