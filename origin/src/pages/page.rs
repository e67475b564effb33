//! What pages are made of, and how one becomes an answer.

use std::{borrow::Cow, sync::LazyLock};

use askama::Template;
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{AppendHeaders, IntoResponse, Response},
};
use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};
use url::Url;

use crate::{app::App, error::Error as Failure};

use super::{STYLE, returning, words::Words};

/// Who reads a page, as far as its words go.
#[derive(Clone)]
pub struct Reader {
    /// Its texts.
    pub words: &'static Words,
    /// Whose page it is: the host that people know us by.
    pub site: String,
}

/// A page that says something, and may ask for something.
#[derive(Template)]
#[template(path = "pages/page.html")]
pub struct Page<'a> {
    reader: &'a Reader,
    title: &'a str,
    says: Vec<Cow<'a, str>>,
    mistake: Option<&'a str>,
    forms: Vec<Form>,
    /// Other ways, by a button each.
    beside: Vec<Form>,
    /// Where else to go.
    links: Vec<(String, &'a str)>,
    /// Where the browser goes by itself.
    goes_on_to: Option<&'a str>,
}

/// A form of a page, with one button.
#[derive(Template)]
#[template(path = "pages/part_form.html")]
pub struct Form {
    action: String,
    hidden: Vec<(&'static str, String)>,
    /// Whose password it is about: managers of passwords look for it.
    account: Option<String>,
    fields: Vec<Field>,
    button: String,
    is_quiet: bool,
    is_grave: bool,
    /// It changes nothing: what it asks for is a part of a page's address.
    is_look: bool,
}

/// A field of a form, with its label.
pub struct Field {
    id: String,
    name: &'static str,
    label: &'static str,
    kind: &'static str,
    autocomplete: &'static str,
    value: String,
    mistake: Option<&'static str>,
    is_optional: bool,
}

impl FromRequestParts<App> for Reader {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        Ok(Self::of(app, &parts.headers))
    }
}

impl Reader {
    /// Who sends these headers.
    pub fn of(app: &App, headers: &HeaderMap) -> Self {
        Self {
            words: Words::of(headers),
            site: app.config.public_url.host().to_owned(),
        }
    }

    /// Somebody who reads what there is in English alone.
    pub fn in_english(app: &App) -> Self {
        Self {
            words: Words::english(),
            site: app.config.public_url.host().to_owned(),
        }
    }

    /// An empty page.
    pub fn page<'a>(&'a self, title: &'a str) -> Page<'a> {
        Page {
            reader: self,
            title,
            says: Vec::new(),
            mistake: None,
            forms: Vec::new(),
            beside: Vec::new(),
            links: Vec::new(),
            goes_on_to: None,
        }
    }

    /// A page that tells something.
    pub fn note(&self, status: StatusCode, title: &str, says: &str) -> Response {
        let page = self.page(title).says(says);
        self.show(status, &page, None)
    }

    /// The page that a link leads to which is good no more.
    pub fn gone(&self) -> Response {
        let links = &self.words.links;
        self.note(StatusCode::BAD_REQUEST, links.gone, links.gone_says)
    }

    /// A page as an answer. `leads_to` is where its form leads in the end: browsers hold the redirect
    /// that answers a form to the policy of the form's page.
    pub fn show(
        &self,
        status: StatusCode,
        page: &impl Template,
        leads_to: Option<&Url>,
    ) -> Response {
        static STYLE_HASH: LazyLock<String> =
            LazyLock::new(|| Base64::encode_string(&Sha256::digest(STYLE)));
        let leads_to = leads_to.map_or_else(String::new, |url| {
            format!(" {}", url.origin().ascii_serialization())
        });
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; form-action 'self'{leads_to}; frame-ancestors 'none'; base-uri 'none'",
            *STYLE_HASH
        );
        let html = page.render().expect("a text takes whatever is written");
        let mut response = (status, html).into_response();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_LANGUAGE, self.words.lang),
            (header::VARY, "Accept-Language"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let policy = HeaderValue::try_from(policy).expect("an origin is ASCII");
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        response
    }

    /// What answers a form: the page that it leads to, or a note with this title.
    pub fn lead(&self, app: &App, leads_to: Option<&Url>, title: &str) -> Response {
        match leads_to {
            // It may lead on to anywhere, which the policy of the form's page would forbid.
            Some(url) if returning::goes_on(app, url) => {
                self.go_on(url.as_str(), title, self.words.common.on_says)
            }
            Some(url) => go(url.as_str()),
            None => self.note(StatusCode::OK, title, self.words.common.close),
        }
    }

    /// A note after which there is nothing to do but to sign in.
    pub fn sign_in_next(&self, title: &str) -> Response {
        let words = self.words;
        let page = self.page(title).says(words.common.close);
        let page = page.link("/sign-in", words.sign_in.button);
        self.show(StatusCode::OK, &page, None)
    }

    /// A page from which the browser goes on by itself, as if somebody had followed a link: no policy
    /// of a form's page holds it back.
    pub fn go_on(&self, url: &str, title: &str, says: &str) -> Response {
        let mut page = self.page(title).says(says);
        page = page.link(url, self.words.common.on);
        page.goes_on_to = Some(url);
        self.show(StatusCode::OK, &page, None)
    }
}

