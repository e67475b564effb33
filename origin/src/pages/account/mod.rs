//! The account: what people see and change of it once they are signed in. A page is a [`Section`] with
//! parts one below the other. A new one is a file here, its texts in `words`, and its row in
//! [`Section::BUILT`]. What a form changes is told by the page that it leads back to.

mod agent;
mod devices;
mod events;
mod profile;
mod security;

use askama::Template;
use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

use crate::app::App;

use super::{Browser, Form, Mistake, Reader, words::Words};

/// The pages.
pub fn router() -> Router<App> {
    Router::new()
        .merge(profile::router())
        .merge(security::router())
        .merge(devices::router())
        .merge(events::router())
}

/// What the account is divided into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    Profile,
    Security,
    Devices,
    Events,
}

impl Section {
    /// Those that there are, as the navigation has them.
    const BUILT: &[Self] = &[Self::Profile, Self::Security, Self::Devices, Self::Events];

    /// Where its page is.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Profile => "/account",
            Self::Security => "/account/security",
            Self::Devices => "/account/devices",
            Self::Events => "/account/events",
        }
    }

    /// What people call it.
    pub const fn name(self, words: &Words) -> &'static str {
        match self {
            Self::Profile => words.account.profile,
            Self::Security => words.account.security,
            Self::Devices => words.account.devices,
            Self::Events => words.account.events,
        }
    }
}

/// A page of the account.
#[derive(Template)]
#[template(path = "pages/account.html")]
pub struct AccountPage<'a> {
    reader: &'a Reader,
    title: &'static str,
    email: String,
    here: Section,
    done: Option<&'static str>,
    mistake: Option<&'static str>,
    parts: Vec<Part>,
}

/// A part of such a page.
#[derive(Default)]
pub struct Part {
    pub heading: Option<&'static str>,
    pub says: Vec<String>,
    /// A `data:` URL, and what it is.
    pub picture: Option<(String, &'static str)>,
    /// What is said below it.
    pub below: Option<&'static str>,
    /// What is to be copied.
    pub secrets: Vec<String>,
    pub items: Vec<Item>,
    pub forms: Vec<Form>,
    pub links: Vec<(String, &'static str)>,
}

/// One of a list.
pub struct Item {
    pub title: String,
    pub mark: Option<&'static str>,
    pub lines: Vec<String>,
    pub form: Option<Form>,
}

impl<'a> AccountPage<'a> {
    /// A page of somebody, with what was just done by `?done=`.
    pub fn new(browser: &'a Browser, here: Section) -> Self {
        let words = browser.words;
        Self {
            reader: browser,
            title: here.name(words),
            email: browser
                .visitor()
                .map_or_else(String::new, |v| v.email.clone()),
            here,
            done: done(words, browser.asked("done")),
            mistake: None,
            parts: Vec::new(),
        }
    }

    /// With a part.
    pub fn part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// With what went wrong.
    pub fn mistake(mut self, mistake: Option<&'static str>) -> Self {
        self.mistake = mistake;
        if mistake.is_some() {
            self.done = None;
        }
        self
    }

    /// As an answer.
    pub fn show(&self, browser: &Browser, mistake: Option<&Mistake>) -> Response {
        let status = mistake.map_or(StatusCode::OK, |mistake| mistake.status);
        let mut page = browser.show_forms(status, self);
        if self.parts.iter().any(|part| part.picture.is_some()) {
            let_in_pictures(&mut page);
        }
        match mistake {
            Some(mistake) => mistake.on(page),
            None => page,
        }
    }
}

/// The texts of `?done=`: nothing else that an address says is shown.
fn done(words: &Words, what: &str) -> Option<&'static str> {
    let words = &words.account;
    Some(match what {
        "saved" => words.saved,
        "password" => words.password_changed,
        "factor-off" => words.factor_removed,
        "factor-over" => words.factor_over,
        "ended" => words.ended,
        "others" => words.others_ended,
        _ => return None,
    })
}

/// Those that are in the page itself: as an image, an SVG runs nothing and fetches nothing.
fn let_in_pictures(page: &mut Response) {
    let headers = page.headers_mut();
    let policy = headers.get(header::CONTENT_SECURITY_POLICY);
    let policy = policy.map(|policy| [policy.as_bytes(), b"; img-src data:"].concat());
    if let Some(Ok(policy)) = policy.map(|policy| HeaderValue::from_bytes(&policy)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}
