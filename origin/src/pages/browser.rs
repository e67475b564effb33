//! The browser that shows our pages: who is signed in there, in which language they read, and that its
//! forms are its own.

use std::{collections::BTreeMap, ops::Deref};

use askama::Template;
use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::Response,
};
use serde_json::value::{RawValue, to_raw_value};
use shared::{api, claims::Role};
use url::{Url, form_urlencoded};

use crate::{
    app::App,
    door,
    error::Error as Failure,
    forgery,
    outside::Named,
    rim,
    sessions::{self, Visitor},
};

use super::{
    csrf::{self, Bound},
    form::is_form,
    page::{Form, Reader, with_cookies},
    returning::{ReturnTo, is_ours},
    words::Words,
};

/// A browser at one of our pages.
pub struct Browser {
    /// Who is signed in.
    visitor: Option<Visitor>,
    reader: Reader,
    bound: Bound,
    query: BTreeMap<String, String>,
    /// Where to go once they have signed in.
    pub return_to: ReturnTo,
    app: App,
}

/// A form of one of our pages, sent by the browser that it was made for.
pub struct Sent {
    /// Which.
    pub browser: Browser,
    fields: BTreeMap<String, String>,
}

impl Deref for Browser {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl FromRequestParts<App> for Browser {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        // A script of another page, whatever the edge lets it read. Who follows a link says no origin.
        if parts.headers.contains_key(header::ORIGIN) && !forgery::is_ours(app, &parts.headers) {
            return Err(Failure::ForeignPage);
        }
        let query = parts.uri.query().unwrap_or_default();
        Self::new(app, &parts.headers, pairs(query.as_bytes())).await
    }
}

impl Browser {
    async fn new(
        app: &App,
        headers: &HeaderMap,
        query: BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let visitor = sessions::visitor(app, headers).await?;
        let session = visitor.as_ref().map(|visitor| visitor.caller.session);
        let back = query.get("returnUrl").map_or("", String::as_str);
        Ok(Self {
            return_to: ReturnTo::parse(app, back).await?,
            reader: Reader::of(app, headers),
            bound: Bound::of(app, headers, session),
            app: app.clone(),
            visitor,
            query,
        })
    }

    /// A parameter of the page's address, or nothing.
    pub fn asked(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// Who is signed in, if anybody is.
    pub fn visitor(&self) -> Option<&Visitor> {
        self.visitor.as_ref()
    }

    /// Who is signed in. Nobody: the front sends the browser to sign in, and back.
    pub fn member(&self) -> Result<&Visitor, Failure> {
        let visitor = self.visitor.as_ref();
        visitor.ok_or_else(|| sessions::Error::NotSignedIn.into())
    }

    /// Who is signed in, if they are an admin; to anybody else there is no such page.
    pub fn admin(&self) -> Result<&Visitor, Failure> {
        let visitor = self.member()?;
        if visitor.caller.role != Role::Admin {
            return Err(Failure::NotFound);
        }
        Ok(visitor)
    }

    /// Who has signed in not long ago. Nobody: as [`Self::member`], once more.
    pub fn recent(&self) -> Result<&Visitor, Failure> {
        let visitor = self.member()?;
        if !sessions::is_recent(visitor.authenticated_at, rim::now()) {
            return Err(sessions::Error::NotRecent.into());
        }
        Ok(visitor)
    }

    /// A form of this browser, which takes along where it is to return to.
    pub fn form(&self, action: impl Into<String>, button: impl Into<String>) -> Form {
        let form = Form::new(action, button);
        let form = form.hidden(csrf::FIELD, self.bound.token(&self.app, rim::now()));
        match self.return_to.text(&self.app) {
            back if back.is_empty() => form,
            back => form.hidden("returnUrl", back),
        }
    }

    /// A path of ours that takes along where to return to.
    pub fn along(&self, path: &str) -> String {
        self.return_to.along(&self.app, path, &[])
    }

    /// The same, with more.
    pub fn along_with(&self, path: &str, more: &[(&str, &str)]) -> String {
        self.return_to.along(&self.app, path, more)
    }

    /// Who signs people in besides us.
    pub fn providers(&self) -> impl Iterator<Item = Named> {
        self.app.outside.named()
    }

    /// What people call one of them; one that is gone is called by its id.
    pub fn provider_name(&self, id: &str) -> String {
        let found = self.providers().find(|known| known.id == id);
        found.map_or_else(|| id.to_owned(), |known| known.name)
    }

    /// Whether links can be sent.
    pub fn has_mail(&self) -> bool {
        self.app.mail.is_some()
    }

    /// A page with forms of this browser.
    pub fn show_forms(&self, status: StatusCode, page: &impl Template) -> Response {
        let leads_to = self.return_to.url();
        let leads_to = leads_to.filter(|url| !is_ours(&self.app, url));
        let response = self.show(status, page, leads_to);
        with_cookies(self.bound.cookie(&self.app), response)
    }

    /// Leads to where they wanted to go, or to the account.
    pub fn leads_to(&self) -> Url {
        self.return_to.or_account(&self.app)
    }
}

impl FromRequest<App> for Sent {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        if !is_form(headers) || !forgery::is_ours(app, headers) {
            return Err(Failure::ForeignPage);
        }
        let fields = pairs(&door::read(body, app.config.max_body_bytes).await?);
        let browser = Browser::new(app, headers, fields.clone()).await?;
        let token = fields.get(csrf::FIELD).map_or("", String::as_str);
        if !browser.bound.made(app, token, rim::now()) {
            return Err(Failure::ForeignPage);
        }
        Ok(Self { browser, fields })
    }
}

impl Sent {
    /// What a field says, or nothing.
    pub fn text(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The body that these fields are of the same call in JSON. A field that was left empty is not
    /// there, and a box that was ticked is `true`.
    pub fn body<T: api::Body>(&self, names: &[&str]) -> Result<T, Failure> {
        self.body_with(names, &[])
    }

    /// The same, with more that no field says.
    pub fn body_with<T: api::Body>(
        &self,
        names: &[&str],
        more: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let fields = names.iter().map(|name| (*name, self.text(name)));
        let fields = fields.chain(more.iter().copied());
        let fields: BTreeMap<&str, Box<RawValue>> = fields
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name, in_json(name, value, self.browser.words)))
            .collect();
        let json = serde_json::to_vec(&fields).expect("texts are plain JSON");
        Ok(api::parse(&json)?)
    }
}

/// The fields that are boxes.
const BOXES: [&str; 2] = ["rememberMe", "revokeOthers"];

/// The value of a field as the same call in JSON has it.
fn in_json(name: &str, value: &str, words: &Words) -> Box<RawValue> {
    if BOXES.contains(&name) && value == "on" {
        return RawValue::TRUE.to_owned();
    }
    // A number is written as it is read here: a point that parts thousands is none for decimals. What
    // is no number is told by whoever reads it.
    let has_only = |letter: char| letter.is_ascii_digit() || letter == words.point;
    let is_number = name == "amount" && value.chars().all(has_only);
    let number = is_number.then(|| RawValue::from_string(value.replace(words.point, ".")));
    match number {
        Some(Ok(number)) => number,
        _ => to_raw_value(value).expect("a text is plain JSON"),
    }
}

/// The pairs of a query or a form. Of a name that comes twice the first one counts, here and in every
/// check. No form of ours sends a NUL, which Postgres does not take.
fn pairs(text: &[u8]) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(text) {
        if value.contains('\0') {
            continue;
        }
        pairs
            .entry(name.into_owned())
            .or_insert_with(|| value.into_owned());
    }
    pairs
}
