//! People of another service: whom the operator has imported signs in at the edge, as before.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use tests::{Answer, Client, Issuer, operator::operate};

use crate::rig::{LOGIN, VALIDATE};

const THEIR_PASSWORD: &str = "correct horse";
/// What libxcrypt made of it.
const THEIR_HASH: &str = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";

#[tokio::test]
async fn who_was_imported_signs_in_with_the_password_that_they_had() -> Result<()> {
    let email = format!("moved-{}@example.org", Issuer::new("", 0).claims().sub);
    let line = json!({"email": email, "passwordHash": THEIR_HASH, "name": "Ada"});
    let data_dir = PathBuf::from(env::var("DATA_DIR")?);
    let file = data_dir.join(format!("{email}.jsonl"));
    fs::write(&file, format!("{line}\nno line\n"))?;
    let file = file.to_str().context("a path in UTF-8")?;
    let refused = operate(&["users", "import", file]).await;
    let refused = refused.expect_err("a line is wrong").to_string();
    assert!(refused.contains("line 2"), "{refused}");

    let edge = Client::of_stack();
    let sign_in = async |password: &str| {
        let body = json!({"email": email, "password": password});
        Answer::to(edge.post(LOGIN).json(&body)).await
    };
    let wrong = sign_in("correct house").await?;
    wrong.is_problem(401, "INVALID_CREDENTIALS");
    // The first time by their hash, the next by ours.
    for _ in 0..2 {
        let answer = sign_in(THEIR_PASSWORD).await?.ok();
        assert_eq!(answer.body["user"]["name"], "Ada");
        let token = answer.body["accessToken"].as_str().context("a token")?;
        let validated = Answer::to(edge.get(VALIDATE).bearer_auth(token)).await?;
        let _ = validated.ok();
    }
    Ok(())
}
