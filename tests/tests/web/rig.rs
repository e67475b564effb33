//! What the tests share: somebody with an account, and scripts that drive a browser.

use std::{env, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Answer, Client, Issuer, root};
use tokio::process::Command;

pub const PASSWORD: &str = "correct horse battery";

/// Somebody who has an account, and has signed in as a program.
pub struct Person {
    pub id: String,
    pub email: String,
    pub access: String,
}

impl Person {
    pub async fn sign_up() -> Result<Self> {
        let edge = Client::of_stack();
        let email = new_address();
        let new = json!({"email": email, "password": PASSWORD, "name": "Ada"});
        let registered = Answer::to(edge.post("/api/v1/auth/register").json(&new)).await?;
        assert_eq!(registered.status, 201, "{registered:?}");
        let body = json!({"email": email, "password": PASSWORD});
        let signed_in = Answer::to(edge.post("/api/v1/auth/login").json(&body))
            .await?
            .ok();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Self {
            id: text(&signed_in.body["user"]["id"]),
            access: text(&signed_in.body["accessToken"]),
            email,
        })
    }

    /// What `visit.mjs` is told to go to `url` as them.
    pub fn visit(&self, url: &str, back: &str, name: &str) -> Value {
        json!({"url": url, "back": back, "email": self.email, "password": PASSWORD, "name": name})
    }
}

/// An address that nobody has yet.
pub fn new_address() -> String {
    format!("ada-{}@example.org", Issuer::new("", 0).claims().sub)
}

/// A script of this folder, under the Node of `node_modules`.
pub fn script(name: &str) -> Command {
    let mut command = Command::new(root().join("node_modules/.bin/node"));
    command
        .arg(root().join("tests/tests/web").join(name))
        .env("SCREENS", root().join("target/screens"))
        .kill_on_drop(true);
    command
}

/// Runs a script to its end, and gives what it says.
pub async fn run(name: &str, argument: &Value) -> Result<Value> {
    let output = script(name)
        .arg(argument.to_string())
        .stderr(Stdio::piped())
        .output()
        .await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {argument}:\n{errors}");
    serde_json::from_slice(&output.stdout).with_context(|| format!("{name} says no JSON"))
}

/// A file of the checkout's Python.
pub fn python() -> Result<PathBuf> {
    Ok(env::var_os("PYTHON")
        .context("`cargo xtask test` names it")?
        .into())
}
