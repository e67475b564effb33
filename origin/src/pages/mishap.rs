//! What people see of a problem in place of what programs read.

use std::borrow::Cow;

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use shared::problem::{Code, FieldError, Problem};
use url::form_urlencoded;

use crate::{app::App, error::Error as Failure};

use super::{
    page::{Reader, go},
    words::Mistakes,
};

/// Where programs ask, whatever they say that they read.
const OF_PROGRAMS: [&str; 5] = [
    "/api/",
    "/oauth2/",
    "/internal/",
    "/.well-known/",
    "/health",
];
/// The longest path that is worth coming back to.
const MAX_BACK: usize = 2_000;

/// Somebody who looks at a page, before it is known what becomes of that.
pub struct Looking {
    reader: Reader,
    /// The page, to come back to.
    back: String,
}

impl Looking {
    /// Whether a browser asks for a page.
    pub fn of(app: &App, request: &Request) -> Option<Self> {
        let path = request.uri().path();
        let accepts = request.headers().get_all(header::ACCEPT).into_iter();
        let reads_html = accepts
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains("text/html"));
        if !reads_html || OF_PROGRAMS.iter().any(|prefix| path.starts_with(prefix)) {
            return None;
        }
        let asked = request.uri().path_and_query();
        let asked = asked.map_or(path, http::uri::PathAndQuery::as_str);
        let is_look = request.method() == Method::GET && asked.len() <= MAX_BACK;
        Some(Self {
            reader: Reader::of(app, request.headers()),
            back: if is_look { asked } else { path }.to_owned(),
        })
    }

    /// A problem as a page, with the headers that its answer had; who must sign in first is led there.
    pub fn tell(self, response: Response, problem: &Problem, id: &str) -> Response {
        let sign_in = |again: &[(&str, &str)]| {
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(again)
                .append_pair("returnUrl", &self.back)
                .finish();
            go(&format!("/sign-in?{query}"))
        };
        match problem.code {
            Code::Unauthenticated => return sign_in(&[]),
            Code::RecentSignInRequired => return sign_in(&[("again", "1")]),
            _ => {}
        }
        let (parts, _) = response.into_parts();
        let words = self.reader.words;
        let (title, says) = texts(&words.mistakes, problem);
        let page = self.reader.page(title).says(says);
        let page = page.says((words.common.reference)(id));
        let back = match problem.code {
            Code::NotFound => "/account".to_owned(),
            _ => without_query(&self.back).to_owned(),
        };
        let page = page.link(back, words.common.back);
        let mut page = self.reader.show(parts.status, &page, None);
        keep_retry(&parts.headers, &mut page);
        page
    }
}

/// A problem as a page. Its own words are English, and say the most.
pub fn tell(reader: &Reader, status: StatusCode, problem: &Problem) -> Response {
    if reader.words.lang == "en" {
        return reader.note(status, &problem.title, &problem.detail);
    }
    let (title, says) = texts(&reader.words.mistakes, problem);
    reader.note(status, title, &says)
}

/// A page. Where a form goes there is one, too, or the way to it.
fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

fn texts<'a>(words: &'a Mistakes, problem: &Problem) -> (&'a str, Cow<'a, str>) {
    let (title, says) = match problem.code {
        Code::NotFound => (words.not_found, words.not_found_says),
        Code::ForeignPage => (words.try_again, words.try_again_says),
        Code::RateLimited => (words.slow_down, words.slow_down_says),
        Code::InvalidSignInState
        | Code::ProviderRefused
        | Code::ProviderEmailUnverified
        | Code::InvalidIdToken
        | Code::LinkedElsewhere
        | Code::SignInProviderFailed => (words.refused, of(words, problem.code)),
        _ if problem.status >= 500 => (words.ours, words.ours_says),
        code => match known(words, code) {
            Some(text) => (words.refused, text),
            None => (words.refused, words.refused_says),
        },
    };
    (title, says.into())
}

/// What went wrong with a form, by which the page tells it that shows the form again.
pub struct Mistake {
    /// The status of the page.
    pub status: StatusCode,
    /// What it says of all of it.
    pub text: Option<&'static str>,
    /// Which of the problems it was.
    pub code: Code,
    fields: Vec<FieldError>,
    words: &'static Mistakes,
    headers: HeaderMap,
}

impl Mistake {
    /// A failure that the person can mend; any other is a page of its own.
    pub fn of(reader: &Reader, failure: Failure) -> Result<Self, Failure> {
        let words = &reader.words.mistakes;
        let problem = failure.problem();
        let is_theirs =
            problem.code == Code::ValidationFailed || known(words, problem.code).is_some();
        if !is_theirs {
            return Err(failure);
        }
        let response = failure.into_response();
        let text = match problem.code {
            Code::ValidationFailed => None,
            code => known(words, code),
        };
        Ok(Self {
            status: response.status(),
            text,
            code: problem.code,
            fields: problem.errors,
            words,
            headers: response.headers().clone(),
        })
    }

    /// What is wrong with a field.
    pub fn at(&self, name: &str) -> Option<&'static str> {
        let mut fields = self.fields.iter();
        fields.find(|field| field.pointer.strip_prefix('/') == Some(name))?;
        Some(match name {
            "email" => self.words.email_field,
            "password" | "newPassword" | "currentPassword" => self.words.password_field,
            "name" => self.words.name_field,
            "code" => self.words.code_field,
            "amount" => self.words.amount_field,
            "reason" => self.words.reason_field,
            "address" => self.words.address_field,
            _ => self.words.field,
        })
    }

    /// What the page says above its forms, of which these fields tell what is wrong with them.
    pub fn beside(&self, fields: &[&str]) -> Option<&'static str> {
        let is_told = fields.iter().any(|field| self.at(field).is_some());
        let untold = self.code == Code::ValidationFailed && !is_told;
        self.text.or_else(|| untold.then_some(self.words.field))
    }

    /// The page that shows the form again.
    pub fn on(&self, mut page: Response) -> Response {
        keep_retry(&self.headers, &mut page);
        page
    }
}

/// When to come back.
fn keep_retry(from: &HeaderMap, page: &mut Response) {
    if let Some(after) = from.get(header::RETRY_AFTER) {
        let after: HeaderValue = after.clone();
        page.headers_mut().insert(header::RETRY_AFTER, after);
    }
}

fn of(words: &Mistakes, code: Code) -> &'static str {
    known(words, code).unwrap_or(words.refused_says)
}

/// What a person can do something about.
fn known(words: &Mistakes, code: Code) -> Option<&'static str> {
    Some(match code {
        Code::InvalidCredentials => words.credentials,
        Code::EmailNotVerified => words.unverified,
        Code::AccountDisabled => words.disabled,
        Code::EmailTaken => words.taken,
        Code::PasswordTooCommon => words.common_password,
        Code::InvalidMfaCode => words.code,
        Code::InvalidMfaToken => words.second_step_over,
        Code::RateLimited => words.slow_down_says,
        Code::Overloaded => words.overloaded,
        Code::MailNotConfigured => words.no_mail,
        Code::LastSignInMethod => words.last_way,
        Code::PaymentsNotConfigured | Code::PaymentProviderFailed => words.payments,
        Code::RefundExceedsCharge => words.refund_exceeds,
        Code::IdempotencyMismatch => words.mismatch,
        Code::InvalidSignInState
        | Code::ProviderRefused
        | Code::ProviderEmailUnverified
        | Code::InvalidIdToken
        | Code::LinkedElsewhere
        | Code::SignInProviderFailed => words.provider,
        _ => return None,
    })
}
