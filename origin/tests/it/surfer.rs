//! Somebody at our pages: a browser that keeps its cookies, and fills in the forms that it is shown.

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use serde_json::Value;
use url::form_urlencoded;

use crate::{
    post_office::{Browser, HOME},
    support::{Answer, Origin, PASSWORD},
};

/// A browser at our pages.
pub struct Surfer<'a> {
    origin: &'a Origin,
    pub browser: Browser,
    pub language: &'static str,
}

/// A page, as a browser has it.
#[derive(Debug)]
pub struct Seen {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub html: String,
}

/// A form of a page.
#[derive(Clone, Debug)]
pub struct Filled {
    pub action: String,
    pub fields: Vec<(String, String)>,
}

impl<'a> Surfer<'a> {
    pub fn at(origin: &'a Origin) -> Self {
        Self {
            origin,
            browser: Browser::default(),
            language: "en",
        }
    }

    /// Somebody who has signed in by the page.
    pub async fn signed_in(origin: &'a Origin, email: &str) -> Self {
        let mut surfer = Self::at(origin);
        let seen = surfer.sign_in(email, PASSWORD).await;
        assert_eq!(seen.leads_to(), format!("{HOME}/account"), "{seen:?}");
        surfer
    }

    pub async fn look(&mut self, path: &str) -> Seen {
        let path = path.strip_prefix(HOME).unwrap_or(path);
        let request = Request::get(path).body(Body::empty()).expect("a request");
        self.send(request).await
    }

    /// Presses the button of a form.
    pub async fn press(&mut self, form: &Filled) -> Seen {
        self.press_at(HOME, form).await
    }

    /// The same on a page of another site.
    pub async fn press_at(&mut self, origin: &str, form: &Filled) -> Seen {
        let fields = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&form.fields)
            .finish();
        let request = Request::post(&form.action)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ORIGIN, origin)
            .body(fields.into())
            .expect("a request");
        self.send(request).await
    }

    /// Looks at a page, fills its form for that action in, and sends it.
    pub async fn fill(&mut self, page: &str, action: &str, fields: &[(&str, &str)]) -> Seen {
        let form = self.look(page).await.form(action).with(fields);
        self.press(&form).await
    }

    pub async fn sign_in(&mut self, email: &str, password: &str) -> Seen {
        let fields = [("email", email), ("password", password)];
        self.fill("/sign-in", "/sign-in", &fields).await
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        let mut cookies = self.browser.0.iter();
        let found = cookies.find(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    async fn send(&mut self, request: Request<Body>) -> Seen {
        let (mut parts, body) = request.into_parts();
        for (name, value) in [
            (header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8"),
            (header::ACCEPT_LANGUAGE, self.language),
            (header::COOKIE, &self.browser.cookies()),
        ] {
            parts
                .headers
                .insert(name, value.parse().expect("a header's value"));
        }
        let request = Request::from_parts(parts, body);
        let Answer {
            status,
            headers,
            body,
        } = self.origin.send(request).await;
        self.browser.keep(&headers);
        Seen {
            status,
            headers,
            html: match body {
                Value::String(html) => html,
                Value::Null => String::new(),
                json => json.to_string(),
            },
        }
    }
}

impl Seen {
    /// Where the browser goes by itself: by a redirect, or from a page.
    #[track_caller]
    pub fn leads_to(&self) -> String {
        if let Some(there) = self.headers.get(header::LOCATION) {
            assert_eq!(self.status, StatusCode::SEE_OTHER);
            return there.to_str().expect("text").to_owned();
        }
        let (_, rest) = self
            .html
            .split_once("http-equiv=\"refresh\" content=\"0; url=")
            .unwrap_or_else(|| panic!("leads nowhere: {self:?}"));
        plain(rest.split('"').next().unwrap_or_default())
    }

    /// The first form of a page that goes there.
    #[track_caller]
    pub fn form(&self, action: &str) -> Filled {
        let first = self.forms(action).into_iter().next();
        first.unwrap_or_else(|| panic!("no form for {action}: {}", self.html))
    }

    /// All of them.
    pub fn forms(&self, action: &str) -> Vec<Filled> {
        let mark = format!(" method=\"post\" action=\"{action}\"");
        let forms = self.html.split(&mark).skip(1);
        let forms = forms.map(|rest| rest.split("</form>").next().unwrap_or_default());
        let filled = forms.map(|form| Filled {
            action: action.to_owned(),
            fields: form.split("<input").skip(1).filter_map(field).collect(),
        });
        filled.collect()
    }

    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.html.contains(text), "{text:?} is not in {self:?}");
        self
    }

    #[track_caller]
    pub fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }
}

impl Filled {
    pub fn with(mut self, fields: &[(&str, &str)]) -> Self {
        for (name, value) in fields {
            self.fields.retain(|(known, _)| known != name);
            self.fields.push(((*name).to_owned(), (*value).to_owned()));
        }
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self
    }

    pub fn value(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// What a browser sends of an input, by what is behind its mark.
fn field(input: &str) -> Option<(String, String)> {
    let tag = input.split('>').next().unwrap_or_default();
    let name = attribute(tag, "name")?;
    let is_box = attribute(tag, "type").as_deref() == Some("checkbox");
    let value = if is_box {
        tag.contains(" checked").then(|| "on".to_owned())
    } else {
        attribute(tag, "value")
    };
    value.map(|value| (name, value))
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    rest.split('"').next().map(plain)
}

/// Text without the escapes of HTML.
fn plain(html: &str) -> String {
    let mut text = html.to_owned();
    for (escape, letter) in [
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#38;", "&"),
    ] {
        text = text.replace(escape, letter);
    }
    text
}
