//! What a person and an app do with Tollgate, from register to 402.

use std::{env, fs, path::PathBuf};

use anyhow::Result;
use serde_json::json;
use tests::Answer;

use crate::{
    rig::{PASSWORD, Person, VALIDATE, until},
    verifier::Verifier,
};

const BALANCE: &str = "/api/v1/credits/balance";
const USE: &str = "/api/v1/credits/use";
const HOLDS: &str = "/api/v1/credits/holds";

#[tokio::test]
async fn credits_are_spent_until_there_are_none() -> Result<()> {
    let ada = Person::sign_up().await?;
    let balance = ada.get(BALANCE).await?.ok();
    assert_eq!(
        balance.body["freeCreditsRemaining"], 155,
        "the bonus and the day's"
    );

    let spend = json!({"amount": 100, "appId": "tour", "description": "a", "idempotencyKey": "1"});
    let first = ada.post(USE, &spend).await?.ok();
    assert_eq!(first.body["freeCreditsRemaining"], 55);
    let again = ada.post(USE, &spend).await?.ok();
    assert_eq!(again.body, first.body, "the same key charges nothing again");
    assert_eq!(again.header("idempotency-replayed"), "true");

    let more = json!({"amount": 55.001, "appId": "tour", "description": "b"});
    let refused = ada.post(USE, &more).await?;
    refused.is_problem(402, "INSUFFICIENT_CREDITS");
    assert_eq!(refused.body["available"], 55);
    assert_eq!(refused.body["required"], 55.001);
    Ok(())
}

#[tokio::test]
async fn credits_are_put_aside_charged_and_told_by_app() -> Result<()> {
    let ada = Person::sign_up().await?;
    let order = json!({"amount": 20, "appId": "tour", "description": "a", "idempotencyKey": "1"});
    let held = ada.post(HOLDS, &order).await?.ok();
    let id = held.body["hold"]["id"].as_str().unwrap_or_default();
    let path = format!("{HOLDS}/{id}");
    let captured = ada
        .post(&format!("{path}/capture"), json!({"amount": 12}))
        .await?
        .ok();
    assert_eq!(captured.body["freeCreditsRemaining"], 143);
    let looked = ada.get(&path).await?.ok();
    assert_eq!(looked.body["status"], "captured");
    let used = ada.get("/api/v1/credits/usage?by=app").await?.ok();
    assert_eq!(
        used.body,
        json!([{"appId": "tour", "spent": 12, "uses": 1}])
    );
    Ok(())
}

/// The edge lets calls without a token pass to where a service key may stand in its place.
#[tokio::test]
async fn a_service_key_is_judged_by_the_origin() -> Result<()> {
    let ada = Person::sign_up().await?;
    for path in [
        USE,
        HOLDS,
        "/api/v1/credits/grants",
        "/api/v1/credits/refunds",
    ] {
        let request = ada.edge.post(path).json(&json!({}));
        let keyed = request
            .header("x-app-id", "tour")
            .header("x-service-key", "x");
        Answer::to(keyed)
            .await?
            .is_problem(401, "INVALID_SERVICE_KEY");
        let bare = ada.edge.post(path).json(&json!({}));
        Answer::to(bare).await?.is_problem(401, "UNAUTHENTICATED");
    }
    Ok(())
}

#[tokio::test]
async fn the_edge_says_what_a_token_is_worth() -> Result<()> {
    let ada = Person::sign_up().await?;
    for answer in [
        ada.get(VALIDATE).await?.ok(),
        ada.post(VALIDATE, json!({"token": ada.access})).await?.ok(),
    ] {
        assert_eq!(answer.body["valid"], true);
        assert_eq!(answer.body["payload"]["email"], ada.email);
        assert_eq!(answer.body["payload"]["role"], "user");
    }
    let none = ada.post(VALIDATE, json!({"token": "x"})).await?.ok();
    assert_eq!(none.body["valid"], false);
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_is_worth_one_of_each() -> Result<()> {
    let ada = Person::sign_up().await?;
    let body = json!({"refreshToken": ada.refresh});
    let refreshed = ada.post("/api/v1/auth/refresh", &body).await?.ok();
    assert_ne!(refreshed.body["refreshToken"], ada.refresh);
    let access = refreshed.body["accessToken"].as_str().unwrap_or_default();
    let _ = Answer::to(ada.edge.get(BALANCE).bearer_auth(access))
        .await?
        .ok();
    Ok(())
}

#[tokio::test]
async fn a_session_that_ended_spends_nothing_and_refreshes_nothing() -> Result<()> {
    let ada = Person::sign_up().await?;
    let _ = ada.post("/api/v1/auth/logout", json!({})).await?.ok();
    ada.get(BALANCE).await?.is_problem(401, "SESSION_REVOKED");
    let body = json!({"refreshToken": ada.refresh});
    let refreshed = ada.post("/api/v1/auth/refresh", &body).await?;
    refreshed.is_problem(401, "INVALID_REFRESH_TOKEN");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_look_the_same() -> Result<()> {
    let ada = Person::sign_up().await?;
    for (email, password) in [
        (ada.email.as_str(), "wrong horse battery"),
        ("nobody@example.org", PASSWORD),
    ] {
        let body = json!({"email": email, "password": password});
        let answer = ada.post("/api/v1/auth/login", body).await?;
        answer.is_problem(401, "INVALID_CREDENTIALS");
    }
    Ok(())
}

/// What a service does that verifies by itself: `jose` fetches the key set through the edge.
#[tokio::test]
async fn any_jose_library_verifies_our_tokens() -> Result<()> {
    let ada = Person::sign_up().await?;
    let payload = ada.get(VALIDATE).await?.ok().body["payload"].clone();
    let issuer = payload["iss"].as_str().unwrap_or_default();
    let verified = Verifier::start(&ada.edge, issuer)?
        .verify(&ada.access)
        .await?;
    assert_eq!(verified.warm, payload["sub"]);
    Ok(())
}

#[tokio::test]
async fn a_request_has_one_name_from_the_answer_to_the_log_of_the_origin() -> Result<()> {
    let ada = Person::sign_up().await?;
    let answer = ada.get(BALANCE).await?.ok();
    let id = answer.header("tollgate-request-id").to_owned();
    assert!(!id.is_empty(), "{answer:?}");
    let logs = PathBuf::from(env::var("DATA_DIR")?).join("logs");
    let names_it = |log: fs::DirEntry| {
        let is_origins = log.file_name().to_string_lossy().starts_with("origin");
        is_origins && fs::read_to_string(log.path()).is_ok_and(|text| text.contains(&id))
    };
    until("an origin's log names the request", async || {
        fs::read_dir(&logs).is_ok_and(|logs| logs.flatten().any(names_it))
    })
    .await;
    Ok(())
}
