//! Guessing passwords through the edge: the origin slows down whoever the edge says is guessing.

use anyhow::{Context, Result};
use reqwest::header::{HeaderMap, SET_COOKIE};
use serde_json::json;
use tests::{Answer, Client};

use crate::{
    rig::{PASSWORD, Person, until},
    twin::Twin,
};

const WRONG: &str = "wrong horse battery";
/// Failures that are free, and the one that brings the first wait.
const OF_AN_ACCOUNT: usize = 5 + 1;
const OF_AN_ADDRESS: usize = 30 + 1;
const OF_A_NETWORK: usize = 150 + 1;
/// Waits that a machine may be so slow as to have sat out, of a second, two, and four.
const SAT_OUT: usize = 3;

/// Tries a password from an address, with more headers.
async fn attempt(
    edge: &Client,
    (email, password): (&str, &str),
    address: &str,
    headers: HeaderMap,
) -> Result<Answer> {
    let request = edge.post("/api/v1/auth/login");
    let request = request.header("cf-connecting-ip", address).headers(headers);
    Answer::to(request.json(&json!({"email": email, "password": password}))).await
}

fn wait_secs(answer: &Answer) -> Result<u32> {
    answer.is_problem(429, "RATE_LIMITED");
    Ok(answer.header("retry-after").parse()?)
}

/// What an answer says, but for what is another in each: its id, the time, and for how long.
fn told(answer: &Answer) -> (u16, String, Vec<String>) {
    let mut body = answer.body.clone();
    body["instance"].take();
    let body = body
        .to_string()
        .replace(|letter: char| letter.is_ascii_digit(), "");
    let mut headers: Vec<_> = (answer.headers.iter())
        .map(|(name, value)| match name.as_str() {
            "date" | "ratelimit" | "retry-after" | "tollgate-request-id" => name.to_string(),
            _ => format!("{name}: {value:?}"),
        })
        .collect();
    headers.sort_unstable();
    (answer.status, body, headers)
}

#[tokio::test]
async fn a_guesser_waits_the_owner_does_not_and_nobody_learns_whether_there_is_an_account()
-> Result<()> {
    let twin = Twin::apart("guessing", 1, &[]).await?;
    let ada = Person::sign_up_at(twin.edge.clone()).await?;
    let nobody = format!("nobody-{}", ada.email);
    let at_home = "2001:db8:a:1::1";
    let signed_in = attempt(
        &twin.edge,
        (&ada.email, PASSWORD),
        at_home,
        HeaderMap::new(),
    )
    .await?
    .ok();
    let cookies = signed_in.headers.get_all(SET_COOKIE).iter();
    let device = cookies.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
    let device = device
        .into_iter()
        .find(|cookie| cookie.starts_with("tollgate-device="));
    let known = HeaderMap::from_iter([(
        "cookie".parse()?,
        device.context("a device's cookie")?.parse()?,
    )]);

    // The same for both, from another address each time.
    let mut refused = Vec::new();
    for (email, network) in [(&ada.email, "b"), (&nobody, "c")] {
        let mut compared = 0;
        let first_refused = loop {
            let address = format!("2001:db8:{network}:{compared:x}::1");
            let answer = attempt(&twin.edge, (email, WRONG), &address, HeaderMap::new()).await?;
            if answer.status == 429 {
                break answer;
            }
            answer.is_problem(401, "INVALID_CREDENTIALS");
            compared += 1;
            assert!(
                compared <= OF_AN_ACCOUNT + SAT_OUT,
                "{email} is never slowed down"
            );
            if compared == 1 {
                refused.push(told(&answer));
            }
        };
        assert!(compared >= OF_AN_ACCOUNT, "{email}: {compared}");
        assert!(wait_secs(&first_refused)? >= 1);
        refused.push(told(&first_refused));
    }
    assert_eq!(refused[0], refused[2]);
    assert_eq!(refused[1], refused[3]);

    // Who goes on waits for longer, and so does whoever knows the password, anywhere but at the owner's device.
    until("the wait has doubled twice", async || {
        let again = attempt(
            &twin.edge,
            (&ada.email, WRONG),
            "2001:db8:d::1",
            HeaderMap::new(),
        )
        .await;
        let wait = again.map(|answer| answer.header("retry-after").parse());
        wait.is_ok_and(|wait| wait.is_ok_and(|secs: u32| secs >= 4))
    })
    .await;
    let right = (ada.email.as_str(), PASSWORD);
    let elsewhere = attempt(&twin.edge, right, at_home, HeaderMap::new()).await?;
    assert!(wait_secs(&elsewhere)? >= 1);
    let _ = attempt(&twin.edge, right, at_home, known).await?.ok();
    Ok(())
}

/// Tries accounts in turn, each from `address` of its number, until one has to wait; says how many did not.
async fn stuff(edge: &Client, address: impl Fn(usize) -> String, at_most: usize) -> Result<usize> {
    for number in 0..=at_most {
        let address = address(number);
        // What a client says of itself is no other address.
        let claim: HeaderMap = [
            "tollgate-address",
            "x-forwarded-for",
            "x-real-ip",
            "forwarded",
        ]
        .into_iter()
        .map(|name| Ok((name.parse()?, format!("203.0.113.{number}").parse()?)))
        .collect::<Result<_>>()?;
        let email = format!("stuffed-{number}-{address}@example.org");
        let answer = attempt(edge, (&email, WRONG), &address, claim).await?;
        if answer.status == 429 {
            assert!(wait_secs(&answer)? >= 1);
            return Ok(number);
        }
        answer.is_problem(401, "INVALID_CREDENTIALS");
    }
    anyhow::bail!("nobody is slowed down")
}

#[tokio::test]
async fn who_tries_many_accounts_is_slowed_down_by_address_and_by_network() -> Result<()> {
    let twin = Twin::apart("stuffing", 1, &[("ARGON2_MEMORY_KIB", "64")]).await?;
    let one = "198.51.100.7";
    let by_address = stuff(&twin.edge, |_| one.to_owned(), OF_AN_ADDRESS + SAT_OUT).await?;
    assert!(by_address >= OF_AN_ADDRESS, "{by_address}");
    // Others of its network have the rest.
    let others = |number: usize| format!("198.51.100.{}", 10 + number);
    let left = OF_A_NETWORK - by_address;
    let by_network = stuff(&twin.edge, others, left + 2 * SAT_OUT).await?;
    assert!(by_network >= left, "{by_network}");
    let from_elsewhere = ("stuffed@example.org", WRONG);
    let elsewhere = attempt(&twin.edge, from_elsewhere, "203.0.113.7", HeaderMap::new()).await?;
    elsewhere.is_problem(401, "INVALID_CREDENTIALS");
    Ok(())
}
