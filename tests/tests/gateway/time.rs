//! What a clock decides, in the core alone.

use std::time::{Duration, Instant};

use anyhow::Result;
use axum::http::{Request, Response};
use shared::{claims::AccessClaims, jwks::JwkSet, jwt, revocations::Revocation};
use tests::{Issuer, Stub, Told};

use crate::{cases::POLICY, native::Edge, setting::Setting};

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
        let edge = Edge::new(&Setting::new(ISSUER, &origin, POLICY));
        Ok(Self {
            issuer,
            origin,
            edge,
        })
    }

    /// The status that this token gets.
    async fn status(&self, token: &str) -> Result<u16> {
        self.status_at("/validate", token).await
    }

    async fn status_at(&self, path: &str, token: &str) -> Result<u16> {
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        let answer = self
            .edge
            .ask([192, 0, 2, 1].into(), request.body(String::new())?)
            .await?;
        Ok(answer.status().as_u16())
    }

    /// The key set, for a client that has one with this tag.
    async fn jwks(&self, tag: &str) -> Result<Response<String>> {
        let request = Request::get("/jwks").header("if-none-match", tag);
        let request = request.body(String::new())?;
        self.edge.ask([192, 0, 2, 1].into(), request).await
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

/// At once: not when the copy has its age, and whatever a replica of the origin lists still.
#[tokio::test]
async fn a_revoked_key_is_published_no_more_and_the_one_in_its_place_is() -> Result<()> {
    let rig = Rig::start()?;
    let [stolen, next] = [8, 9].map(|seed| Issuer::new(ISSUER, seed));
    let set = |issuers: &[&Issuer]| JwkSet {
        keys: issuers
            .iter()
            .flat_map(|issuer| issuer.jwks().keys)
            .collect(),
    };
    rig.origin.publish(set(&[&rig.issuer, &stolen]));
    let token = stolen.token();
    assert_eq!(rig.status(&token).await?, 200);
    let tag = "\"1\"";
    assert_eq!(rig.jwks(tag).await?.status(), 304);

    rig.origin.publish(set(&[&stolen, &rig.issuer, &next]));
    rig.origin.tell(Told::All(vec![Revocation::Key {
        id: stolen.key().kid().to_owned(),
        until: tests::now().timestamp() + 100,
    }]));
    rig.edge.pass(3);
    let good = rig.issuer.token();
    assert_eq!(rig.status(&good).await?, 200, "it is heard behind this");
    for (tag, listed) in [(tag, set(&[&rig.issuer])), ("", set(&[&rig.issuer, &next]))] {
        let answer = rig.jwks(tag).await?;
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().get("etag").is_none());
        assert_eq!(serde_json::from_str::<JwkSet>(answer.body())?, listed);
    }
    assert_eq!(rig.origin.key_fetches(), 2, "behind the first of them");
    assert_eq!(rig.status(&token).await?, 401);
    assert_eq!(rig.status(&next.token()).await?, 200);
    Ok(())
}

/// Ends this session.
fn end(claims: &AccessClaims) -> Told {
    Told::All(vec![Revocation::Session {
        id: claims.sid,
        until: claims.exp.timestamp() + 90,
    }])
}

#[tokio::test]
async fn revocations_are_fetched_behind_an_answer_after_two_seconds_and_before_it_after_five()
-> Result<()> {
    for (passes, statuses) in [
        (1, [200, 200]),
        (2, [200, 401]),
        (4, [200, 401]),
        (5, [401, 401]),
    ] {
        let rig = Rig::start()?;
        let claims = rig.issuer.claims();
        let token = jwt::sign(&claims, rig.issuer.key());
        assert_eq!(rig.status(&token).await?, 200);
        rig.origin.tell(end(&claims));
        rig.edge.pass(passes);
        for status in statuses {
            assert_eq!(rig.status(&token).await?, status, "after {passes} s");
        }
        let fetches = if passes < 2 { 1 } else { 2 };
        assert_eq!(rig.origin.feed_fetches(), fetches, "after {passes} s");
    }
    Ok(())
}

