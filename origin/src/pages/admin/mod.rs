//! What admins look after. To anybody else there is no such page, and whoever changes something has
//! signed in not long ago; that they are an admin, the database says once more (`crate::admin`).

mod lists;
mod user;
mod user_credits;
mod users;

use axum::Router;

use crate::app::App;

use super::{AreaPage, Browser, Menu, words::Words};

/// The pages.
pub fn router() -> Router<App> {
    Router::new()
        .merge(users::router())
        .merge(user::router())
        .merge(user_credits::router())
        .merge(lists::router())
}

/// What there is to look after.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Desk {
    Users,
    Apps,
    Clients,
    Keys,
    Mail,
    Health,
}

impl Desk {
    /// As the navigation has them.
    const ALL: [Self; 6] = [
        Self::Users,
        Self::Apps,
        Self::Clients,
        Self::Keys,
        Self::Mail,
        Self::Health,
    ];

    /// Where its page is.
    const fn path(self) -> &'static str {
        match self {
            Self::Users => "/admin",
            Self::Apps => "/admin/apps",
            Self::Clients => "/admin/clients",
            Self::Keys => "/admin/keys",
            Self::Mail => "/admin/mail",
            Self::Health => "/admin/health",
        }
    }

    const fn name(self, words: &Words) -> &'static str {
        match self {
            Self::Users => words.admin.users,
            Self::Apps => words.admin.apps,
            Self::Clients => words.admin.clients,
            Self::Keys => words.admin.keys,
            Self::Mail => words.admin.mail,
            Self::Health => words.admin.health,
        }
    }

    /// Its page.
    fn page(self, browser: &Browser) -> AreaPage<'_> {
        self.page_of(browser, self.name(browser.words))
    }

    /// A page of its own about something.
    fn page_of(self, browser: &Browser, title: impl Into<String>) -> AreaPage<'_> {
        let words = browser.words;
        let row = |desk: Self| (desk.path(), desk.name(words), desk == self);
        let menu = Menu {
            name: words.admin.area,
            rows: Self::ALL.map(row).to_vec(),
        };
        let done = (browser.asked("done") == "1").then_some(words.admin.done);
        AreaPage::new(browser, title, menu, done)
            .beside("/account", words.account.area)
            .beside("/sign-out", words.sign_in.out_button)
    }
}
