//! Many at once: one session that is refreshed from everywhere, and a crowd that signs in.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::{join, try_join_all};
use serde_json::json;
use tests::Answer;
use tokio::{sync::Mutex, time::sleep};

use crate::{
    rig::{PASSWORD, Person, until},
    twin::Twin,
};

const REFRESHES: usize = 1_000;
const SIGN_INS: usize = 500;
const PEOPLE: usize = 16;
/// What the origin answers within, and the way there and back.
const DEADLINE: Duration = Duration::from_secs(16);

/// One crowd at a time: what is measured of one is not what two do to a machine.
static CROWD: Mutex<()> = Mutex::const_new(());

async fn refresh(person: &Person, token: &str) -> Result<Answer> {
    let body = json!({"refreshToken": token});
    Answer::to(person.edge.post("/api/v1/auth/refresh").json(&body)).await
}

/// As a client does that means to stay signed in: an origin that is too busy is asked again.
async fn refresh_patiently(person: &Person, token: &str) -> Result<(Answer, usize)> {
    let begun = Instant::now();
    for tries in 1.. {
        let answer = refresh(person, token).await?;
        if answer.status != 503 {
            return Ok((answer, tries));
        }
        ensure!(begun.elapsed() < 2 * DEADLINE, "{answer:?}");
        sleep(Duration::from_millis(100)).await;
    }
    unreachable!("it tries for ever")
}

fn token<'a>(answer: &'a Answer, name: &str) -> Result<&'a str> {
    answer.body[name]
        .as_str()
        .with_context(|| format!("{answer:?}"))
}

#[tokio::test]
async fn a_thousand_refreshes_at_once_have_one_successor_and_sign_nobody_out() -> Result<()> {
    let _alone = CROWD.lock().await;
    // However slow this machine is, all of them are at once.
    let twin = Twin::start(1_000, &[("REFRESH_GRACE", "5m")]).await?;
    let ada = Person::sign_up_at(twin.edge.clone()).await?;
    let burst = (0..REFRESHES).map(|_| refresh_patiently(&ada, &ada.refresh));
    let begun = Instant::now();
    let answers = try_join_all(burst).await?;
    let tries: usize = answers.iter().map(|(_, tries)| tries).sum();
    println!(
        "{REFRESHES} refreshes at once took {:?} and {tries} tries",
        begun.elapsed()
    );

    let first = answers[0].0.clone().ok();
    let successor = token(&first, "refreshToken")?;
    assert_ne!(successor, ada.refresh);
    for (answer, _) in answers {
        assert_eq!(token(&answer.ok(), "refreshToken")?, successor);
    }
    let next = refresh(&ada, successor).await?.ok();
    let sessions = ada.edge.get("/api/v1/auth/sessions");
    let sessions = sessions.bearer_auth(token(&next, "accessToken")?);
    let sessions = Answer::to(sessions).await?.ok();
    assert_eq!(
        sessions.body.as_array().map(Vec::len),
        Some(1),
        "{sessions:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_stolen_refresh_token_ends_its_family_once_the_grace_is_over() -> Result<()> {
    let twin = Twin::start(1_000, &[("REFRESH_GRACE", "1s")]).await?;
    let ada = Person::sign_up_at(twin.edge.clone()).await?;
    let second = refresh(&ada, &ada.refresh).await?.ok();
    let second = token(&second, "refreshToken")?;
    let begun = Instant::now();
    let third = loop {
        let answer = refresh(&ada, second).await?.ok();
        if token(&answer, "refreshToken")? != second {
            break answer;
        }
        ensure!(begun.elapsed() < DEADLINE, "the grace lasts for ever");
        sleep(Duration::from_millis(50)).await;
    };

    let stolen = refresh(&ada, &ada.refresh).await?;
    stolen.is_problem(401, "INVALID_REFRESH_TOKEN");
    let owned = refresh(&ada, token(&third, "refreshToken")?).await?;
    owned.is_problem(401, "INVALID_REFRESH_TOKEN");
    let access = token(&third, "accessToken")?;
    let balance = ada.edge.get("/api/v1/credits/balance").bearer_auth(access);
    Answer::to(balance)
        .await?
        .is_problem(401, "SESSION_REVOKED");
    until("the edge refuses it by itself", async || {
        let validate = ada.edge.get("/api/v1/auth/validate").bearer_auth(access);
        Answer::to(validate)
            .await
            .is_ok_and(|answer| answer.status == 401)
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn a_crowd_that_signs_in_at_once_is_let_in_or_told_when_to_come_back() -> Result<()> {
    let _alone = CROWD.lock().await;
    let twin = Twin::start(1_000, &[]).await?;
    let bob = Person::sign_up_at(twin.edge.clone()).await?;
    // One person's sign-ins wait for each other.
    let mut emails = Vec::new();
    for _ in 0..PEOPLE {
        emails.push(Person::sign_up_at(twin.edge.clone()).await?.email);
    }
    let sign_in = async |number: usize| {
        let body = json!({"email": emails[number % PEOPLE], "password": PASSWORD});
        let begun = Instant::now();
        let answer = Answer::to(twin.edge.post("/api/v1/auth/login").json(&body)).await?;
        anyhow::Ok((answer, begun.elapsed()))
    };
    let crowd = try_join_all((0..SIGN_INS).map(&sign_in));
    let (answers, balance) = join(crowd, bob.get("/api/v1/credits/balance")).await;
    let _ = balance?.ok();
    let (mut signed_in, mut longest) = (0, Duration::ZERO);
    for (answer, took) in answers? {
        longest = longest.max(took);
        if answer.status == 200 {
            signed_in += 1;
        } else {
            answer.is_problem(503, "OVERLOADED");
            assert_eq!(answer.header("retry-after"), "2");
        }
    }
    println!(
        "of {SIGN_INS} at once {signed_in} signed in, and the longest answer took {longest:?}"
    );
    assert!(signed_in > 0);
    assert!(longest < DEADLINE, "{longest:?}");
    let _ = sign_in(0).await?.0.ok();
    Ok(())
}
