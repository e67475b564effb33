//! What operators do at the command line is told to programs as well.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Issuer, operator::operate};

async fn told(task: &[&str]) -> Result<Value> {
    let said = operate(&[task, &["--json"]].concat()).await?;
    serde_json::from_str(&said).with_context(|| format!("{task:?}: {said}"))
}

/// The one of a list that has this under that name.
fn find<'a>(list: &'a Value, name: &str, value: &str) -> Result<&'a Value> {
    let list = list.as_array().context("a list")?;
    let found = list.iter().find(|one| one[name] == value);
    found.with_context(|| format!("{value} in {list:?}"))
}

#[tokio::test]
async fn what_came_of_a_task_is_json_for_a_program() -> Result<()> {
    let unique = Issuer::new("", 0).claims().sub.to_string();
    let (app, client) = (format!("app-{unique}"), format!("client-{unique}"));
    let shown = told(&["apps", "add", &app, "--allow", "read"]).await?;
    let key = shown["serviceKey"].as_str().context("a key")?;
    assert!(shown["appId"] == app.as_str() && key.starts_with("tgs_"));
    let apps = told(&["apps", "list"]).await?;
    let listed = find(&apps, "appId", &app)?;
    assert_eq!(listed["permissions"], json!(["read"]));
    assert!(!apps.to_string().contains(key), "it is shown once");

    let to = "https://client.example.org/back";
    let shown = told(&["clients", "add", &client, "--redirect-uri", to]).await?;
    let secret = shown["clientSecret"].as_str().context("a secret")?;
    let clients = told(&["clients", "list"]).await?;
    assert_eq!(find(&clients, "clientId", &client)?["redirectUris"][0], to);
    assert!(!clients.to_string().contains(secret), "it is shown once");
    told(&["clients", "disable", &client]).await?;
    let clients = told(&["clients", "list"]).await?;
    assert!(find(&clients, "clientId", &client)?["disabledAt"].is_string());

    let keys = told(&["keys", "list"]).await?;
    assert!(find(&keys, "state", "active")?["activateAt"].is_string());
    assert!(told(&["packages", "list"]).await?.is_array());
    assert!(told(&["users", "list"]).await?["found"].is_array());
    assert_eq!(told(&["migrate"]).await?, json!({"migrated": true}));
    let verified = told(&["ledger", "verify"]).await?;
    assert_eq!(verified["differences"], json!([]));
    assert!(verified["figures"].is_object());
    Ok(())
}
