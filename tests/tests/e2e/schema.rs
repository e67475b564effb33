//! What docs/openapi.json says of the calls is how they are, by a program that makes requests of it.

use std::env;

use anyhow::{Context, Result};
use tests::{Issuer, operator::operate, root};
use tokio::process::Command;

use crate::rig::Person;

#[tokio::test]
async fn every_answer_is_one_that_the_document_tells_of_by_python() -> Result<()> {
    let ada = Person::sign_up().await?;
    let app = format!("schema-{}", Issuer::new("", 0).claims().sub);
    let every = "charge,read,refund,grant,matrix";
    let shown = operate(&["apps", "add", &app, "--allow", every]).await?;
    let key = shown
        .split_once("X-Service-Key: ")
        .and_then(|(_, rest)| rest.lines().next())
        .context("a service key")?;
    let checked = Command::new(env::var("PYTHON")?)
        .arg(root().join("tests/tests/e2e/schema.py"))
        .arg(root())
        .args([&ada.edge.url(""), &ada.access, &app, key])
        // It leaves a cache where it works.
        .current_dir(env::var("DATA_DIR")?)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}{checked:?}");
    Ok(())
}
