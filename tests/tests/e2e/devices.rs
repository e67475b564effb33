//! Several devices of one person, through the edge: which there are, and what ending one does to it
//! and to the others.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::Answer;

use crate::rig::{BOUND, Person, VALIDATE};

const SESSIONS: &str = "/api/v1/auth/sessions";
const EVENTS: &str = "/api/v1/auth/security-events";

/// One person's phone and laptop.
async fn two_devices() -> Result<(Person, Person)> {
    let ada = Person::sign_up().await?;
    let (phone, laptop) = (ada.on("Ada's phone").await?, ada.on("laptop").await?);
    let out = ada.post("/api/v1/auth/logout", json!({})).await?;
    let _ = out.ok();
    Ok((phone, laptop))
}

async fn list(of: &Person) -> Result<Vec<Value>> {
    let listed = of.get(SESSIONS).await?.ok().body;
    Ok(listed.as_array().context("a list")?.clone())
}

/// The names of the devices, and whether each is the caller's own, by name.
async fn names(of: &Person) -> Result<Vec<(String, bool)>> {
    let listed = list(of).await?;
    let mut names: Vec<_> = listed
        .iter()
        .map(|session| {
            let name = session["deviceName"].as_str().unwrap_or_default();
            (name.to_owned(), session["current"] == true)
        })
        .collect();
    names.sort();
    Ok(names)
}

/// What happened to the account, the latest first.
async fn events(of: &Person) -> Result<Vec<String>> {
    let told = of.get(EVENTS).await?.ok().body;
    let told = told.as_array().context("a list")?.iter();
    Ok(told
        .map(|event| format!("{} {}", event["type"], event["outcome"]).replace('"', ""))
        .collect())
}

/// The edge refuses the device's access token soon, and the origin its refresh token at once.
async fn is_out(device: &Person, code: &str) -> Result<()> {
    let refreshed = device.refresh().await?;
    refreshed.is_problem(401, "INVALID_REFRESH_TOKEN");
    let (refused, lag) = device.refusal().await?;
    refused.is_problem(401, code);
    assert!(lag <= BOUND, "{lag:?}");
    Ok(())
}

#[tokio::test]
async fn a_device_that_is_ended_is_out_and_the_other_goes_on() -> Result<()> {
    let (phone, laptop) = two_devices().await?;
    let own = |name: &str| (name.to_owned(), true);
    let other = |name: &str| (name.to_owned(), false);
    assert_eq!(names(&phone).await?, [own("Ada's phone"), other("laptop")]);
    assert_eq!(names(&laptop).await?, [other("Ada's phone"), own("laptop")]);
    let _ = laptop.get(VALIDATE).await?.ok();

    let listed = list(&phone).await?;
    let of_laptop = listed.iter().find(|session| session["current"] == false);
    let id = of_laptop.and_then(|session| session["id"].as_str());
    let path = format!("{SESSIONS}/{}", id.context("an id")?);
    let end = async |by: &Person| Answer::to(by.edge.delete(&path).bearer_auth(&by.access)).await;
    let eve = Person::sign_up().await?;
    end(&eve).await?.is_problem(404, "NOT_FOUND");
    let _ = laptop.get(SESSIONS).await?.ok();
    let _ = end(&phone).await?.ok();
    is_out(&laptop, "SESSION_REVOKED").await?;
    end(&phone).await?.is_problem(404, "NOT_FOUND");

    let _ = phone.get(VALIDATE).await?.ok();
    let phone = phone.refreshed().await?;
    assert_eq!(names(&phone).await?, [own("Ada's phone")]);
    let told = events(&phone).await?;
    let sign_ins = ["sign_in success"; 3];
    assert_eq!(told[..2], ["session_ended success", "sign_out success"]);
    assert_eq!(told[2..5], sign_ins);
    assert_eq!(told[5..], ["registered success"]);
    Ok(())
}

#[tokio::test]
async fn whoever_ends_all_others_stays() -> Result<()> {
    let (phone, laptop) = two_devices().await?;
    let tablet = phone.on("tablet").await?;
    let ended = phone
        .post(&format!("{SESSIONS}/revoke-others"), json!({}))
        .await?;
    let _ = ended.ok();
    for device in [&laptop, &tablet] {
        is_out(device, "INVALID_TOKEN").await?;
    }
    // What it had goes too, in one word about the person; what it is given now is good.
    let phone = phone.refreshed().await?;
    let _ = phone.get(VALIDATE).await?.ok();
    assert_eq!(names(&phone).await?, [("Ada's phone".to_owned(), true)]);
    assert_eq!(events(&phone).await?[0], "other_sessions_ended success");
    Ok(())
}
