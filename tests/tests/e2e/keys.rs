//! The key set at the edge: served from memory, fetched seldom.

use anyhow::Result;
use shared::jwks::JwkSet;
use tests::{Answer, Issuer};

use crate::rig::Rig;

const JWKS: [&str; 3] = [
    "/api/v1/auth/jwks",
    "/api/auth/jwks",
    "/.well-known/jwks.json",
];
const VALIDATE: &str = "/api/v1/auth/validate";

#[tokio::test]
async fn the_key_set_is_one_document_that_caches_keep() -> Result<()> {
    let rig = Rig::start().await?;
    for path in JWKS {
        let answer = Answer::to(rig.edge.get(path)).await?.ok();
        assert_eq!(answer.body, serde_json::to_value(rig.issuer.jwks())?);
        let caching = "public, max-age=300, stale-while-revalidate=3600, stale-if-error=86400";
        assert_eq!(answer.header("cache-control"), caching);
        let again = rig
            .edge
            .get(path)
            .header("if-none-match", answer.header("etag"));
        let again = Answer::to(again).await?;
        assert_eq!(
            (again.status, again.header("etag")),
            (304, answer.header("etag"))
        );
        assert_eq!(again.header("cache-control"), caching);
    }
    assert_eq!(rig.origin.key_fetches(), 1);
    Ok(())
}

#[tokio::test]
async fn made_up_keys_cost_the_origin_one_fetch() -> Result<()> {
    let rig = Rig::start().await?;
    for seed in 2..20 {
        let stranger = Issuer::new(rig.issuer.url(), seed);
        let answer = rig.get(VALIDATE, &stranger.token()).await?;
        answer.is_problem(401, "INVALID_TOKEN");
    }
    assert_eq!(
        rig.origin.key_fetches(),
        2,
        "the first of all, and the one they are worth"
    );
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_newer_than_the_copy_is_fetched() -> Result<()> {
    let rig = Rig::start().await?;
    let _ = rig.get(VALIDATE, &rig.issuer.token()).await?.ok();
    let next = Issuer::new(rig.issuer.url(), 2);
    let keys = [rig.issuer.jwks().keys, next.jwks().keys].concat();
    rig.origin.publish(JwkSet { keys });
    let _ = rig.get(VALIDATE, &next.token()).await?.ok();
    assert_eq!(rig.origin.key_fetches(), 2);
    Ok(())
}

#[tokio::test]
async fn with_the_origin_down_the_edge_still_verifies_and_publishes() -> Result<()> {
    let rig = Rig::start().await?;
    let _ = rig.get(VALIDATE, &rig.issuer.token()).await?.ok();
    drop(rig.origin);
    let token = rig.issuer.token();
    let get = |path: &str| Answer::to(rig.edge.get(path).bearer_auth(&token));
    let _ = get(VALIDATE).await?.ok();
    let _ = get(JWKS[0]).await?.ok();
    get("/api/v1/credits/balance")
        .await?
        .is_problem(502, "UPSTREAM_UNREACHABLE");
    Ok(())
}

#[tokio::test]
async fn without_any_key_nothing_is_said_about_a_token() -> Result<()> {
    let rig = Rig::start().await?;
    drop(rig.origin);
    let token = rig.issuer.token();
    for path in [VALIDATE, JWKS[0]] {
        let answer = Answer::to(rig.edge.get(path).bearer_auth(&token)).await?;
        answer.is_problem(503, "KEYS_UNAVAILABLE");
    }
    Ok(())
}
