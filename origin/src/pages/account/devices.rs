//! Where somebody is signed in.

use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use shared::{api::Session, ids::SessionId};

use crate::{app::App, error::Error as Failure, front::Client, sessions};

use super::{
    super::{Sent, go, page::with_cookies},
    Browser, Item, Part, Section, agent,
};

const PATH: &str = Section::Devices.path();
const END: &str = "/account/devices/end";
const OTHERS: &str = "/account/devices/end-others";
const ALL: &str = "/account/devices/end-all";

pub fn router() -> Router<App> {
    let back = async || go(PATH);
    Router::new()
        .route(PATH, get(show))
        .route(END, post(end).get(back))
        .route(OTHERS, post(end_others).get(back))
        .route(ALL, post(end_all).get(back))
}

async fn show(State(app): State<App>, browser: Browser) -> Result<Response, Failure> {
    let caller = browser.member()?.caller;
    let mut transaction = app.db.as_user(caller.user).await?;
    let sessions = sessions::list(&mut transaction, caller.session).await?;
    transaction.commit().await?;
    let words = &browser.words.account;
    let items = sessions.iter().map(|session| item(&browser, session));
    let others = browser.form(OTHERS, words.others).quiet();
    let list = Part {
        says: vec![words.devices_says.to_owned()],
        items: items.collect(),
        forms: if sessions.len() > 1 {
            vec![others]
        } else {
            Vec::new()
        },
        ..Part::default()
    };
    let all = browser.form(ALL, words.everywhere).quiet().grave();
    let page = Section::Devices.page(&browser).part(list).part(Part {
        heading: Some(words.everywhere),
        says: vec![words.everywhere_says.to_owned()],
        forms: vec![all],
        ..Part::default()
    });
    Ok(page.show(&browser, None))
}

fn item(browser: &Browser, session: &Session) -> Item {
    let words = &browser.words.account;
    let title = match (&session.app, &session.device_name) {
        (Some(app), _) => app.name.clone(),
        (None, Some(name)) => name.clone(),
        (None, None) => agent::name(words, session.user_agent.as_deref()),
    };
    let mut lines = Vec::new();
    if session.app.is_some() {
        lines.push(words.of_app.to_owned());
    }
    lines.push((words.last_used)(&(words.moment)(session.last_used_at)));
    lines.push((words.since)(&(words.moment)(session.created_at)));
    lines.extend(session.ip_address.as_deref().map(words.from));
    let form = browser
        .form(END, words.end_one)
        .hidden("session", session.id.to_string())
        .quiet();
    Item {
        title,
        marks: Vec::from_iter(session.current.then(|| words.this_device.to_owned())),
        lines,
        // Who wants to leave this one signs out.
        form: (!session.current).then_some(form),
        ..Item::default()
    }
}

async fn end(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let caller = sent.browser.member()?.caller;
    // What is no id is no session's.
    let id: Result<SessionId, _> = sent.text("session").parse();
    let id = id.map_err(|_| sessions::Error::NoSuchSession)?;
    match sessions::end(&app, caller, id, &client).await {
        // It has ended meanwhile, which is what was wanted.
        Ok(()) | Err(Failure::Session(sessions::Error::NoSuchSession)) => {
            Ok(go(&format!("{PATH}?done=ended")))
        }
        Err(failure) => Err(failure),
    }
}

async fn end_others(
    State(app): State<App>,
    client: Client,
    sent: Sent,
) -> Result<Response, Failure> {
    let caller = sent.browser.member()?.caller;
    sessions::end_others(&app, caller, &client).await?;
    Ok(go(&format!("{PATH}?done=others")))
}

async fn end_all(State(app): State<App>, client: Client, sent: Sent) -> Result<Response, Failure> {
    let caller = sent.browser.member()?.caller;
    let cookie = sessions::end_all(&app, caller, &client).await?;
    Ok(with_cookies([cookie], go("/sign-out")))
}
