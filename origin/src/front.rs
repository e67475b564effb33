//! What every request passes first: who is asking and by which id, the edge's proof, the log
//! span, the deadline, and the one place where a panic becomes an error, an error the problem that clients
//! read, and a page gets its headers. It is one layer, since each one more costs every request the memory for
//! all that is below it.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use metrics::counter;
use shared::{
    problem::{self, Problem},
    proof::{self, NoProof, ProofKey, Purpose},
};
use tokio::{runtime::Handle, time::timeout};
use tracing::{Instrument, field::Empty, info_span};
use uuid::Uuid;

use crate::{
    accounts::DeviceId,
    app::App,
    door,
    error::Error,
    pages::{self, Looking},
    rim, telemetry, traces,
};

/// No answer takes longer, and no wait in it either.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// Where edges fetch it.
const KEY_SET: &str = "/api/v1/auth/jwks";
const MAX_AGENT_CHARS: usize = 400;

/// Who is asking, as far as the connection and the edge say.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where from: the edge's word, or the other end of the connection.
    pub address: Option<IpAddr>,
    /// With which program, cut to a length that fits a list.
    pub agent: Option<String>,
    /// On which device, if that has signed in before.
    pub device: Option<DeviceId>,
}

impl Client {
    /// The address as SQL reads it.
    #[must_use]
    pub fn address_text(&self) -> Option<String> {
        self.address.map(|address| address.to_string())
    }
}

impl FromRequestParts<App> for Client {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Error> {
        Ok(parts
            .extensions
            .get::<Self>()
            .cloned()
            .expect("the front has put it there"))
    }
}

/// The middleware around every route.
pub async fn front(State(app): State<App>, request: Request, next: Next) -> Response {
    let agent = header(request.headers(), header::USER_AGENT.as_str())
        .map(|agent| agent.chars().take(MAX_AGENT_CHARS).collect());
    let (mut request, vouched) = vouch(&app, request).await;
    let (address, request_id) = match &vouched {
        Ok(Some((address, request_id))) => (*address, request_id.clone()),
        Ok(None) | Err(_) => (peer(&request), rim::new_id::<Uuid>().to_string()),
    };
    let span = info_span!(
        "request",
        %request_id,
        method = %request.method(),
        path = request.uri().path(),
        otel.name = Empty,
        otel.kind = Empty,
    );
    traces::follow(&span, &request);
    let device = DeviceId::shown(&app, request.headers());
    let client = Client {
        address,
        agent,
        device,
    };
    request.extensions_mut().insert(client);

    let looking = Looking::of(&app, &request);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (method, begun) = (request.method().clone(), Instant::now());
    let answer = async {
        vouched?;
        // Within the span, and also when nobody waits any more: what panicked is told with its request's id.
        let answering = AssertUnwindSafe(next.run(request)).catch_unwind();
        let answering = answering.map(|answer| answer.unwrap_or_else(panicked));
        let answering = timeout(DEADLINE, answering).in_current_span();
        let response = ToItsEnd::of(app.requests.track_future(answering))
            .await
            .map_err(|_| Error::TooSlow)?;
        tracing::debug!(status = response.status().as_u16(), "answered");
        Ok::<_, Error>(response)
    };
    let mut response = answer
        .instrument(span)
        .await
        .unwrap_or_else(IntoResponse::into_response);
    let problem = response.extensions_mut().remove::<Problem>();
    let code = problem.as_ref().map(|problem| problem.code);
    let status = response.status();
    telemetry::answered(route.as_ref(), &method, status, code, begun.elapsed());
    match (problem, looking) {
        (Some(problem), Some(looking)) => {
            response = looking.tell(response, &problem, &request_id);
        }
        (Some(problem), None) => {
            let problem = problem.instance(&request_id);
            let body = serde_json::to_vec(&problem).expect("a problem is plain JSON");
            *response.body_mut() = Body::from(body);
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static(problem::CONTENT_TYPE),
            );
        }
        (None, _) => {}
    }
    pages::put_on(&app, &mut response);
    if let Ok(request_id) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(proof::REQUEST_ID, request_id);
    }
    response
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast::<String>()
        .map(|message| *message)
        .or_else(|panic| {
            panic
                .downcast::<&str>()
                .map(|message| (*message).to_owned())
        });
    Error::Panicked(message.unwrap_or_default()).into_response()
}

