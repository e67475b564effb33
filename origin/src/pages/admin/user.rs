//! Somebody, as an admin sees them, and what an admin does to them.

use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    response::Response,
    routing::{get, post},
};
use shared::{
    api::{OutsideAccount, Session},
    claims::Role,
    ids::UserId,
};

use crate::{
    admin::{self, Account, Change, Event},
    app::App,
    error::Error as Failure,
    front::Client,
};

use super::{
    super::{Browser, Form, Item, Part, Sent, account::agent_name, go},
    Desk, users,
};

pub fn router() -> Router<App> {
    Router::new()
        .route("/admin/users/{id}", get(show))
        .route("/admin/users/{id}/change", post(change).get(back))
}

pub type Id = Result<Path<UserId>, PathRejection>;

/// Who it is about. What is no id is nobody's.
pub fn named(id: Id) -> Result<UserId, Failure> {
    let Path(user) = id.map_err(|_| Failure::NotFound)?;
    Ok(user)
}

async fn back(id: Id) -> Result<Response, Failure> {
    Ok(go(&format!("/admin/users/{}", named(id)?)))
}

async fn show(State(app): State<App>, browser: Browser, id: Id) -> Result<Response, Failure> {
    let admin = browser.admin()?.caller.user;
    let user = named(id)?;
    let seen = admin::look(&app, admin, user).await?;
    let words = browser.words;
    let credits = (format!("/admin/users/{user}/credits"), words.admin.credits);
    let facts = Part {
        says: facts(&browser, &seen.account),
        links: vec![credits],
        ..Part::default()
    };
    let mut page = Desk::Users
        .page_of(&browser, seen.account.email.as_str())
        .part(facts);
    if user != admin {
        page = page.part(Part {
            heading: Some(words.admin.actions),
            forms: actions(&browser, &seen.account),
            ..Part::default()
        });
    }
    let sessions = seen.sessions.iter();
    let page = page
        .part(list(
            words.admin.sessions,
            words.admin.none,
            sessions
                .map(|session| device(&browser, user, session))
                .collect(),
        ))
        .part(list(
            words.account.linked,
            words.admin.none,
            seen.linked
                .iter()
                .map(|account| linked(&browser, account))
                .collect(),
        ))
        .part(list(
            words.account.events,
            words.admin.none,
            seen.events
                .iter()
                .map(|event| self::event(&browser, event))
                .collect(),
        ));
    Ok(page.show(&browser, None))
}

fn list(heading: &'static str, none: &'static str, items: Vec<Item>) -> Part {
    Part {
        heading: Some(heading),
        says: if items.is_empty() {
            vec![none.to_owned()]
        } else {
            Vec::new()
        },
        items,
        ..Part::default()
    }
}

fn facts(browser: &Browser, account: &Account) -> Vec<String> {
    let words = browser.words;
    let mut says = Vec::from_iter(account.name.clone());
    says.push(account.id.to_string());
    says.push((words.admin.since)(&(words.account.moment)(
        account.created_at,
    )));
    let verified = account.email_verified;
    let mut marks = users::marks(words, account.role, &account.status, verified);
    if account.has_password {
        marks.push(words.admin.has_password.to_owned());
    }
    if account.has_second_factor {
        marks.push(words.admin.has_factor.to_owned());
    }
    says.push(marks.join(" · "));
    says
}

fn actions(browser: &Browser, account: &Account) -> Vec<Form> {
    let words = &browser.words.admin;
    let form = |what: &'static str, button: &'static str| {
        let action = format!("/admin/users/{}/change", account.id);
        browser.form(action, button).hidden("do", what).quiet()
    };
    let role = if account.role == Role::Admin {
        form("user", words.demote)
    } else {
        form("admin", words.promote)
    };
    let ban = if account.status == "banned" {
        form("unban", words.unban)
    } else {
        form("ban", words.ban).grave()
    };
    vec![form("sign-out", words.sign_out), role, ban]
}

fn device(browser: &Browser, user: UserId, session: &Session) -> Item {
    let (words, texts) = (&browser.words.account, &browser.words.admin);
    let mut lines = vec![(words.last_used)(&(words.moment)(session.last_used_at))];
    lines.push((words.since)(&(words.moment)(session.created_at)));
    lines.extend(session.ip_address.as_deref().map(words.from));
    let form = browser
        .form(format!("/admin/users/{user}/change"), texts.end_session)
        .hidden("do", "end")
        .hidden("session", session.id.to_string());
    Item {
        title: match &session.app {
            Some(app) => app.name.clone(),
            None => agent_name(words, session.user_agent.as_deref()),
        },
        lines,
        form: Some(form.quiet()),
        ..Item::default()
    }
}

fn linked(browser: &Browser, account: &OutsideAccount) -> Item {
    let words = &browser.words.account;
    let mut lines = Vec::from_iter(account.email.clone());
    lines.push((words.linked_since)(&(words.moment)(account.linked_at)));
    Item {
        title: account.provider.clone(),
        lines,
        ..Item::default()
    }
}

fn event(browser: &Browser, event: &Event) -> Item {
    let words = browser.words;
    let mut lines = vec![(words.account.moment)(event.at)];
    lines.extend(event.ip_address.as_deref().map(words.account.from));
    let admin = event.admin_id.map(|admin| admin.to_string());
    lines.extend(admin.as_deref().map(words.admin.done_by));
    let is_failure = event.outcome == "failure";
    Item {
        title: words.events.of(&event.r#type).to_owned(),
        marks: Vec::from_iter(is_failure.then(|| words.account.failed.to_owned())),
        lines,
        ..Item::default()
    }
}

async fn change(
    State(app): State<App>,
    client: Client,
    id: Id,
    sent: Sent,
) -> Result<Response, Failure> {
    sent.browser.admin()?;
    let admin = sent.browser.recent()?.caller.user;
    let user = named(id)?;
    let change = match sent.text("do") {
        "admin" => Change::Role(Role::Admin),
        "user" => Change::Role(Role::User),
        "ban" => Change::Ban,
        "unban" => Change::Unban,
        "sign-out" => Change::SignOut,
        "end" => {
            let session = sent.text("session").parse();
            Change::EndSession(session.map_err(|_| admin::Error::NoSuchSession)?)
        }
        _ => return Err(Failure::NotFound),
    };
    match admin::change(&app, admin, user, change, &client).await {
        // It is like that already, which is what was wanted.
        Ok(()) | Err(admin::Error::AsBefore | admin::Error::NoSuchSession) => {
            Ok(go(&format!("/admin/users/{user}?done=1")))
        }
        Err(error) => Err(error.into()),
    }
}
