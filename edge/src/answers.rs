//! What the edge says itself: the key set, whether a token is good, that it is up, and no.

use shared::{
    problem::{Code, Problem},
    proof::REQUEST_ID,
    tokens::Verified,
};

use crate::{
    host::{Answer, Headers},
    keys::Published,
};

/// What the key set says of its own age, the same as at the origin.
const CACHE_CONTROL: &str =
    "public, max-age=300, stale-while-revalidate=3600, stale-if-error=86400";

/// A request that may not pass, and the headers that its answer carries besides.
pub struct Refusal(pub Problem, pub Headers);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem, Headers::new())
    }
}

impl Refusal {
    /// The answer, which names the request; a 401 tells how to sign in.
    #[must_use]
    pub fn into_answer(self, request_id: String) -> Answer {
        let Self(problem, mut headers) = self;
        if problem.status == 401 {
            headers.push(("www-authenticate", challenge(problem.code).into()));
        }
        headers.push((REQUEST_ID, request_id.clone().into()));
        Answer::problem(&problem.instance(request_id), headers)
    }
}

/// That this token is good, and what it says.
#[must_use]
pub fn valid(caller: &Verified) -> String {
    format!(r#"{{"valid":true,"payload":{}}}"#, caller.payload)
}

/// An answer in JSON. Nothing keeps one to a bearer or to a `POST` by itself (RFC 9111 §3.5), so
/// it needs no header that says so.
#[must_use]
pub fn json(body: String) -> Answer {
    Answer {
        status: 200,
        headers: vec![("content-type", "application/json".into())],
        body,
    }
}

/// The key set to the letter, or 304 where the client has it. RFC 9110 §13.1.2.
#[must_use]
pub fn jwks(published: &Published, if_none_match: Option<&str>) -> Answer {
    let known = if_none_match.is_some_and(|tags| {
        let tags = tags.split(',').map(str::trim);
        let mut tags = tags.map(|tag| tag.trim_start_matches("W/"));
        tags.any(|tag| tag == "*" || (!tag.is_empty() && tag == published.etag))
    });
    let mut headers: Headers = vec![("cache-control", CACHE_CONTROL.into())];
    if !published.etag.is_empty() {
        headers.push(("etag", published.etag.clone().into()));
    }
    if known {
        return Answer {
            status: 304,
            headers,
            body: String::new(),
        };
    }
    headers.push(("content-type", "application/json".into()));
    Answer {
        status: 200,
        headers,
        body: published.body.clone(),
    }
}

/// RFC 6750 §3: a request without credentials gets no error code.
const fn challenge(code: Code) -> &'static str {
    match code {
        Code::InvalidToken | Code::SessionRevoked => "Bearer error=\"invalid_token\"",
        _ => "Bearer",
    }
}