/// Work that is not left half-way when nobody waits for it any more, as when the client of a request goes
/// away: what is left of it goes on in a task. Until then it is done where it is waited for, since a task
/// costs a turn there and one back.
struct ToItsEnd<W: Future<Output: Send> + Send + 'static>(Option<Pin<Box<W>>>);

impl<W: Future<Output: Send> + Send + 'static> ToItsEnd<W> {
    fn of(work: W) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<W: Future<Output: Send> + Send + 'static> Future for ToItsEnd<W> {
    type Output = W::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<W::Output> {
        // Not there meanwhile: what panics is not polled again.
        let mut work = self.0.take().expect("nobody waits for what is done");
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.0 = Some(work);
        }
        polled
    }
}

impl<W: Future<Output: Send> + Send + 'static> Drop for ToItsEnd<W> {
    fn drop(&mut self) {
        if let (Some(rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(rest);
        }
    }
}

/// The client's address and the request's id, if the edge vouches for them.
type Word = Option<(Option<IpAddr>, String)>;

/// The request with the edge's word for it. What is internal is opened by nothing else; where the operator
/// says so, nothing is but the key set, which anybody may have and an edge needs to be told of in any case.
async fn vouch(app: &App, request: Request) -> (Request, Result<Word, Error>) {
    let key = &app.config.edge_proof_key;
    if !proof::is_internal(request.uri().path()) {
        let word = vouched(&request, Purpose::Forward, key, rim::now());
        let insists = app.config.require_edge_proof;
        let is_key_set = request.uri().path() == KEY_SET;
        let word = word.and_then(|word| match word {
            None if insists && !is_key_set => Err(NoProof::Missing.into()),
            word => Ok(word),
        });
        return (request, word);
    }
    let (parts, body) = request.into_parts();
    let read = timeout(DEADLINE, door::read(body, app.config.max_body_bytes));
    match read.await.map_err(|_| Error::TooSlow).flatten() {
        Ok(body) => {
            let request = Request::from_parts(parts, Body::from(body.clone()));
            let word = vouched(&request, Purpose::Internal(&body), key, rim::now());
            let word = word.and_then(|word| Ok(Some(word.ok_or(NoProof::Missing)?)));
            (request, word)
        }
        Err(error) => (Request::from_parts(parts, Body::empty()), Err(error)),
    }
}

/// What the edge's proof says. Without a proof the edge's headers mean nothing; with one that
/// does not hold, neither does the request.
fn vouched(
    request: &Request,
    purpose: Purpose<'_>,
    key: &ProofKey,
    now: DateTime<Utc>,
) -> Result<Word, Error> {
    let headers = request.headers();
    let Some(proof) = header(headers, proof::PROOF) else {
        return Ok(None);
    };
    let text = |name| header(headers, name).unwrap_or_default();
    let parts = proof::Parts {
        purpose,
        method: request.method().as_str(),
        host: header(headers, header::HOST.as_str())
            .or_else(|| request.uri().authority().map(http::uri::Authority::as_str))
            .unwrap_or_default(),
        target: request
            .uri()
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str),
        address: text(proof::ADDRESS),
        subject: text(proof::SUBJECT),
        role: text(proof::ROLE),
        email: text(proof::EMAIL),
        request_id: text(proof::REQUEST_ID),
    };
    key.check(&parts, proof, now).inspect_err(|why| {
        // The edge's own, and so one of the two clocks is wrong: anybody can send what is no proof at all.
        if *why == NoProof::Stale && key.proven_at(&parts, proof).is_ok() {
            counter!("tollgate_edge_proofs_stale_total").increment(1);
        }
    })?;
    Ok(Some((
        parts.address.parse().ok(),
        parts.request_id.to_owned(),
    )))
}

fn peer(request: &Request) -> Option<IpAddr> {
    request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|peer| peer.0.ip())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
