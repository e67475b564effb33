//! What the tests share: somebody who is signed in, a worker with an origin to look into, and one with
//! a real origin.

use std::{env, fs::File, future::Future, path::PathBuf, process::Stdio, time::Duration};

use anyhow::Result;
use serde_json::json;
use tests::{
    Answer, Client, Issuer, Script, Stub, Worker, free_ports,
    origin::{self, Origin},
    secrets::Secrets,
};
use tokio::{
    process::Child,
    time::{sleep, timeout},
};

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
        Self::sign_up_at(Client::of_stack()).await
    }

    /// As [`Self::sign_up`], at another edge.
    pub async fn sign_up_at(edge: Client) -> Result<Self> {
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

/// A second origin on the stack's database, with its secrets, and a worker in front of it, for what the
/// stack's own are set up otherwise. The worker believes `CF-Connecting-IP`, which Cloudflare sets.
pub struct Twin {
    pub edge: Client,
    _worker: Worker,
    _origin: Child,
}

impl Twin {
    /// Starts an origin that is told `settings` and scales its quotas; the edge's are out of the way.
    pub async fn start(limit_scale: u32, settings: &[(&str, &str)]) -> Result<Self> {
        let data_dir = PathBuf::from(env::var("DATA_DIR")?);
        let secrets = Secrets::load_or_make(&data_dir)?;
        let public_url = env::var("EDGE_URL")?;
        let [_, port] = free_ports()?;
        let mut origin = Origin {
            program: &PathBuf::from(env::var("ORIGIN_PROGRAM")?),
            port,
            public_url: &public_url,
            database_url: &env::var("DATABASE_URL")?,
            limit_scale,
            secrets: &secrets,
        }
        .serve()?;
        let log = File::create(data_dir.join(format!("logs/origin-{port}.log")))?;
        let origin = origin
            .env_remove("REDIS_URL")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let private = Client::new(&origin::ready_url(port));
        until("the origin can serve", async || {
            let ready = private.get("").send().await;
            ready.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        let script = Script::edge(&public_url, &format!("http://127.0.0.1:{port}"))?
            .var("EDGE_PROOF_KEY", secrets.get("EDGE_PROOF_KEY")?)
            .var("LIMIT_SCALE", "1000");
        let worker = Worker::start(&script).await?;
        Ok(Self {
            edge: Client::new(&worker.url),
            _worker: worker,
            _origin: origin,
        })
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
