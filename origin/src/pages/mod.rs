//! The pages that a browser shows: signing in and out, registering, the account, what admins look after,
//! and where the link of a mail leads. Each is self-contained, runs no script, and may be framed by
//! nobody, so that its button is pressed by whoever reads it. The rules are those of the calls beside
//! them, by the same functions; here is how people meet them: [`words`] has the texts in each language,
//! [`browser`] says who is signed in and whose a form is, [`page`] is what pages are made of.

mod account;
mod admin;
mod area;
mod browser;
mod by_mail;
mod chart;
mod code;
mod csrf;
mod form;
mod headers;
mod mishap;
mod page;
mod register;
mod returning;
mod sign_in;
mod sign_out;
mod words;

pub use area::{AreaPage, Item, Menu, Part};
pub use browser::{Browser, Sent};
pub use code::{ask_for_code, forget_half};
pub use form::{By, Posted, is_form};
pub use headers::put_on;
pub use mishap::{Looking, Mistake, tell};
pub use page::{Field, Form, Reader, go, with_cookies};
pub use returning::is_ours;
pub use words::Clients;

use axum::Router;

use crate::app::App;

/// What all of them look like. It is in each page: one request is enough to paint it.
pub const STYLE: &str = include_str!("../../templates/pages/style.css");

/// Every page but those that belong to a call.
pub fn router() -> Router<App> {
    Router::new()
        .merge(sign_in::router())
        .merge(register::router())
        .merge(by_mail::router())
        .merge(sign_out::router())
        .merge(account::router())
        .merge(admin::router())
}
