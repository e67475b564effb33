//! People in front of our pages.

use anyhow::Result;
use serde_json::json;

use crate::rig::{PASSWORD, new_address, run};

#[tokio::test]
async fn people_register_and_sign_in_in_a_browser() -> Result<()> {
    let person = json!({"email": new_address(), "password": PASSWORD});
    run("signing_in.mjs", &person).await?;
    Ok(())
}
