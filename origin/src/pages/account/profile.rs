//! What people say of themselves.

use axum::{Router, extract::State, response::Response, routing::get};
use shared::api::{Change, ChangeProfile};

use crate::{accounts, app::App, error::Error as Failure, front::Client};

use super::{
    super::{Field, Mistake, Sent, go},
    Browser, Part, Section,
};

const PATH: &str = Section::Profile.path();

pub fn router() -> Router<App> {
    Router::new().route(PATH, get(show).post(send))
}

async fn show(browser: Browser) -> Result<Response, Failure> {
    let name = browser.member()?.name.clone();
    Ok(page(&browser, name.unwrap_or_default(), None))
}

async fn send(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let browser = &sent.browser;
    let caller = browser.member()?.caller;
    let answer = async {
        // An empty field takes the name away; the picture stays.
        let name = match sent.text("name") {
            "" => Change::Clear,
            _ => sent.body::<ChangeProfile>(&["name"])?.name,
        };
        let image = Change::Keep;
        let change = ChangeProfile { name, image };
        accounts::change_profile(&app, caller, &change, &client).await
    };
    match answer.await {
        Ok(_) => Ok(go(&format!("{PATH}?done=saved"))),
        Err(failure) => {
            let mistake = Mistake::of(browser, failure)?;
            Ok(page(browser, sent.text("name").to_owned(), Some(&mistake)))
        }
    }
}

fn page(browser: &Browser, name: String, mistake: Option<&Mistake>) -> Response {
    let words = browser.words;
    let wrong = mistake.and_then(|mistake| mistake.at("name"));
    let field = Field::text("name", words.account.name, "name");
    let form = browser
        .form(PATH, words.account.save)
        .field(field.value(name).optional().mistake(wrong));
    let mut says = Vec::new();
    says.extend(browser.visitor().map(|v| (words.account.address)(&v.email)));
    let page = Section::Profile
        .page(browser)
        .mistake(mistake.and_then(|mistake| mistake.text))
        .part(Part {
            says,
            forms: vec![form],
            ..Part::default()
        });
    page.show(browser, mistake)
}
