//! What the form of a mail link's page sends. It is read as the same call with a JSON body is; that it
//! comes from our page and from no other site, the browser says.
//!
//! Beside the link's own secret these forms carry no token of their browser, as all others do
//! (`csrf`): whoever looks at a link, a mail scanner too, is given no cookie to bind one to. What the
//! token would add holds by the `Origin`, which must be there and be ours, and not merely no other one.

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use serde_json::{Map, Value};
use shared::api;
use url::form_urlencoded;

use crate::{
    app::App,
    door::{self, Body},
    error::Error,
    forgery,
};

/// A body, and who has sent it.
pub struct Posted<T> {
    /// What it says.
    pub body: T,
    /// From where.
    pub by: By,
}

/// Who has sent a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// A program, in JSON.
    Program,
    /// Somebody who pressed the button of our page.
    Page,
}

impl<T: api::Body> FromRequest<App> for Posted<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self, Error> {
        if !is_form(request.headers()) {
            let Body(body) = Body::from_request(request, app).await?;
            let by = By::Program;
            return Ok(Self { body, by });
        }
        // Closer than what holds for every call: an app's page has no business here.
        if !forgery::is_ours(app, request.headers()) {
            return Err(Error::ForeignPage);
        }
        let bytes = door::read(request.into_body(), app.config.max_body_bytes).await?;
        Ok(Self {
            body: api::parse(&json(&bytes)).map_err(Error::from)?,
            by: By::Page,
        })
    }
}

/// Whether a body is one of a form.
pub fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| {
        essence
            .trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

/// The object that a form stands for. A field that was left empty is not there.
fn json(form: &[u8]) -> Vec<u8> {
    let fields: Map<String, Value> = form_urlencoded::parse(form)
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    serde_json::to_vec(&fields).expect("texts are plain JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_an_object_of_texts() {
        let form = b"token=a%22b&password=correct+horse&empty=&%C3%A9=%FF";
        let expected = "{\"password\":\"correct horse\",\"token\":\"a\\\"b\",\"é\":\"\u{fffd}\"}";
        assert_eq!(String::from_utf8(json(form)).expect("UTF-8"), expected);
        assert_eq!(json(b""), b"{}");
    }
}
