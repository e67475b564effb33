//! A page of an area that people move about in, such as the account: parts one below the other, and a
//! menu of its other pages. What a form changes is told by the page that it leads back to.

use askama::Template;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

use super::{Browser, Form, Mistake, Reader, chart::Chart};

/// A page of an area.
#[derive(Template)]
#[template(path = "pages/area.html")]
pub struct AreaPage<'a> {
    reader: &'a Reader,
    title: String,
    email: String,
    beside: Vec<(&'static str, &'static str)>,
    menu: Menu,
    done: Option<&'static str>,
    mistake: Option<&'static str>,
    parts: Vec<Part>,
}

/// The pages of an area.
pub struct Menu {
    /// What people call the area.
    pub name: &'static str,
    /// Where a page is, what people call it, and whether it is this one.
    pub rows: Vec<(&'static str, &'static str, bool)>,
}

/// A part of such a page.
#[derive(Default)]
pub struct Part {
    pub heading: Option<&'static str>,
    pub says: Vec<String>,
    /// A `data:` URL, and what it is.
    pub picture: Option<(String, &'static str)>,
    pub chart: Option<Chart>,
    /// What is said below it.
    pub below: Option<&'static str>,
    /// What is to be copied.
    pub secrets: Vec<String>,
    pub items: Vec<Item>,
    pub forms: Vec<Form>,
    pub links: Vec<(String, &'static str)>,
}

/// One of a list.
#[derive(Default)]
pub struct Item {
    pub title: String,
    pub href: Option<String>,
    pub marks: Vec<String>,
    pub lines: Vec<String>,
    pub form: Option<Form>,
}

impl<'a> AreaPage<'a> {
    /// A page of somebody, with what was just done.
    pub fn new(
        browser: &'a Browser,
        title: impl Into<String>,
        menu: Menu,
        done: Option<&'static str>,
    ) -> Self {
        let visitor = browser.visitor();
        Self {
            reader: browser,
            title: title.into(),
            email: visitor.map_or_else(String::new, |visitor| visitor.email.clone()),
            beside: Vec::new(),
            menu,
            done,
            mistake: None,
            parts: Vec::new(),
        }
    }

    /// With a way out of the area.
    pub fn beside(mut self, href: &'static str, text: &'static str) -> Self {
        self.beside.push((href, text));
        self
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

/// Those that are in the page itself: as an image, an SVG runs nothing and fetches nothing.
fn let_in_pictures(page: &mut Response) {
    let headers = page.headers_mut();
    let policy = headers.get(header::CONTENT_SECURITY_POLICY);
    let policy = policy.map(|policy| [policy.as_bytes(), b"; img-src data:"].concat());
    if let Some(Ok(policy)) = policy.map(|policy| HeaderValue::from_bytes(&policy)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}
