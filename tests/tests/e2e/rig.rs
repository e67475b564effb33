//! What the tests share: somebody who is signed in, and a worker with an origin to look into.

use std::{
    env, fs,
    future::Future,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::{Answer, Client, Issuer, Script, Stub, Worker};
use tokio::time::{sleep, timeout};

pub const PASSWORD: &str = "correct horse battery";
pub const LOGIN: &str = "/api/v1/auth/login";
pub const REFRESH: &str = "/api/v1/auth/refresh";
pub const VALIDATE: &str = "/api/v1/auth/validate";

/// How soon the edge refuses what was ended at the origin: its copy's limit, and how long a request
/// waits for a newer one.
pub const BOUND: Duration = Duration::from_millis(5_500);

/// A person who has signed in.
#[derive(Clone)]
pub struct Person {
    pub edge: Client,
    pub email: String,
    pub access: String,
    pub refresh: String,
}

impl Person {
    /// Registers somebody new and signs them in.
    pub async fn sign_up() -> Result<Self> {
        Self::sign_up_at(Client::of_stack()).await
    }

    /// As [`Self::sign_up`], at another edge.
    pub async fn sign_up_at(edge: Client) -> Result<Self> {
        let email = format!("ada-{}@example.org", Issuer::new("", 0).claims().sub);
        let body = json!({"email": email, "password": PASSWORD});
        let registered = Answer::to(edge.post("/api/v1/auth/register").json(&body)).await?;
        assert_eq!(registered.status, 201, "{registered:?}");
        let signed_in = Answer::to(edge.post(LOGIN).json(&body)).await?.ok();
        Ok(Self::with_tokens(edge, email, &signed_in))
    }

    /// The same person, signed in once more.
    pub async fn on(&self, device: &str) -> Result<Self> {
        let body = json!({"email": self.email, "password": PASSWORD, "deviceName": device});
        let signed_in = Answer::to(self.edge.post(LOGIN).json(&body)).await?.ok();
        let (edge, email) = (self.edge.clone(), self.email.clone());
        Ok(Self::with_tokens(edge, email, &signed_in))
    }

    /// What refreshing is answered with.
    pub async fn refresh(&self) -> Result<Answer> {
        let body = json!({"refreshToken": self.refresh});
        Answer::to(self.edge.post(REFRESH).json(&body)).await
    }

    /// The same session, refreshed.
    pub async fn refreshed(&self) -> Result<Self> {
        let answer = self.refresh().await?.ok();
        let (edge, email) = (self.edge.clone(), self.email.clone());
        Ok(Self::with_tokens(edge, email, &answer))
    }

    fn with_tokens(edge: Client, email: String, answer: &Answer) -> Self {
        let token = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
        Self {
            access: token("accessToken"),
            refresh: token("refreshToken"),
            edge,
            email,
        }
    }

    /// Asks the edge about this person's token until it refuses it; how, and how long that took.
    pub async fn refusal(&self) -> Result<(Answer, Duration)> {
        let ended = Instant::now();
        loop {
            let answer = self.get(VALIDATE).await?;
            if answer.status != 200 {
                return Ok((answer, ended.elapsed()));
            }
            ensure!(ended.elapsed() < 2 * BOUND, "it is never refused");
            sleep(Duration::from_millis(20)).await;
        }
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

/// Every letter that has left the stack.
pub fn letters() -> Vec<String> {
    let folder = env::var("DATA_DIR").map(|folder| PathBuf::from(folder).join("mail"));
    let letters = folder.ok().and_then(|folder| fs::read_dir(folder).ok());
    let letters = letters.into_iter().flatten().flatten();
    letters
        .filter_map(|letter| fs::read_to_string(letter.path()).ok())
        .collect()
}

/// Waits for a letter to this address, and gives what comes behind `mark` in it up to the end of the
/// word.
pub async fn mailed(email: &str, mark: &str) -> Result<String> {
    let find = || {
        letters().into_iter().find_map(|text| {
            let rest = text.contains(email).then(|| text.split_once(mark))??.1;
            let end = rest.find(|letter: char| letter.is_whitespace() || letter == '"');
            Some(rest[..end.unwrap_or(rest.len())].to_owned())
        })
    };
    until("the letter is there", async || find().is_some()).await;
    find().context("a letter")
}

/// Waits until `condition` holds.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    within(Duration::from_secs(10), what, condition).await;
}

/// As [`until`], for what takes longer.
pub async fn within<F: Future<Output = bool>>(
    limit: Duration,
    what: &str,
    condition: impl Fn() -> F,
) {
    let holds = async {
        while !condition().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = timeout(limit, holds).await;
    assert!(waited.is_ok(), "never happened: {what}");
}
