//! What a clock decides, in the core alone.

use anyhow::Result;
use axum::http::Request;
use tests::{Issuer, Stub};

use crate::{native::Edge, suite::Setting};

const ISSUER: &str = "http://127.0.0.1:8787";

struct Rig {
    issuer: Issuer,
    origin: Stub,
    edge: Edge,
}

impl Rig {
    fn start() -> Result<Self> {
        let issuer = Issuer::new(ISSUER, 7);
        let origin = Stub::start(issuer.jwks())?;
        let edge = Edge::new(&Setting {
            issuer: ISSUER.to_owned(),
            origin: origin.url.clone(),
        });
        Ok(Self {
            issuer,
            origin,
            edge,
        })
    }

    /// The status that this token gets.
    async fn status(&self, token: &str) -> Result<u16> {
        let request = Request::get("/validate").header("authorization", format!("Bearer {token}"));
        let answer = self
            .edge
            .ask([192, 0, 2, 1].into(), request.body(String::new())?)
            .await?;
        Ok(answer.status().as_u16())
    }
}

#[tokio::test]
async fn a_token_that_was_verified_before_still_ends() -> Result<()> {
    let rig = Rig::start()?;
    let token = rig.issuer.token();
    assert_eq!(rig.status(&token).await?, 200);
    rig.edge.pass(15 * 60 + 28);
    assert_eq!(rig.status(&token).await?, 200, "within the leeway");
    rig.edge.pass(3);
    assert_eq!(rig.status(&token).await?, 401);
    Ok(())
}

#[tokio::test]
async fn keys_are_fetched_again_every_five_minutes_and_no_sooner() -> Result<()> {
    let rig = Rig::start()?;
    for (secs, fetches) in [(0, 1), (299, 1), (1, 2), (299, 2), (1, 3)] {
        rig.edge.pass(secs);
        assert_eq!(rig.status(&rig.issuer.token()).await?, 200);
        assert_eq!(rig.origin.key_fetches(), fetches, "after {secs} s more");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_was_withdrawn_ends_the_tokens_that_were_verified_with_it() -> Result<()> {
    let rig = Rig::start()?;
    let (token, next) = (rig.issuer.token(), Issuer::new(ISSUER, 8));
    assert_eq!(rig.status(&token).await?, 200);
    rig.origin.publish(next.jwks());
    assert_eq!(
        rig.status(&next.token()).await?,
        200,
        "fetched for the new key"
    );
    assert_eq!(rig.status(&token).await?, 401);
    Ok(())
}

#[tokio::test]
async fn made_up_keys_ask_the_origin_once_in_thirty_seconds() -> Result<()> {
    let rig = Rig::start()?;
    assert_eq!(rig.status(&rig.issuer.token()).await?, 200);
    for (secs, fetches) in [(0, 2), (0, 2), (29, 2), (1, 3), (1, 3)] {
        rig.edge.pass(secs);
        let stranger = Issuer::new(ISSUER, 100 + u8::try_from(rig.origin.key_fetches())?);
        assert_eq!(rig.status(&stranger.token()).await?, 401);
        assert_eq!(rig.origin.key_fetches(), fetches, "after {secs} s more");
    }
    Ok(())
}

#[tokio::test]
async fn keys_serve_for_a_day_when_the_origin_has_gone() -> Result<()> {
    let Rig {
        issuer,
        origin,
        edge,
    } = Rig::start()?;
    let jwks = async || {
        let request = Request::get("/jwks").body(String::new())?;
        let answer = edge.ask([192, 0, 2, 1].into(), request).await?;
        anyhow::Ok(answer.status().as_u16())
    };
    assert_eq!(jwks().await?, 200);
    drop((origin, issuer));
    for (secs, status) in [(86_399, 200), (1, 503), (1, 503)] {
        edge.pass(secs);
        assert_eq!(jwks().await?, status, "after {secs} s more");
    }
    Ok(())
}
