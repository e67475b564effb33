//! People in front of our pages.

use std::{env, process::Stdio};

use anyhow::{Context, Result, ensure};
use reqwest::Url;
use serde_json::{Value, json};
use tests::{
    Answer, Client, Script, Worker, free_ports,
    operator::{operate, secrets},
    root,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::rig::{PASSWORD, Person, new_address, run};

#[tokio::test]
async fn people_register_and_sign_in_in_a_browser() -> Result<()> {
    let person = json!({"email": new_address(), "password": PASSWORD});
    run("signing_in.mjs", &person).await?;
    Ok(())
}

#[tokio::test]
async fn people_look_after_their_account_in_a_browser_and_admins_after_people() -> Result<()> {
    let (ada, admin) = (Person::sign_up().await?, Person::sign_up().await?);
    operate(&["users", "role", &admin.email, "admin"]).await?;
    let charge = json!({"amount": 2.5, "appId": "app", "description": "a picture"});
    let edge = Client::of_stack();
    let spend = edge.post("/api/v1/credits/use").bearer_auth(&ada.access);
    let _ = Answer::to(spend.json(&charge)).await?.ok();
    let people = json!({"email": ada.email, "password": PASSWORD, "admin": admin.email});
    run("account.mjs", &people).await?;
    Ok(())
}

#[tokio::test]
async fn one_sign_in_and_one_sign_out_are_for_every_app_in_a_browser() -> Result<()> {
    let ada = Person::sign_up().await?;
    let ports = free_ports()?;
    for port in ports {
        let (id, page) = (format!("app-{port}"), format!("http://127.0.0.1:{port}"));
        operate(&["apps", "add", &id, "--origin", &page]).await?;
    }
    // An edge that starts now knows them; the stack's does a minute later.
    let [edge, origin] = [env::var("EDGE_URL")?, env::var("ORIGIN_URL")?];
    let proof = secrets()?.get("EDGE_PROOF_KEY")?.to_owned();
    let script = Script::edge(&edge, &origin)?.var("EDGE_PROOF_KEY", proof);
    let gate = Worker::start(&script).await?;
    let apps = json!({
        "gate": gate.url, "ports": ports, "email": ada.email, "password": PASSWORD,
    });
    run("apps.mjs", &apps).await?;
    Ok(())
}

#[tokio::test]
async fn an_app_is_refused_allowed_and_loses_access_in_a_browser() -> Result<()> {
    let ada = Person::sign_up().await?;
    let [port, _] = free_ports()?;
    let (name, back) = (
        format!("chess-{port}"),
        format!("http://127.0.0.1:{port}/back"),
    );
    let to = "http://127.0.0.1/back";
    operate(&["clients", "add", &name, "--redirect-uri", to]).await?;
    let mut url: Url = Client::of_stack().url("/oauth2/authorize").parse()?;
    url.query_pairs_mut().extend_pairs([
        ("client_id", name.as_str()),
        ("response_type", "code"),
        ("redirect_uri", &back),
        ("scope", "openid email"),
        ("state", "a state"),
        // RFC 7636, appendix B.
        (
            "code_challenge",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        ),
        ("code_challenge_method", "S256"),
    ]);
    run("allowing.mjs", &ada.visit(url.as_str(), &back, &name)).await?;
    Ok(())
}

#[tokio::test]
async fn people_come_by_another_provider_in_a_browser() -> Result<()> {
    let configured = env::var("STACK_OIDC_PROVIDERS")?;
    let mut provider = Command::new(root().join("node_modules/.bin/node"))
        .arg(root().join("tests/tests/e2e/outside.mjs"))
        .args([configured, Client::of_stack().url("")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let said = provider.stdout.take().context("it is piped")?;
    let mut lines = BufReader::new(said).lines();
    let mut line = lines.next_line().await?;
    while line.as_deref().is_some_and(|line| line != "listening") {
        line = lines.next_line().await?;
    }
    ensure!(line.is_some(), "no provider");
    let ada = Person::sign_up().await?;
    let name = new_address().replace("@example.org", "");
    let person: Value = json!({"email": ada.email, "password": PASSWORD, "name": name});
    run("provider.mjs", &person).await?;
    Ok(())
}
