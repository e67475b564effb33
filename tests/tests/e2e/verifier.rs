//! Services that verify tokens by themselves, with `jose` from npm and the edge's key set.

use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::{Client, root};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// Two services, which end when this is dropped.
pub struct Verifier {
    tokens: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

/// What they say of a token.
pub struct Said {
    /// Which key it names.
    pub kid: String,
    /// Whose it is, or the library's code for why it is refused: by a key set that is kept.
    pub warm: String,
    /// The same, by one that was fetched for it.
    pub cold: String,
}

impl Verifier {
    /// Starts them; they believe tokens of `issuer` by the keys that `edge` publishes.
    pub fn start(edge: &Client, issuer: &str) -> Result<Self> {
        let mut process = Command::new(root().join("node_modules/.bin/node"))
            .arg(root().join("tests/tests/e2e/verify.mjs"))
            .args([&edge.url("/.well-known/jwks.json"), issuer])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let tokens = process.stdin.take().context("it is piped")?;
        let said = process.stdout.take().context("it is piped")?;
        Ok(Self {
            tokens,
            said: BufReader::new(said).lines(),
            _process: process,
        })
    }

    /// Asks them about a token.
    pub async fn verify(&mut self, token: &str) -> Result<Said> {
        self.tokens
            .write_all(format!("{token}\n").as_bytes())
            .await?;
        let line = self.said.next_line().await?;
        let said: Value = serde_json::from_str(&line.context("they ended")?)?;
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        Ok(Said {
            kid: text("kid"),
            warm: text("warm"),
            cold: text("cold"),
        })
    }
}
