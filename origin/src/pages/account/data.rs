//! What is held about somebody: to take along, or to be rid of.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use shared::{
    api::Refusal,
    problem::{Code, FieldError},
};

use crate::{accounts, app::App, error::Error as Failure, export, front::Client};

use super::{
    super::{Field, Mistake, Sent, go, with_cookies},
    Browser, Part, Section,
};

const PATH: &str = Section::Data.path();
const EXPORT: &str = "/account/data/export";
const DELETE: &str = "/account/data/delete";

pub fn router() -> Router<App> {
    Router::new()
        .route(PATH, get(show))
        .route(EXPORT, get(take_along))
        .route(DELETE, post(delete).get(async || go(PATH)))
}

async fn show(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    page(&app, &browser, None).await
}

async fn page(
    app: &App,
    browser: &Browser,
    mistake: Option<&Mistake>,
) -> Result<Response, Failure> {
    let visitor = browser.member()?;
    let mut transaction = app.db.as_user(visitor.caller.user).await?;
    let has_password = accounts::has_password(&mut transaction).await?;
    transaction.commit().await?;
    let (words, texts) = (browser.words, &browser.words.account);
    let wrong = |name| mistake.and_then(|mistake| mistake.at(name));
    let is_password = mistake.is_some_and(|mistake| mistake.code == Code::InvalidCredentials);
    let is_password = is_password.then_some(words.links.wrong_password);
    let mut form = browser.form(DELETE, texts.delete_button).grave();
    if has_password {
        let label = words.common.password;
        let field = Field::password("password", label, "current-password");
        let field = field.mistake(is_password.or(wrong("password")));
        form = form.about(&visitor.email).field(field);
    }
    let address = Field::text("address", texts.delete_confirm, "off").mistake(wrong("address"));
    let text = mistake.filter(|_| is_password.is_none());
    let page = Section::Data
        .page(browser)
        .mistake(text.and_then(|mistake| mistake.text))
        .part(Part {
            heading: Some(texts.export),
            says: vec![texts.export_says.to_owned()],
            links: vec![(EXPORT.to_owned(), texts.export_link)],
            ..Part::default()
        })
        .part(Part {
            heading: Some(texts.delete),
            says: vec![texts.delete_says.to_owned()],
            forms: vec![form.field(address)],
            ..Part::default()
        });
    Ok(page.show(browser, mistake))
}

async fn take_along(
    State(app): State<App>,
    client: Client,
    browser: Browser,
) -> Result<Response, Failure> {
    export::document(&app, browser.recent()?.caller, &client).await
}

async fn delete(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let visitor = browser.recent()?;
    let answer = async {
        let typed = accounts::normalised(sent.text("address"));
        if typed != accounts::normalised(&visitor.email) {
            let differs = FieldError {
                pointer: "/address".to_owned(),
                detail: "must be the account's".to_owned(),
            };
            return Err(Refusal::Invalid(vec![differs]).into());
        }
        let body = sent.body(&["password"])?;
        accounts::leave(&app, visitor.caller, body, &client).await
    };
    match answer.await {
        Ok(cookie) => {
            let texts = &browser.words.account;
            let page = browser.page(texts.deleted).says(texts.deleted_says);
            let page = page.link("/sign-in", browser.words.sign_in.button);
            let page = browser.show(StatusCode::OK, &page, None);
            Ok(with_cookies([cookie], page))
        }
        Err(failure) => {
            let mistake = Mistake::of(browser, failure)?;
            page(&app, browser, Some(&mistake)).await
        }
    }
}
