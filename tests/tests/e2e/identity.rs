//! Who somebody is, through the edge: a password that is forgotten, a second factor, a browser that
//! is known, and an account that is gone.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Answer, now};
use totp_rs::{Builder, Secret};

use crate::rig::{LOGIN, PASSWORD, Person, mailed};

const TOTP: &str = "/api/v1/auth/mfa/totp";

async fn sign_in(person: &Person, password: &str) -> Result<Answer> {
    let body = json!({"email": person.email, "password": password});
    Answer::to(person.edge.post(LOGIN).json(&body)).await
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_by_mail() -> Result<()> {
    let ada = Person::sign_up().await?;
    let asked = json!({"email": ada.email});
    let answer = Answer::to(ada.edge.post("/api/v1/auth/forgot-password").json(&asked)).await?;
    assert_eq!(answer.ok().body, json!({"success": true}));
    let mark = "reset-password?token=";
    let token = mailed(&ada.email, mark).await?;

    // Looking at the page changes nothing, however often a scanner does.
    for _ in 0..2 {
        let page = ada.edge.get(&format!("/api/v1/auth/{mark}{token}"));
        let page = page.send().await?;
        assert_eq!(page.status(), 200);
    }
    let body = json!({"token": token, "newPassword": "another horse battery"});
    let reset = async || Answer::to(ada.edge.post("/api/v1/auth/reset-password").json(&body)).await;
    let _ = reset().await?.ok();
    reset().await?.is_problem(400, "INVALID_LINK");
    sign_in(&ada, PASSWORD)
        .await?
        .is_problem(401, "INVALID_CREDENTIALS");
    let _ = sign_in(&ada, "another horse battery").await?.ok();
    Ok(())
}

#[tokio::test]
async fn a_second_factor_is_asked_for_and_its_code_is_good_once() -> Result<()> {
    let ada = Person::sign_up().await?;
    let enrolled = ada.post(TOTP, json!({})).await?.ok();
    let secret = enrolled.body["secret"].as_str().context("a secret")?;
    let secret = Secret::try_from_base32(secret).map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let app = Builder::new().with_secret(secret).build();
    let app = app.map_err(|why| anyhow::anyhow!("{why:?}"))?;
    let code = |steps: i64| {
        let secs = (now().timestamp() + 30 * steps).unsigned_abs();
        app.generate(secs).to_string()
    };
    let confirm = json!({"code": code(0)});
    let confirmed = ada.post(&format!("{TOTP}/confirm"), &confirm).await?.ok();
    assert_eq!(
        confirmed.body["recoveryCodes"].as_array().map(Vec::len),
        Some(10)
    );

    let asked = sign_in(&ada, PASSWORD).await?.ok();
    assert_eq!(asked.body["mfaRequired"], true, "{asked:?}");
    assert_eq!(asked.body["accessToken"], Value::Null);
    let second = async |token: &Value, code: &str| {
        let body = json!({"mfaToken": token, "code": code});
        Answer::to(ada.edge.post("/api/v1/auth/login/mfa").json(&body)).await
    };
    let next = code(1);
    let signed_in = second(&asked.body["mfaToken"], &next).await?.ok();
    let access = signed_in.body["accessToken"].as_str().context("a token")?;
    let validated = Answer::to(ada.edge.get("/api/v1/auth/validate").bearer_auth(access));
    let amr = &validated.await?.ok().body["payload"]["amr"];
    assert_eq!(*amr, json!(["pwd", "otp", "mfa"]));

    let again = sign_in(&ada, PASSWORD).await?.ok();
    second(&again.body["mfaToken"], &next)
        .await?
        .is_problem(401, "INVALID_MFA_CODE");
    Ok(())
}

#[tokio::test]
async fn who_leaves_takes_everything_along_and_is_gone() -> Result<()> {
    let ada = Person::sign_up().await?;
    let document = ada.get("/api/v1/auth/me/export").await?.ok();
    assert_eq!(document.body["account"][0]["email"], ada.email);
    let leave = ada.edge.delete("/api/v1/auth/account");
    let leave = leave.bearer_auth(&ada.access);
    let _ = Answer::to(leave.json(&json!({"password": PASSWORD})))
        .await?
        .ok();
    sign_in(&ada, PASSWORD)
        .await?
        .is_problem(401, "INVALID_CREDENTIALS");
    let body = json!({"refreshToken": ada.refresh});
    let refresh = Answer::to(ada.edge.post("/api/v1/auth/refresh").json(&body));
    refresh.await?.is_problem(401, "INVALID_REFRESH_TOKEN");
    Ok(())
}
