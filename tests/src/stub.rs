//! An origin that publishes keys and puts prices aside, or an app behind the edge: answers everything
//! else, and remembers what it was asked.

use std::{
    future,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use anyhow::Result;
use axum::{
    Json, Router,
    body::Bytes,
    http::{
        HeaderMap, HeaderName, Method, StatusCode, Uri,
        header::{CONTENT_TYPE, ETAG, LOCATION},
    },
    response::{IntoResponse, Response},
};
use chrono::DateTime;
use serde_json::json;
use shared::{
    api::{PAGES, PRICED_HOLDS},
    jwks::JwkSet,
    problem::{CONTENT_TYPE as CONTENT_TYPE_OF_PROBLEMS, Code, Problem},
    proof::{PROOF, Parts, ProofKey, Purpose, REQUEST_ID},
    revocations::{Feed, PATH, Revocation},
};
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
};
use zeroize::Zeroizing;

use crate::PROOF_KEY;

/// A request that reached the origin.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path with its query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// What it tells of revocations.
#[derive(Clone, Debug)]
pub enum Told {
    /// These, to whoever proves to be the edge.
    All(Vec<Revocation>),
    /// It knows no such path.
    Nothing,
    /// It never answers.
    Never,
}

/// The origin. When it is dropped it stops, connections that are open included: it has a runtime
/// of its own that goes with it.
pub struct Stub {
    /// Where it answers.
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    jwks: Arc<Mutex<JwkSet>>,
    told: Arc<Mutex<Told>>,
    failing: Arc<AtomicU32>,
    runtime: Option<Runtime>,
}

