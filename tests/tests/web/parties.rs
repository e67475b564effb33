//! Libraries that relying parties use: each sends a browser to sign in, trades its code, and reads who
//! that is.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tests::{Answer, Client, free_ports, operator::operate};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::{Instant, sleep},
};

use crate::rig::{Person, python, run, script};

/// Registers somebody and a client, lets them sign in by this program, and gives what that has learned.
async fn sign_in_by(name: &str, mut program: Command, kind: &[&str]) -> Result<Value> {
    let edge = Client::of_stack();
    let [port, _] = free_ports()?;
    let back = format!("http://127.0.0.1:{port}/callback");
    let mut add = vec![
        "clients",
        "add",
        name,
        "--redirect-uri",
        "http://127.0.0.1/callback",
    ];
    add.extend(kind);
    let said = operate(&add).await?;
    let secret = said.split_whitespace().last().context("a secret")?;

    let ada = Person::sign_up().await?;
    if kind.contains(&"RS256") {
        rsa_key_signs().await?;
    }
    let mut program = program
        .args([&edge.url(""), name, secret, &back])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut hears = program.stdin.take().context("it is piped")?;
    let mut says = BufReader::new(program.stdout.take().context("it is piped")?).lines();
    let first = says.next_line().await?.context("it ended")?;
    let first: Value = serde_json::from_str(&first)?;
    let url = first["url"].as_str().context("a URL")?;
    let visited = run("visit.mjs", &ada.visit(url, &back, name)).await?;
    let url = visited["url"].as_str().context("a URL")?;
    hears.write_all(format!("{url}\n").as_bytes()).await?;
    let learned = says.next_line().await?.context("it ended")?;
    let learned: Value = serde_json::from_str(&learned)?;
    assert_eq!(learned["email"], ada.email, "{learned}");
    assert_eq!(learned["name"], "Ada", "{learned}");

    // It is the person's at userinfo alone.
    let token = learned["token"].as_str().context("a token")?;
    for path in ["/api/v1/auth/session", "/api/v1/credits/balance"] {
        let refused = Answer::to(edge.get(path).bearer_auth(token)).await?;
        assert_eq!(refused.status, 401, "{path}: {refused:?}");
    }
    Ok(learned)
}

/// Waits until the key signs that the first client has made which wants one.
async fn rsa_key_signs() -> Result<()> {
    let begun = Instant::now();
    loop {
        let listed = operate(&["keys", "list", "--json"]).await?;
        let keys: Vec<Value> = serde_json::from_str(&listed)?;
        let mut active = keys.iter().filter(|key| key["state"] == "active");
        let key = active.find(|key| key["kind"] == "RS256");
        let since = key.and_then(|key| key["activateAt"].as_str());
        let since = since.map(str::parse::<DateTime<Utc>>).transpose()?;
        if since.is_some_and(|since| tests::now() >= since) {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < Duration::from_mins(2),
            "none signs: {listed}"
        );
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn somebody_signs_in_by_openid_client_in_a_browser() -> Result<()> {
    let learned = sign_in_by("openid-client", script("openid_client.mjs"), &[]).await?;
    assert_eq!(learned["active"], json!([true, false]), "{learned}");
    assert_eq!(learned["again"], "invalid_grant", "{learned}");
    Ok(())
}

#[tokio::test]
async fn somebody_signs_in_by_oauth4webapi_in_a_browser() -> Result<()> {
    let learned = sign_in_by("oauth4webapi", script("oauth4webapi.mjs"), &["--public"]).await?;
    assert_eq!(learned["replayed"], 400, "{learned}");
    assert_eq!(learned["again"], "invalid_grant", "{learned}");
    Ok(())
}

#[tokio::test]
async fn somebody_signs_in_by_authlib_in_a_browser_by_python() -> Result<()> {
    for (name, alg, discovery) in [
        ("authlib", "EdDSA", "/.well-known/openid-configuration"),
        ("authlib-rsa", "RS256", "/oauth2/rs256/openid-configuration"),
    ] {
        let mut party = Command::new(python()?);
        party.env("DISCOVERY", discovery);
        party.arg(tests::root().join("tests/tests/web/authlib_party.py"));
        let learned = sign_in_by(name, party, &["--id-token-alg", alg]).await?;
        assert_eq!(learned["alg"], alg, "{learned}");
    }
    Ok(())
}
