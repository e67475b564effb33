//! What no door lets in, through the edge: each is a problem with its code and its pointer.

use anyhow::Result;
use serde_json::{Value, json};
use tests::Answer;

use crate::rig::{PASSWORD, Person};

const REGISTER: &str = "/api/v1/auth/register";
const USE: &str = "/api/v1/credits/use";

#[tokio::test]
async fn a_registration_that_is_none_names_its_field() -> Result<()> {
    let ada = Person::sign_up().await?;
    let with = |field: &str, value: Value| {
        let mut body = json!({"email": "bob@example.org", "password": PASSWORD});
        body[field] = value;
        body
    };
    for (body, pointer) in [
        (with("role", json!("admin")), "/role"),
        (with("email", json!(7)), "/email"),
        (with("email", json!("none")), "/email"),
        (with("email", json!("b\0b@example.org")), "/email"),
        (with("password", json!("1234567")), "/password"),
        (with("password", json!("x".repeat(129))), "/password"),
    ] {
        let answer = ada.post(REGISTER, &body).await?;
        answer.is_problem(400, "VALIDATION_FAILED");
        assert_eq!(answer.pointers(), [pointer], "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn an_amount_that_is_none_is_refused_and_costs_nothing() -> Result<()> {
    let ada = Person::sign_up().await?;
    for amount in ["0", "-1", "0.0001", "1e30", "\"10\""] {
        let body = format!(r#"{{"amount":{amount},"appId":"app","description":"d"}}"#);
        let answer = ada.post(USE, body).await?;
        answer.is_problem(400, "VALIDATION_FAILED");
        assert_eq!(answer.pointers(), ["/amount"], "{amount}");
    }
    let balance = ada.get("/api/v1/credits/balance").await?.ok();
    assert_eq!(balance.body["totalSpent"], 0);
    Ok(())
}

#[tokio::test]
async fn what_is_no_json_or_too_much_of_it_is_refused() -> Result<()> {
    let ada = Person::sign_up().await?;
    let large = json!({"email": "bob@example.org", "password": "x".repeat(1024 * 1024)});
    for path in [REGISTER, "/api/v1/auth/validate"] {
        ada.post(path, "{")
            .await?
            .is_problem(400, "INVALID_REQUEST");
        ada.post(path, &large)
            .await?
            .is_problem(413, "BODY_TOO_LARGE");
        let form = ada.edge.post(path).header("content-type", "text/plain");
        let answer = Answer::to(form.body("{}")).await?;
        answer.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    Ok(())
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() -> Result<()> {
    let ada = Person::sign_up().await?;
    ada.get("/nothing").await?.is_problem(404, "NOT_FOUND");
    let answer = ada.get(REGISTER).await?;
    answer.is_problem(405, "METHOD_NOT_ALLOWED");
    assert_eq!(answer.header("allow"), "POST");
    Ok(())
}