/// Sends a browser to one of our own pages or to an app's; nobody there learns where from.
pub fn go(to: &str) -> Response {
    let there = [
        (header::LOCATION, to),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (StatusCode::SEE_OTHER, there).into_response()
}

/// An answer that sets cookies, too.
pub fn with_cookies(cookies: impl IntoIterator<Item = String>, response: Response) -> Response {
    let cookies = cookies
        .into_iter()
        .map(|cookie| (header::SET_COOKIE, cookie));
    let cookies: Vec<_> = cookies.collect();
    (AppendHeaders(cookies), response).into_response()
}

impl<'a> Page<'a> {
    /// With a paragraph.
    pub fn says(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.says.push(text.into());
        self
    }

    /// With what went wrong the last time.
    pub fn mistake(mut self, mistake: Option<&'a str>) -> Self {
        self.mistake = mistake;
        self
    }

    /// With a form.
    pub fn form(mut self, form: Form) -> Self {
        self.forms.push(form);
        self
    }

    /// With another way.
    pub fn beside(mut self, form: Form) -> Self {
        self.beside.push(form);
        self
    }

    /// With a link.
    pub fn link(mut self, href: impl Into<String>, text: &'a str) -> Self {
        self.links.push((href.into(), text));
        self
    }
}

impl Form {
    /// One that goes there, below the public URL.
    pub fn new(action: impl Into<String>, button: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            hidden: Vec::new(),
            account: None,
            fields: Vec::new(),
            button: button.into(),
            is_quiet: false,
            is_grave: false,
            is_look: false,
        }
    }

    /// One that only looks for something.
    pub fn look(action: impl Into<String>, button: impl Into<String>) -> Self {
        Self {
            is_look: true,
            ..Self::new(action, button)
        }
    }

    /// With something that is not shown.
    pub fn hidden(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.hidden.push((name, value.into()));
        self
    }

    /// About this account's password.
    pub fn about(mut self, email: impl Into<String>) -> Self {
        self.account = Some(email.into());
        self
    }

    /// With a field.
    pub fn field(mut self, field: Field) -> Self {
        self.fields.push(field);
        self
    }

    /// With a button that is not the first choice.
    pub fn quiet(mut self) -> Self {
        self.is_quiet = true;
        self
    }

    /// With a button to think about first.
    pub fn grave(mut self) -> Self {
        self.is_grave = true;
        self
    }
}

impl Field {
    /// A text.
    pub fn text(name: &'static str, label: &'static str, autocomplete: &'static str) -> Self {
        Self {
            id: name.to_owned(),
            name,
            label,
            kind: "text",
            autocomplete,
            value: String::new(),
            mistake: None,
            is_optional: false,
        }
    }

    /// The address that somebody signs in with.
    pub fn email(words: &Words, value: &str) -> Self {
        Self {
            kind: "email",
            value: value.to_owned(),
            ..Self::text("email", words.common.email, "username")
        }
    }

    /// A password, which is never filled in.
    pub fn password(name: &'static str, label: &'static str, autocomplete: &'static str) -> Self {
        Self {
            kind: "password",
            ..Self::text(name, label, autocomplete)
        }
    }

    /// Something to say yes to.
    pub fn check(name: &'static str, label: &'static str, is_on: bool) -> Self {
        Self {
            kind: "checkbox",
            value: if is_on { "on" } else { "" }.to_owned(),
            ..Self::text(name, label, "off")
        }
    }

    /// Filled in.
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = value.into();
        self
    }

    /// What may be left empty.
    pub fn optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// With what is wrong with it.
    pub fn mistake(mut self, mistake: Option<&'static str>) -> Self {
        self.mistake = mistake;
        self
    }

    /// What browsers check before they send it.
    fn limits(&self) -> String {
        let mut limits = match (self.kind, self.autocomplete) {
            ("password", _) => " minlength=\"8\" maxlength=\"128\"",
            ("email", _) => " maxlength=\"254\" autocapitalize=\"none\" spellcheck=\"false\"",
            (_, "one-time-code") => {
                " maxlength=\"40\" autocapitalize=\"none\" spellcheck=\"false\""
            }
            _ => " maxlength=\"200\"",
        }
        .to_owned();
        if !self.is_optional {
            limits.push_str(" required");
        }
        limits
    }
}
