//! The account: what people see and change of it once they are signed in. A page is a [`Section`] with
//! parts one below the other. A new one is a file here, its texts in `words`, and its row in
//! [`Section::BUILT`].

mod access;
mod agent;
mod credits;
mod data;
mod devices;
mod events;
mod linked;
mod profile;
mod security;

use axum::Router;
use shared::claims::Role;

use crate::app::App;

use super::{AreaPage, Browser, Item, Menu, Part, words::Words};

pub use agent::name as agent_name;
pub use credits::{history, line as ledger_line, standing};

/// The pages.
pub fn router() -> Router<App> {
    Router::new()
        .merge(profile::router())
        .merge(security::router())
        .merge(devices::router())
        .merge(linked::router())
        .merge(access::router())
        .merge(credits::router())
        .merge(events::router())
        .merge(data::router())
}

/// What the account is divided into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    Profile,
    Security,
    Devices,
    Linked,
    Access,
    Credits,
    Events,
    Data,
}

impl Section {
    /// Those that there are, as the navigation has them.
    const BUILT: &[Self] = &[
        Self::Profile,
        Self::Security,
        Self::Devices,
        Self::Linked,
        Self::Access,
        Self::Credits,
        Self::Events,
        Self::Data,
    ];

    /// Where its page is.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Profile => "/account",
            Self::Security => "/account/security",
            Self::Devices => "/account/devices",
            Self::Linked => "/account/linked",
            Self::Access => "/account/access",
            Self::Credits => "/account/credits",
            Self::Events => "/account/events",
            Self::Data => "/account/data",
        }
    }

    /// What people call it.
    pub const fn name(self, words: &Words) -> &'static str {
        match self {
            Self::Profile => words.account.profile,
            Self::Security => words.account.security,
            Self::Devices => words.account.devices,
            Self::Linked => words.account.linked,
            Self::Access => words.account.access,
            Self::Credits => words.account.credits,
            Self::Events => words.account.events,
            Self::Data => words.account.data,
        }
    }

    /// Its page, with what was just done by `?done=`.
    pub fn page(self, browser: &Browser) -> AreaPage<'_> {
        let words = browser.words;
        let sections = Self::BUILT.iter();
        let menu = Menu {
            name: words.account.area,
            rows: sections
                .map(|section| (section.path(), section.name(words), *section == self))
                .collect(),
        };
        let done = done(words, browser.asked("done"));
        let page = AreaPage::new(browser, self.name(words), menu, done);
        let is_admin = browser
            .visitor()
            .is_some_and(|visitor| visitor.caller.role == Role::Admin);
        let page = if is_admin {
            page.beside("/admin", words.admin.area)
        } else {
            page
        };
        page.beside("/sign-out", words.sign_in.out_button)
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
        "linked" => words.is_linked,
        "unlinked" => words.is_unlinked,
        "access" => words.access_ended,
        "bought" => words.bought,
        _ => return None,
    })
}
