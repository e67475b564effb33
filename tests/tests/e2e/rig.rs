//! What the tests share: somebody who is signed in, and a worker with its origin.

use std::{future::Future, time::Duration};

use anyhow::Result;
use serde_json::json;
use tests::{Answer, Client, Issuer, Script, Stub, Worker};
use tokio::time::{sleep, timeout};

pub const PASSWORD: &str = "correct horse battery";

/// A person who has signed in at the stack.
pub struct Person {
    pub edge: Client,
    pub email: String,
    pub access: String,
    pub refresh: String,
}

impl Person {
    /// Registers somebody new and signs them in.
    pub async fn sign_up() -> Result<Self> {
        let edge = Client::of_stack();
        let email = format!("ada-{}@example.org", Issuer::new("", 0).claims().sub);
        let body = json!({"email": email, "password": PASSWORD});
        let registered = Answer::to(edge.post("/api/v1/auth/register").json(&body)).await?;
        assert_eq!(registered.status, 201, "{registered:?}");
        let signed_in = Answer::to(edge.post("/api/v1/auth/login").json(&body))
            .await?
            .ok();
        let token = |name: &str| signed_in.body[name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            access: token("accessToken"),
            refresh: token("refreshToken"),
            edge,
            email,
        })
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        Answer::to(self.edge.get(path).bearer_auth(&self.access)).await
    }

    /// A POST of a body that need not be JSON.
    pub async fn post(&self, path: &str, body: impl ToString) -> Result<Answer> {
        let request = self.edge.post(path).bearer_auth(&self.access);
        let request = request.header("content-type", "application/json");
        Answer::to(request.body(body.to_string())).await
    }
}

/// A worker of the test's own, with the origin behind it and the issuer whose keys that has.
pub struct Rig {
    pub issuer: Issuer,
    pub origin: Stub,
    pub worker: Worker,
    pub edge: Client,
}

impl Rig {
    pub async fn start() -> Result<Self> {
        Self::start_with(|script| script).await
    }

    /// As [`Self::start`], with another script.
    pub async fn start_with(change: impl FnOnce(Script) -> Script) -> Result<Self> {
        let issuer = Issuer::new("http://127.0.0.1:8787", 1);
        let origin = Stub::start(issuer.jwks())?;
        let script = change(Script::edge(issuer.url(), &origin.url)?);
        let worker = Worker::start(&script).await?;
        Ok(Self {
            edge: Client::new(&worker.url),
            issuer,
            origin,
            worker,
        })
    }

    pub async fn get(&self, path: &str, token: &str) -> Result<Answer> {
        Answer::to(self.edge.get(path).bearer_auth(token)).await
    }
}

/// Waits until `condition` holds.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let holds = async {
        while !condition().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = timeout(Duration::from_secs(10), holds).await;
    assert!(waited.is_ok(), "never happened: {what}");
}