impl Stub {
    /// Starts an origin that publishes `jwks`.
    pub fn start(jwks: JwkSet) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let jwks = Arc::new(Mutex::new(jwks));
        let told = Arc::new(Mutex::new(Told::All(Vec::new())));
        let failing = Arc::<AtomicU32>::default();
        let fails = failing.clone();
        let (requests, published, tells) = (seen.clone(), jwks.clone(), told.clone());
        let record = async move |method: Method, uri: Uri, headers, body| {
            let request = Seen {
                method: method.to_string(),
                target: uri.to_string(),
                headers,
                body,
            };
            let tells = held(&tells).clone();
            let is_settlement = request.target.len() > PRICED_HOLDS.len()
                && request.target.starts_with(PRICED_HOLDS);
            let fails = || fails.try_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            let answer = if is_settlement && fails().is_ok() {
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            } else {
                answer(&request, &held(&published), &tells)
            };
            let is_left_open = (is_feed(&request) && matches!(tells, Told::Never))
                || request.target.ends_with("/hangs");
            held(&requests).push(request);
            if is_left_open {
                future::pending::<()>().await;
            }
            answer
        };
        let router = Router::new().fallback(record);
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        runtime.spawn(async move { axum::serve(TcpListener::from_std(listener)?, router).await });
        Ok(Self {
            url,
            seen,
            jwks,
            told,
            failing,
            runtime: Some(runtime),
        })
    }

    /// The origin of the one app whose pages it tells of.
    pub const PAGE: &str = "https://registered.example";

    /// What it was asked so far, the edge's copies apart.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        let seen = held(&self.seen);
        seen.iter()
            .filter(|request| !is_of_the_edge(request))
            .cloned()
            .collect()
    }

    /// The same, which it forgets.
    #[must_use]
    pub fn take(&self) -> Vec<Seen> {
        let seen = self.seen();
        held(&self.seen).retain(is_of_the_edge);
        seen
    }

    /// How often it was asked for its keys.
    #[must_use]
    pub fn key_fetches(&self) -> usize {
        held(&self.seen)
            .iter()
            .filter(|request| is_jwks(request))
            .count()
    }

    /// How often it was asked for revocations.
    #[must_use]
    pub fn feed_fetches(&self) -> usize {
        held(&self.seen)
            .iter()
            .filter(|request| is_feed(request))
            .count()
    }

    /// Tells this of revocations from now on.
    pub fn tell(&self, told: Told) {
        *held(&self.told) = told;
    }

    /// Settles none of the next so many prices.
    pub fn fail(&self, settlements: u32) {
        self.failing.store(settlements, Relaxed);
    }

    /// Publishes other keys from now on.
    pub fn publish(&self, jwks: JwkSet) {
        *held(&self.jwks) = jwks;
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn is_jwks(request: &Seen) -> bool {
    request.target.ends_with("/jwks")
}

/// Whether the edge asks for a copy for itself.
fn is_of_the_edge(request: &Seen) -> bool {
    is_jwks(request) || is_feed(request) || request.target == PAGES
}

fn is_feed(request: &Seen) -> bool {
    request.target.starts_with(PATH)
}

/// What came behind the cursor that was asked for, under the edge's proof.
fn feed(request: &Seen, told: &Told) -> Response {
    let Told::All(all) = told else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let after = request.target.rsplit_once("?after=");
    let after: Option<usize> = after.and_then(|(_, after)| after.parse().ok());
    let (Some(after), true) = (after, is_proven(request)) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let feed = Feed {
        cursor: i64::try_from(all.len()).unwrap_or_default(),
        more: false,
        age_millis: 0,
        floor: 0,
        revocations: all.iter().skip(after).cloned().collect(),
    };
    Json(feed).into_response()
}

/// Whether the edge has proven the call to be its own; at which time, its own clock says.
fn is_proven(request: &Seen) -> bool {
    let header = |name: &str| {
        let value = request.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let proof = header(PROOF);
    let time = proof.split(',').nth(1).and_then(|secs| secs.parse().ok());
    let time = time.and_then(|secs| DateTime::from_timestamp(secs, 0));
    let parts = Parts {
        method: &request.method,
        host: header("host"),
        request_id: header(REQUEST_ID),
        ..Parts::of_the_edge(Purpose::Internal(&request.body), &request.target)
    };
    let key = ProofKey::new(Zeroizing::new(PROOF_KEY));
    time.is_some_and(|time| key.check(&parts, proof, time).is_ok())
}

/// As the origin does for the edge alone: a hold of what somebody with a token has, who has 100 credits,
/// and its end.
fn put_aside(request: &Seen) -> Response {
    if !is_proven(request) {
        return StatusCode::FORBIDDEN.into_response();
    }
    if request.target != PRICED_HOLDS {
        return Json(json!({"success": true})).into_response();
    }
    let order: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
    if order["amount"].as_f64() <= Some(100.0) {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        return Json(json!({"success": true, "hold": {"id": id, "status": "open"}}))
            .into_response();
    }
    let problem = Problem::new(Code::InsufficientCredits, "too few").with("available", 100);
    let status = StatusCode::PAYMENT_REQUIRED;
    let named = problem.instance("by the origin");
    (
        status,
        [(CONTENT_TYPE, CONTENT_TYPE_OF_PROBLEMS)],
        Json(named),
    )
        .into_response()
}

/// As the origin does: the key set has a tag, and every answer names its request. An app's may have the
/// status and say the cost that the query names.
fn answer(request: &Seen, jwks: &JwkSet, told: &Told) -> Response {
    if is_feed(request) {
        return feed(request, told);
    }
    if is_jwks(request) {
        return ([(ETAG, "\"1\"")], Json(jwks)).into_response();
    }
    if request.target == PAGES {
        if !is_proven(request) {
            return StatusCode::FORBIDDEN.into_response();
        }
        return Json(json!({"origins": [Stub::PAGE]})).into_response();
    }
    if request.target.starts_with(PRICED_HOLDS) {
        return put_aside(request);
    }
    if request.target == "/moved" {
        return (StatusCode::FOUND, [(LOCATION, "/open")]).into_response();
    }
    let name = request.headers.get(REQUEST_ID).cloned();
    let asked_for = |what: &str| {
        let query = request.target.split_once('?').map(|(_, query)| query);
        let mut pairs = query.into_iter().flat_map(|query| query.split('&'));
        pairs.find_map(|pair| pair.strip_prefix(what)?.strip_prefix('='))
    };
    let mut answer = Json(json!({ "asked": request.target })).into_response();
    answer
        .headers_mut()
        .extend(name.map(|name| (HeaderName::from_static(REQUEST_ID), name)));
    if let Some(status) = asked_for("answers").and_then(|status| status.parse().ok()) {
        *answer.status_mut() = status;
    }
    if let Some(cost) = asked_for("costs").and_then(|cost| cost.parse().ok()) {
        let name = HeaderName::from_static("tollgate-cost");
        answer.headers_mut().insert(name, cost);
    }
    answer
}

fn held<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("nobody panics while holding it")
}
