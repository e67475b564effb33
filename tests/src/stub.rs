//! An origin that publishes keys, answers everything else, and remembers what it was asked.

use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use axum::{
    Json, Router,
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;
use shared::jwks::JwkSet;
use tokio::{net::TcpListener, task::JoinHandle};

/// A request that reached the origin.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path with its query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
}

/// The origin. It stops when it is dropped.
pub struct Stub {
    /// Where it answers.
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    jwks: Arc<Mutex<JwkSet>>,
    server: JoinHandle<()>,
}

impl Stub {
    /// Starts an origin that publishes `jwks`.
    pub async fn start(jwks: JwkSet) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let jwks = Arc::new(Mutex::new(jwks));
        let (requests, published) = (seen.clone(), jwks.clone());
        let router = Router::new().fallback(async move |request: Request| {
            let request = Seen {
                method: request.method().to_string(),
                target: request.uri().to_string(),
                headers: request.headers().clone(),
            };
            let answer = answer(&request, &held(&published));
            held(&requests).push(request);
            answer
        });
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            url,
            seen,
            jwks,
            server,
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
        self.server.abort();
    }
}

fn is_jwks(request: &Seen) -> bool {
    request.target.ends_with("/jwks")
}

fn answer(request: &Seen, jwks: &JwkSet) -> Response {
    if is_jwks(request) {
        return Json(jwks).into_response();
    }
    (StatusCode::OK, Json(json!({ "asked": request.target }))).into_response()
}

fn held<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("nobody panics while holding it")
}