/// Somebody who makes tokens up, or asks without one, cannot turn that into calls.
#[tokio::test]
async fn only_for_tokens_that_verify_the_origin_is_asked_for_revocations() -> Result<()> {
    let rig = Rig::start()?;
    let stranger = Issuer::new(ISSUER, 9).token();
    for _ in 0..3 {
        assert_eq!(rig.status(&stranger).await?, 401);
        rig.edge.pass(10);
    }
    assert_eq!(rig.origin.feed_fetches(), 0);
    Ok(())
}

#[tokio::test]
async fn with_the_origin_down_the_last_revocations_serve_and_a_strict_route_refuses() -> Result<()>
{
    let rig = Rig::start()?;
    let (good, ended) = (rig.issuer.token(), rig.issuer.claims());
    rig.origin.tell(end(&ended));
    let ended = jwt::sign(&ended, rig.issuer.key());
    assert_eq!(rig.status(&ended).await?, 401);
    rig.origin.tell(Told::Nothing);
    for (secs, strict) in [(4, 200), (1, 503), (1, 503), (600, 503)] {
        rig.edge.pass(secs);
        assert_eq!(rig.status(&good).await?, 200, "after {secs} s more");
        assert_eq!(rig.status(&ended).await?, 401, "after {secs} s more");
        let status = rig.status_at("/strict", &good).await?;
        assert_eq!(status, strict, "after {secs} s more");
    }
    rig.origin.tell(Told::All(Vec::new()));
    rig.edge.pass(4);
    assert_eq!(rig.status_at("/strict", &good).await?, 200, "it is back");
    assert_eq!(rig.status(&ended).await?, 401, "and nothing was forgotten");
    Ok(())
}

#[tokio::test]
async fn an_origin_that_hangs_holds_one_request_for_half_a_second() -> Result<()> {
    let rig = Rig::start()?;
    rig.origin.tell(Told::Never);
    let token = rig.issuer.token();
    let took = async || {
        let begun = Instant::now();
        assert_eq!(rig.status(&token).await?, 200);
        anyhow::Ok(begun.elapsed())
    };
    let (first, half) = (took().await?, Duration::from_millis(500));
    assert!(first >= half && first < 3 * half, "{first:?}");
    Ok(())
}

/// `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10 §4): so many are left, and all of them in so
/// many seconds; and `Retry-After` is when the next one passes, and not a second sooner.
#[tokio::test]
async fn what_an_answer_says_of_its_quota_comes_true() -> Result<()> {
    let rig = Rig::start()?;
    let ask = async || {
        let request = Request::get("/few").body(String::new())?;
        rig.edge.ask([192, 0, 2, 77].into(), request).await
    };
    let says = |answer: &Response<String>, name: &str| {
        let value = answer.headers().get(name).map(|value| value.to_str());
        value.and_then(Result::ok).unwrap_or_default().to_owned()
    };
    for (secs, status, rate, retry) in [
        (0, 200, "\"few\";r=1;t=30", ""),
        (0, 200, "\"few\";r=0;t=60", ""),
        (0, 429, "\"few\";r=0;t=60", "30"),
        (1, 429, "\"few\";r=0;t=59", "29"),
        (28, 429, "\"few\";r=0;t=31", "1"),
        (1, 200, "\"few\";r=0;t=60", ""),
        (30, 200, "\"few\";r=0;t=60", ""),
        (60, 200, "\"few\";r=1;t=30", ""),
    ] {
        rig.edge.pass(secs);
        let answer = ask().await?;
        let told = (says(&answer, "ratelimit"), says(&answer, "retry-after"));
        assert_eq!(answer.status(), status);
        assert_eq!(told, (rate.to_owned(), retry.to_owned()));
    }
    Ok(())
}
