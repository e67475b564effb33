//! The second step of a sign-in. The token of the half sign-in is in a cookie of its own for as long as
//! it is good, and in no address and on no page.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use shared::{
    api::{SecondStep, SecondStepAsked},
    problem::Code,
};
use url::Url;

use crate::{
    app::App,
    cookies::{self, Reach},
    error::Error as Failure,
    front::Client,
    second_factor,
};

use super::{Browser, Field, Mistake, Reader, Sent, go, page::with_cookies, returning::ReturnTo};

pub const PATH: &str = "/sign-in/code";
const COOKIE: &str = "tollgate-half";
/// As long as the database keeps the half.
const LIFETIME_SECS: i64 = 5 * 60;

/// The page.
pub fn router() -> Router<App> {
    Router::new().route(PATH, get(show).post(send))
}

/// Leads somebody who is half signed in to the page that asks for the code.
pub fn ask_for_code(
    app: &App,
    reader: &Reader,
    asked: &SecondStepAsked,
    leads_to: Option<&Url>,
) -> Response {
    let cookie = cookies::set(
        &Reach::host(&app.config.public_url),
        COOKIE,
        &asked.mfa_token,
        LIFETIME_SECS,
    );
    let back = ReturnTo::to(leads_to.cloned());
    let words = &reader.words.links;
    let next = back.along(app, PATH, &[]);
    let page = reader.go_on(&next, words.one_more, words.one_more_says);
    with_cookies([cookie], page)
}

/// The `Set-Cookie` that takes the half sign-in away.
pub fn forget_half(app: &App) -> String {
    cookies::set(&Reach::host(&app.config.public_url), COOKIE, "", 0)
}

fn half<'a>(app: &App, headers: &'a HeaderMap) -> Option<&'a str> {
    cookies::find(headers, &Reach::host(&app.config.public_url), COOKIE)
        .filter(|token| !token.is_empty())
}

async fn show(State(app): State<App>, headers: HeaderMap, browser: Browser) -> Response {
    if half(&app, &headers).is_none() {
        return go(&browser.along("/sign-in"));
    }
    page(&browser, None)
}

async fn send(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let token = half(&app, &headers).unwrap_or_default();
    let answer = async {
        let body: SecondStep = sent.body_with(&["code"], &[("mfaToken", token)])?;
        second_factor::second_step(&app, &body, &client).await
    };
    match answer.await {
        Ok(entry) => Ok(entry.on_page(&app, browser, Some(&browser.leads_to()))),
        Err(failure) => {
            let mistake = Mistake::of(browser, failure)?;
            let is_over = mistake.code == Code::InvalidMfaToken || token.is_empty();
            let page = page(browser, Some(&mistake));
            Ok(if is_over {
                with_cookies([forget_half(&app)], page)
            } else {
                page
            })
        }
    }
}

fn page(browser: &Browser, mistake: Option<&Mistake>) -> Response {
    let words = &browser.words.sign_in;
    let wrong = mistake.and_then(|mistake| mistake.at("code"));
    let form = browser
        .form(PATH, words.button)
        .field(Field::text("code", words.code, "one-time-code").mistake(wrong));
    let page = browser
        .page(words.code_title)
        .says(words.code_says)
        .mistake(mistake.and_then(|mistake| mistake.text))
        .form(form)
        .link(browser.along("/sign-in"), words.other_account);
    let status = mistake.map_or(StatusCode::OK, |mistake| mistake.status);
    let page = browser.show_forms(status, &page);
    match mistake {
        Some(mistake) => mistake.on(page),
        None => page.into_response(),
    }
}
