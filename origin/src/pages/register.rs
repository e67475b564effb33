//! Registering.

use axum::{Router, extract::State, http::StatusCode, response::Response, routing::get};
use shared::{api::Register, problem::Code};

use crate::{accounts, app::App, error::Error as Failure, front::Client};

use super::{Browser, Field, Mistake, Sent, go, page::with_cookies};

const PATH: &str = "/register";

/// The page.
pub fn router() -> Router<App> {
    Router::new().route(PATH, get(show).post(send))
}

async fn show(browser: Browser) -> Response {
    page(&browser, None)
}

async fn send(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let browser = &sent.browser;
    // Where they go on once the address is verified.
    let back = browser.return_to.url().map_or("", url::Url::as_str);
    let answer = async {
        let more = [("sourceAppUrl", back)];
        let body: Register = sent.body_with(&["email", "password", "name"], &more)?;
        accounts::register(&app, body, &client).await
    };
    match answer.await {
        Ok((user, cookie)) => {
            let next = if app.config.require_email_verification {
                browser.along_with("/check-your-mail", &[("for", "verify")])
            } else {
                let email = [("registered", "1"), ("login_hint", &user.email)];
                browser.along_with("/sign-in", &email)
            };
            Ok(with_cookies([cookie], go(&next)))
        }
        Err(failure) => {
            let mistake = Mistake::of(browser, failure)?;
            Ok(mistake.on(page(browser, Some(&mistake))))
        }
    }
}

fn page(browser: &Browser, mistake: Option<&Mistake>) -> Response {
    let words = browser.words;
    // What is wrong with one field alone stands at that field.
    let wrong = |name: &str, code: Code, text: &'static str| {
        let mistake = mistake?;
        mistake.at(name).or((mistake.code == code).then_some(text))
    };
    let taken = wrong("email", Code::EmailTaken, words.mistakes.taken);
    let common = wrong(
        "password",
        Code::PasswordTooCommon,
        words.mistakes.common_password,
    );
    let at_field = taken.is_some() || common.is_some();
    let label = words.common.new_password;
    let form = browser
        .form(PATH, words.sign_in.register_button)
        .field(Field::email(words, browser.asked("email")).mistake(taken))
        .field(
            Field::text("name", words.sign_in.name, "name")
                .value(browser.asked("name"))
                .optional()
                .mistake(mistake.and_then(|mistake| mistake.at("name"))),
        )
        .field(Field::password("password", label, "new-password").mistake(common));
    let page = browser
        .page(words.sign_in.register_title)
        .mistake(
            mistake
                .and_then(|mistake| mistake.text)
                .filter(|_| !at_field),
        )
        .form(form)
        .link(browser.along("/sign-in"), words.sign_in.have_account);
    let status = mistake.map_or(StatusCode::OK, |mistake| mistake.status);
    browser.show_forms(status, &page)
}
