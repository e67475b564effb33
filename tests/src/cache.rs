//! What is behind workerd's Cache API: a server that outlives the workers that write to it.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Bytes,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, spawn},
    time::timeout,
};

/// How long a worker may take to write behind its answer.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// A cache, which ends when this is dropped. Nothing in it grows old.
#[derive(Debug)]
pub struct Cache {
    /// Where workerd asks it.
    pub address: SocketAddr,
    kept: watch::Sender<HashMap<String, Bytes>>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Cache {
    /// Starts an empty one.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let kept = watch::Sender::new(HashMap::new());
        let held = kept.clone();
        let router = Router::new().fallback(async move |method: Method, uri: Uri, body: Bytes| {
            answer(&held, &method, &uri, &body)
        });
        let server = spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            address,
            kept,
            server,
        })
    }

    /// Waits until so many texts are in it.
    pub async fn holds(&self, count: usize) -> Result<()> {
        let mut kept = self.kept.subscribe();
        let filled = kept.wait_for(|kept| kept.len() >= count);
        timeout(WRITTEN_WITHIN, filled)
            .await
            .with_context(|| format!("less than {count} texts were kept"))??;
        Ok(())
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// As workerd asks: a `PUT` has a whole answer as its body, head included, and a `GET` is for
/// what was put, or for a miss.
fn answer(
    held: &watch::Sender<HashMap<String, Bytes>>,
    method: &Method,
    uri: &Uri,
    body: &Bytes,
) -> Response {
    let name = uri.to_string();
    if method == Method::PUT {
        let blank = body.windows(4).position(|end| end == b"\r\n\r\n");
        let text = body.slice(blank.map_or(0, |at| at + 4)..);
        held.send_modify(|kept| drop(kept.insert(name, text)));
        return StatusCode::NO_CONTENT.into_response();
    }
    match held.borrow().get(&name).cloned() {
        Some(text) => ([("cf-cache-status", "HIT")], text).into_response(),
        None => (StatusCode::GATEWAY_TIMEOUT, [("cf-cache-status", "MISS")]).into_response(),
    }
}
