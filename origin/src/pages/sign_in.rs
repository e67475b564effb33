//! Signing in by a password, or by another provider.

use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use shared::{api::Login, problem::Code};

use crate::{accounts, app::App, error::Error as Failure, front::Client, outside};

use super::{Browser, Field, Form, Mistake, Sent, code, go, page::with_cookies};

const PATH: &str = "/sign-in";
/// The longest address that a hint may be.
const MAX_HINT: usize = 254;

/// The page, and its ways out.
pub fn router() -> Router<App> {
    Router::new()
        .route(PATH, get(show).post(send))
        .route("/sign-in/with/{provider}", post(with_provider).get(back))
        .merge(code::router())
}

/// Who is signed in already goes on, unless they are to do it again.
async fn show(browser: Browser) -> Response {
    let is_again = browser.asked("again") == "1";
    if browser.visitor().is_some() && !is_again {
        return go(browser.leads_to().as_str());
    }
    page(&browser, is_again, None)
}

async fn send(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let answer = async {
        let body: Login = sent.body(&["email", "password", "rememberMe"])?;
        accounts::by_password(&app, body, &headers, &client).await
    };
    match answer.await {
        Ok(entry) => Ok(entry.on_page(&app, browser, Some(&browser.leads_to()))),
        Err(failure) => {
            let mistake = Mistake::of(browser, failure)?;
            let is_again = sent.text("again") == "1";
            Ok(mistake.on(page(browser, is_again, Some(&mistake))))
        }
    }
}

fn page(browser: &Browser, is_again: bool, mistake: Option<&Mistake>) -> Response {
    let words = browser.words;
    let visitor = browser.visitor().filter(|_| is_again);
    let email = match browser.asked("email") {
        "" => browser.asked("login_hint"),
        typed => typed,
    };
    let known = visitor.map_or("", |visitor| visitor.email.as_str());
    let email = if email.is_empty() { known } else { email };
    let email = if email.len() > MAX_HINT { "" } else { email };
    let wrong = |name| mistake.and_then(|mistake| mistake.at(name));
    let label = words.common.password;
    let is_remembered = browser.asked("rememberMe") == "on";
    let mut form = browser
        .form(PATH, words.sign_in.button)
        .field(Field::email(words, email).mistake(wrong("email")))
        .field(Field::password("password", label, "current-password").mistake(wrong("password")))
        .field(Field::check(
            "rememberMe",
            words.sign_in.remember,
            is_remembered,
        ));
    let mut title = words.sign_in.title;
    if is_again {
        form = form.hidden("again", "1");
        title = words.sign_in.again_title;
    }
    let mut page = browser
        .page(title)
        .mistake(mistake.and_then(|mistake| mistake.text))
        .form(form);
    if is_again {
        page = page.says(words.sign_in.again_says);
    }
    if browser.asked("registered") == "1" && mistake.is_none() {
        page = page.says(words.sign_in.registered);
    }
    for provider in browser.providers() {
        let action = format!("/sign-in/with/{}", provider.id);
        let label = (words.sign_in.with)(&provider.name);
        page = page.beside(browser.form(action, label).quiet());
    }
    let is_unverified = mistake.is_some_and(|mistake| mistake.code == Code::EmailNotVerified);
    if is_unverified {
        let again: Form = browser.form("/sign-in/resend", words.sign_in.send_again);
        page = page.form(again.hidden("email", email).quiet());
    }
    if browser.has_mail() {
        page = page
            .link(browser.along("/sign-in/mail"), words.sign_in.by_mail)
            .link(browser.along("/sign-in/forgot"), words.sign_in.forgot);
    }
    if !is_again {
        page = page.link(browser.along("/register"), words.sign_in.no_account);
    }
    let status = mistake.map_or(StatusCode::OK, |mistake| mistake.status);
    browser.show_forms(status, &page)
}

/// Sends a browser to another provider. The form's own policy would hold a redirect there back, so the
/// browser goes on by itself from a page.
async fn with_provider(
    State(app): State<App>,
    provider: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Failure> {
    let Path(provider) = provider?;
    let browser = &sent.browser;
    let leads_to = browser.leads_to();
    let departure = outside::depart(&app, &provider, &headers, &leads_to, None).await?;
    let name = browser.provider_name(&provider);
    let words = &browser.words.sign_in;
    let (title, says) = ((words.with)(&name), (words.going)(&name));
    let page = browser.go_on(departure.page.as_str(), &title, &says);
    Ok(with_cookies([departure.cookie], page))
}

/// Who asks for it once more, by hand.
async fn back() -> Response {
    go(PATH)
}
