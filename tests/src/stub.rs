//! An origin that publishes keys, answers everything else, and remembers what it was asked.

use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use axum::{
    Json, Router,
    body::Bytes,
    http::{
        HeaderMap, HeaderName, Method, StatusCode, Uri,
        header::{ETAG, LOCATION},
    },
    response::{IntoResponse, Response},
};
use serde_json::json;
use shared::{jwks::JwkSet, proof::REQUEST_ID};
use tokio::{
    net::TcpListener,
    runtime::{self, Runtime},
};

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

/// The origin. When it is dropped it stops, connections that are open included: it has a runtime
/// of its own that goes with it.
pub struct Stub {
    /// Where it answers.
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    jwks: Arc<Mutex<JwkSet>>,
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
        let (requests, published) = (seen.clone(), jwks.clone());
        let record = async move |method: Method, uri: Uri, headers, body| {
            let request = Seen {
                method: method.to_string(),
                target: uri.to_string(),
                headers,
                body,
            };
            let answer = answer(&request, &held(&published));
            held(&requests).push(request);
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
            runtime: Some(runtime),
        })
    }

    /// What it was asked so far, key sets apart.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        let seen = held(&self.seen);
        seen.iter()
            .filter(|request| !is_jwks(request))
            .cloned()
            .collect()
    }

    /// How often it was asked for its keys.
    #[must_use]
    pub fn key_fetches(&self) -> usize {
        held(&self.seen)
            .iter()
            .filter(|request| is_jwks(request))
            .count()
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

/// As the origin does: the key set has a tag, and every answer names its request.
fn answer(request: &Seen, jwks: &JwkSet) -> Response {
    if is_jwks(request) {
        return ([(ETAG, "\"1\"")], Json(jwks)).into_response();
    }
    if request.target == "/moved" {
        return (StatusCode::FOUND, [(LOCATION, "/open")]).into_response();
    }
    let name = request.headers.get(REQUEST_ID).cloned();
    let mut answer = Json(json!({ "asked": request.target })).into_response();
    answer
        .headers_mut()
        .extend(name.map(|name| (HeaderName::from_static(REQUEST_ID), name)));
    answer
}

fn held<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("nobody panics while holding it")
}
