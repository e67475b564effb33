//! Asking for a link by mail: to sign in, to set another password, to verify the address. Every address
//! gets the same page, as it gets the same answer of the calls.

use axum::{Router, extract::State, http::StatusCode, response::Response, routing::get};
use shared::api::AskForMail;

use crate::{accounts, app::App, error::Error as Failure, links::Purpose};

use super::{Browser, Field, Mistake, Sent, go, page::with_cookies};

const CHECK: &str = "/check-your-mail";

/// The pages.
pub fn router() -> Router<App> {
    let pages = [Purpose::Magic, Purpose::Reset, Purpose::Verify];
    let router = Router::new().route(CHECK, get(check));
    pages.into_iter().fold(router, |router, purpose| {
        let show = async move |browser: Browser| page(&browser, purpose, None);
        let send = async move |State(app): State<App>, sent: Sent| send(app, sent, purpose).await;
        router.route(path(purpose), get(show).post(send))
    })
}

const fn path(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Magic => "/sign-in/mail",
        Purpose::Reset => "/sign-in/forgot",
        Purpose::Verify => "/sign-in/resend",
    }
}

async fn send(app: App, sent: Sent, purpose: Purpose) -> Result<Response, Failure> {
    let browser = &sent.browser;
    // A link takes no longer one along, and leads nowhere then.
    let back = browser.return_to.url().map(url::Url::as_str);
    let back = back.filter(|back| shared::api::Link::parse((*back).to_owned()).is_some());
    let answer = async {
        let more = [("redirectTo", back.unwrap_or_default())];
        let wish: AskForMail = sent.body_with(&["email"], &more)?;
        let _ = accounts::ask(&app, purpose, &wish).await?;
        Ok(accounts::has_asked(&app, &wish))
    };
    match answer.await {
        Ok(cookie) => {
            let next = browser.along_with(CHECK, &[("for", purpose.as_str())]);
            // Only a sign-in is shown to be asked for.
            let cookie = (purpose == Purpose::Magic).then_some(cookie);
            Ok(with_cookies(cookie, go(&next)))
        }
        Err(failure) => {
            let mistake = Mistake::of(browser, failure)?;
            Ok(mistake.on(page(browser, purpose, Some(&mistake))))
        }
    }
}

fn page(browser: &Browser, purpose: Purpose, mistake: Option<&Mistake>) -> Response {
    let words = &browser.words.sign_in;
    let (title, says, button) = match purpose {
        Purpose::Magic => (words.mail_title, words.mail_says, words.mail_button),
        Purpose::Reset => (words.forgot_title, words.forgot_says, words.forgot_button),
        Purpose::Verify => (words.resend_title, words.resend_says, words.send_again),
    };
    let wrong = mistake.and_then(|mistake| mistake.at("email"));
    let email = Field::email(browser.words, browser.asked("email")).mistake(wrong);
    let page = browser
        .page(title)
        .says(says)
        .mistake(mistake.and_then(|mistake| mistake.text))
        .form(browser.form(path(purpose), button).field(email))
        .link(browser.along("/sign-in"), browser.words.common.back);
    let status = mistake.map_or(StatusCode::OK, |mistake| mistake.status);
    browser.show_forms(status, &page)
}

async fn check(browser: Browser) -> Response {
    let words = &browser.words.sign_in;
    let (says, purpose) = match browser.asked("for") {
        "reset" => (words.check_reset, Purpose::Reset),
        "magic" => (words.check_magic, Purpose::Magic),
        _ => (words.check_verify, Purpose::Verify),
    };
    let page = browser
        .page(words.check_title)
        .says(says)
        .says(words.check_nothing)
        .link(browser.along(path(purpose)), words.send_again)
        .link(browser.along("/sign-in"), words.title);
    browser.show(StatusCode::OK, &page, None)
}
