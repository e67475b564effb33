//! Somebody who is signed in goes through a relying party: a code, tokens for it, and who that is.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::load::{Connection, get};
use crate::tools;

const CLIENT: &str = "bench";
const BACK: &str = "https%3A%2F%2Fbench.example%2Fback";
const VERIFIER: &str = "a-verifier-of-forty-three-letters-or-of-more";
/// On two processors.
pub const LEAST_A_SECOND: f64 = 150.0;

/// Registers the relying party: a public one that nobody is asked about.
pub async fn register(program: &Path, database_url: &str) -> Result<()> {
    let mut command = Command::new(program);
    command
        .args(["clients", "add", CLIENT, "--public", "--trusted"])
        .args(["--redirect-uri", "https://bench.example/back"])
        .env("DATABASE_URL", database_url);
    tools::output(&mut command).await.map(drop)
}

/// The session's cookie that a sign-in was answered with.
pub fn cookie(head: &str) -> Option<&str> {
    let cookies = head
        .lines()
        .filter_map(|line| line.strip_prefix("set-cookie: "));
    cookies
        .filter_map(|cookie| cookie.split(';').next())
        .find(|pair| pair.starts_with("tollgate="))
}

/// Goes through it once.
pub fn go_through(connection: &mut Connection, cookie: &str) -> Result<()> {
    let challenge = Base64UrlUnpadded::encode_string(&Sha256::digest(VERIFIER));
    let authorize = format!(
        "GET /oauth2/authorize?response_type=code&client_id={CLIENT}&redirect_uri={BACK}&scope=openid%20profile%20email&state=s&nonce=n&code_challenge_method=S256&code_challenge={challenge} HTTP/1.1\r\nhost: bench\r\ncookie: {cookie}\r\n\r\n"
    );
    let answer = connection.ask(authorize.as_bytes())?;
    let code = answer
        .head
        .split_once("code=")
        .map(|(_, rest)| rest.split(['&', '\r']).next().unwrap_or_default());
    let code = code.with_context(|| answer.shown())?.to_owned();
    let form = format!(
        "grant_type=authorization_code&client_id={CLIENT}&redirect_uri={BACK}&code={code}&code_verifier={VERIFIER}"
    );
    let token = format!(
        "POST /oauth2/token HTTP/1.1\r\nhost: bench\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    let answer = connection.ask(token.as_bytes())?.ok()?;
    let tokens: Value = serde_json::from_slice(answer.body)?;
    ensure!(tokens["id_token"].is_string(), "{tokens}");
    let access = tokens["access_token"].as_str().context("a token")?;
    let answer = connection.ask(get("/oauth2/userinfo", access).as_bytes())?;
    let user: Value = serde_json::from_slice(answer.ok()?.body)?;
    ensure!(user["email"].is_string(), "{user}");
    Ok(())
}
