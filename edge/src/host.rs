//! What the core needs of a platform, and what it gives back.
//!
//! There are three platforms: Workers, Spin, and the tests. One [`Host`] stands for one request
//! on one of them.

use std::{borrow::Cow, future::Future, net::IpAddr};

use chrono::{DateTime, Utc};
use shared::{
    gcra::{Decision, Quota},
    jwks::Key,
    problem::{self, Code, Problem},
    proof::REQUEST_ID,
};

use crate::{gateway::Settlement, numbers::Report};

/// The head of a request, read once.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method, in capitals.
    pub method: String,
    /// The path as sent, without the query.
    pub path: String,
    /// The query as sent, with its question mark; or nothing.
    pub query: String,
    /// The client's address, from the one source that this platform trusts.
    pub address: IpAddr,
    /// Whose page asks, where a browser says so. RFC 6454 §7.
    pub origin: Option<String>,
}

/// What the edge asks of the origin for itself.
#[derive(Debug)]
pub struct Ask {
    /// How.
    pub method: &'static str,
    /// For what.
    pub url: String,
    /// Under which headers.
    pub headers: Headers,
    /// A body in JSON, or none.
    pub body: Option<String>,
    /// How long it may take.
    pub timeout_millis: u32,
}

/// A document as the origin sent it.
#[derive(Clone, Debug)]
pub struct Document {
    /// The HTTP status.
    pub status: u16,
    /// To the letter.
    pub body: String,
    /// Its `ETag`, or nothing.
    pub etag: String,
}

impl Document {
    /// The same, if it is what was asked for.
    pub fn ok(self) -> Result<Self, String> {
        match self.status {
            200 => Ok(self),
            status => Err(format!("status {status}")),
        }
    }
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unread {
    /// It is larger than allowed.
    TooLarge,
    /// The client went away, or it is no UTF-8.
    Broken,
}

/// A platform, for the time of one request.
pub trait Host: Clone + 'static {
    /// The platform's clock.
    fn now(&self) -> DateTime<Utc>;

    /// A new id for this request.
    fn new_request_id(&self) -> String;

    /// A header of the request, if it is there and is text.
    fn header(&self, name: &str) -> Option<String>;

    /// The names of all the request's headers in lower case, a line each.
    fn header_names(&self) -> String;

    /// Whether `key` has made `signature` over `message`: the platform's own Ed25519, or ours.
    fn has_signed(&self, key: &Key, message: &[u8], signature: &[u8; 64]) -> bool;

    /// The request's body, of at most `limit` bytes.
    fn body(&self, limit: usize) -> impl Future<Output = Result<String, Unread>>;

    /// What the origin answers, given in time; or why it does not, for the log.
    fn fetch(&self, ask: Ask) -> impl Future<Output = Result<Document, String>>;

    /// Decides one request of `key` against `quota` in the one place that counts exactly, if the
    /// platform has such a place; or why it cannot, for the log.
    fn admit(
        &self,
        key: &str,
        quota: Quota,
    ) -> impl Future<Output = Result<Option<Decision>, String>>;

    /// The text that was last [kept](Self::keep) under `name` by any isolate near this one, if it
    /// is still there and comes in time; or why it cannot be read, for the log. Others may be able
    /// to write there.
    fn kept(
        &self,
        name: &str,
        timeout_millis: u32,
    ) -> impl Future<Output = Result<Option<String>, String>>;

    /// Makes a text and keeps it under `name` for other isolates, a day at the most, after the
    /// answer is on its way. Where there is no place for it, it is not even made.
    fn keep(&self, name: String, text: impl FnOnce() -> Option<String> + 'static);

    /// Waits.
    fn pause(&self, millis: u32) -> impl Future<Output = ()>;

    /// Does something after the answer is on its way.
    fn later(&self, work: impl Future<Output = ()> + 'static);

    /// Tells the operator what was counted.
    fn report(&self, report: &Report);

    /// Writes a line to the platform's log.
    fn log(&self, line: &str);
}

/// Headers, in the order that they are set.
pub type Headers = Vec<(&'static str, Cow<'static, str>)>;

/// What to do with a request.
#[derive(Debug)]
pub enum Outcome {
    /// Answer it here.
    Answer(Answer),
    /// Hand the host's own request on, body unread.
    Forward(Forward),
}

/// An answer made at the edge.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: String,
}

/// A request that goes on.
#[derive(Debug)]
pub struct Forward {
    /// Where to.
    pub url: String,
    /// Headers of the request that do not go on, in lower case.
    pub dropped: Vec<String>,
    /// Headers to set on the request.
    pub headers: Headers,
    /// How long whoever answers may take until the answer begins, in seconds.
    pub timeout_secs: u32,
    /// What is settled once the answer begins, whatever becomes of the client.
    pub settlement: Option<Settlement>,
    /// Headers to set on the answer.
    pub answer_headers: Headers,
    /// The request's id.
    pub request_id: String,
}

/// The header by which an app lowers the price of a call. It does not reach the client.
pub const COST: &str = "tollgate-cost";

/// Why there is no answer from behind the edge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotReached {
    /// Nobody answers there.
    Refused,
    /// It took longer than its route allows.
    TimedOut,
}

impl Answer {
    /// A problem as an answer. `problem` names its request already.
    ///
    /// # Panics
    /// Never: a problem is strings, numbers and lists, which JSON can write.
    #[must_use]
    pub fn problem(problem: &Problem, mut headers: Headers) -> Self {
        headers.push(("content-type", problem::CONTENT_TYPE.into()));
        headers.push(("cache-control", "no-store".into()));
        let body = serde_json::to_string(problem).expect("a problem is plain JSON");
        Self {
            status: problem.status,
            headers,
            body,
        }
    }

    /// What a client gets from an edge that cannot start; its log says why.
    #[must_use]
    pub fn misconfigured(request_id: &str) -> Self {
        let problem = Problem::new(
            Code::Internal,
            "the edge is misconfigured; its log says what to mend",
        );
        Self::problem(
            &problem.instance(request_id),
            vec![(REQUEST_ID, request_id.to_owned().into())],
        )
    }

    /// What a client gets when nobody behind the edge answered.
    #[must_use]
    pub fn not_reached(why: NotReached, request_id: &str) -> Self {
        let problem = match why {
            NotReached::Refused => Problem::new(
                Code::UpstreamUnreachable,
                "what is behind the edge does not answer; try again soon",
            ),
            NotReached::TimedOut => Problem::new(
                Code::UpstreamTimeout,
                "what is behind the edge gave no answer in time",
            ),
        };
        Self::problem(
            &problem.instance(request_id),
            vec![(REQUEST_ID, request_id.to_owned().into())],
        )
    }
}
