//! What an edge knows that has just started beside one that ran: in the core with a clock that can
//! be set, and once in the worker, with a cache such as workerd is given.

use std::collections::HashMap;

use anyhow::Result;
use axum::http::Request;
use base64ct::{Base64, Encoding};
use shared::{claims::AccessClaims, jwks::JwkSet, jwt, revocations::Revocation};
use tests::{Cache, Issuer, Script, Stub, Told, Worker};

use crate::{cases::POLICY, native::Edge, setting::Setting, suite};

const ISSUER: &str = "http://127.0.0.1:8787";

/// An edge that has verified tokens, and the origin that it had them from.
struct Rig {
    issuer: Issuer,
    setting: Setting,
    origin: Option<Stub>,
    edge: Edge,
    good: String,
    ended: AccessClaims,
}

impl Rig {
    async fn start() -> Result<Self> {
        let issuer = Issuer::new(ISSUER, 7);
        let origin = Stub::start(issuer.jwks())?;
        let ended = issuer.claims();
        origin.tell(Told::All(vec![end(&ended)]));
        let setting = Setting::new(ISSUER, &origin, POLICY);
        let edge = Edge::new(&setting);
        let good = issuer.token();
        assert_eq!(status(&edge, "/validate", &good).await?, 200);
        Ok(Self {
            issuer,
            setting,
            origin: Some(origin),
            edge,
            good,
            ended,
        })
    }

    /// An edge that has seen nothing, beside the first.
    fn cold(&self) -> Edge {
        self.edge.cold(|name| self.setting.var(name))
    }

    fn sign(&self, claims: &AccessClaims) -> String {
        jwt::sign(claims, self.issuer.key())
    }

    /// Its origin, which runs.
    fn origin(&self) -> &Stub {
        self.origin
            .as_ref()
            .expect("an origin that was not stopped")
    }

    fn stop_origin(&mut self) {
        self.origin = None;
    }
}

fn end(claims: &AccessClaims) -> Revocation {
    Revocation::Session {
        id: claims.sid,
        until: claims.exp.timestamp() + 90,
    }
}

/// The status that this token gets.
async fn status(edge: &Edge, path: &str, token: &str) -> Result<u16> {
    let request = Request::get(path).header("authorization", format!("Bearer {token}"));
    let request = request.body(String::new())?;
    let answer = edge.ask([192, 0, 2, 1].into(), request).await?;
    Ok(answer.status().as_u16())
}

async fn health(edge: &Edge) -> Result<String> {
    let request = Request::get("/health").body(String::new())?;
    let answer = edge.ask([192, 0, 2, 1].into(), request).await?;
    Ok(answer.into_body())
}

#[tokio::test]
async fn one_that_starts_while_the_origin_is_down_serves_what_another_knew() -> Result<()> {
    let mut rig = Rig::start().await?;
    rig.stop_origin();
    rig.edge.pass(60);
    let (cold, ended) = (rig.cold(), rig.sign(&rig.ended));
    assert_eq!(status(&cold, "/validate", &rig.good).await?, 200);
    assert_eq!(status(&cold, "/validate", &ended).await?, 401);
    let health = health(&cold).await?;
    for age in [r#""keysAgeSecs":60"#, r#""revocationsAgeSecs":60"#] {
        assert!(health.contains(age), "as old as they are: {health}");
    }
    let jwks = Request::get("/jwks").body(String::new())?;
    let jwks = rig.cold().ask([192, 0, 2, 1].into(), jwks).await?;
    assert_eq!(jwks.headers()["etag"], "\"1\"", "with its tag");
    assert!(jwks.body().starts_with(r#"{"keys":[{"#), "to the letter");
    Ok(())
}

#[tokio::test]
async fn without_anything_kept_it_has_no_keys() -> Result<()> {
    let mut rig = Rig::start().await?;
    rig.stop_origin();
    rig.edge.tamper(HashMap::clear);
    assert_eq!(status(&rig.cold(), "/validate", &rig.good).await?, 503);
    Ok(())
}

#[tokio::test]
async fn keys_that_were_kept_serve_for_a_day_after_they_were_fetched() -> Result<()> {
    let mut rig = Rig::start().await?;
    rig.stop_origin();
    let jwks = async |edge: &Edge| {
        let request = Request::get("/jwks").body(String::new())?;
        let answer = edge.ask([192, 0, 2, 1].into(), request).await?;
        anyhow::Ok(answer.status().as_u16())
    };
    for (secs, status) in [(86_399, 200), (1, 503), (1, 503)] {
        rig.edge.pass(secs);
        assert_eq!(jwks(&rig.cold()).await?, status, "after {secs} s more");
    }
    Ok(())
}

#[tokio::test]
async fn a_strict_route_refuses_by_the_age_of_what_was_kept() -> Result<()> {
    for (secs, strict) in [(4, 200), (5, 503)] {
        let rig = Rig::start().await?;
        rig.origin().tell(Told::Nothing);
        rig.edge.pass(secs);
        let cold = rig.cold();
        assert_eq!(
            status(&cold, "/strict", &rig.good).await?,
            strict,
            "{secs} s"
        );
        assert_eq!(status(&cold, "/validate", &rig.good).await?, 200);
    }
    Ok(())
}

#[tokio::test]
async fn what_was_kept_is_refreshed_at_the_age_at_which_memory_would_be() -> Result<()> {
    for (secs, key_fetches, feed_fetches) in [(1, 1, 1), (3, 1, 2), (10, 1, 2), (301, 2, 2)] {
        let rig = Rig::start().await?;
        rig.edge.pass(secs);
        assert_eq!(status(&rig.cold(), "/validate", &rig.good).await?, 200);
        let fetches = (rig.origin().key_fetches(), rig.origin().feed_fetches());
        assert_eq!(fetches, (key_fetches, feed_fetches), "after {secs} s");
    }
    Ok(())
}

/// The origin tells what came behind the cursor that was kept, and nothing twice.
#[tokio::test]
async fn one_that_starts_goes_on_from_the_cursor_that_was_kept() -> Result<()> {
    let rig = Rig::start().await?;
    let (later, instead) = (rig.issuer.claims(), rig.issuer.claims());
    rig.origin()
        .tell(Told::All(vec![end(&instead), end(&later)]));
    rig.edge.pass(10);
    let cold = rig.cold();
    for (claims, expected) in [(&rig.ended, 401), (&later, 401), (&instead, 200)] {
        let token = rig.sign(claims);
        assert_eq!(status(&cold, "/validate", &token).await?, expected);
    }
    Ok(())
}

/// A key that was revoked is in the kept revocations, whatever the kept key set says.
#[tokio::test]
async fn everything_that_another_had_heard_is_kept() -> Result<()> {
    let mut rig = Rig::start().await?;
    let user = rig.issuer.claims();
    let until = user.exp.timestamp() + 90;
    let key = rig.issuer.key().kid().to_owned();
    let ended = end(&rig.ended);
    let withdrawn = Revocation::User {
        id: user.sub,
        not_before: user.iat.timestamp() + 1,
        until,
    };
    rig.origin()
        .tell(Told::All(vec![ended.clone(), withdrawn.clone()]));
    rig.edge.pass(10);
    assert_eq!(status(&rig.edge, "/validate", &rig.good).await?, 200);
    let beside = rig.cold();
    let user = rig.sign(&user);
    assert_eq!(status(&beside, "/validate", &user).await?, 401);
    let key = Revocation::Key { id: key, until };
    rig.origin().tell(Told::All(vec![ended, withdrawn, key]));
    rig.edge.pass(10);
    assert_eq!(status(&beside, "/validate", &rig.good).await?, 401);
    rig.stop_origin();
    assert_eq!(
        status(&rig.cold(), "/validate", &rig.good).await?,
        401,
        "its key"
    );
    Ok(())
}

#[tokio::test]
async fn a_key_that_was_revoked_is_kept_for_nobody() -> Result<()> {
    let mut rig = Rig::start().await?;
    let stolen = Issuer::new(ISSUER, 8);
    let keys = [rig.issuer.jwks().keys, stolen.jwks().keys].concat();
    rig.origin().publish(JwkSet { keys });
    assert_eq!(status(&rig.edge, "/validate", &stolen.token()).await?, 200);
    rig.origin().tell(Told::All(vec![
        end(&rig.ended),
        Revocation::Key {
            id: stolen.key().kid().to_owned(),
            until: rig.ended.exp.timestamp() + 90,
        },
    ]));
    rig.edge.pass(3);
    assert_eq!(status(&rig.edge, "/validate", &rig.good).await?, 200);
    rig.stop_origin();
    let jwks = Request::get("/jwks").body(String::new())?;
    let jwks = rig.cold().ask([192, 0, 2, 1].into(), jwks).await?;
    let listed: JwkSet = serde_json::from_str(jwks.body())?;
    assert_eq!(listed, rig.issuer.jwks());
    Ok(())
}

#[tokio::test]
async fn what_others_put_in_its_place_counts_as_not_there() -> Result<()> {
    type Change = fn(&mut String);
    let changes: [(&str, Change); 5] = [
        ("noise", |text| *text = "x".into()),
        ("nothing", String::clear),
        ("a byte less", |text| text.truncate(text.len() - 1)),
        ("no proof", |text| {
            let rest = text.split_once('\n').map(|(_, rest)| rest.to_owned());
            *text = rest.unwrap_or_default();
        }),
        ("another time", |text| {
            let time = text.split(',').nth(1).unwrap_or_default().to_owned();
            let other = time.parse().map_or(0, |time: i64| time - 1);
            *text = text.replacen(&time, &other.to_string(), 1);
        }),
    ];
    let swap = |kept: &mut HashMap<String, String>| {
        let values: Vec<_> = kept.values().cloned().collect();
        for (text, other) in kept.values_mut().zip(values.into_iter().rev()) {
            *text = other;
        }
    };
    let mut rig = Rig::start().await?;
    rig.stop_origin();
    rig.edge.tamper(swap);
    assert_eq!(status(&rig.cold(), "/validate", &rig.good).await?, 503);
    for (name, change) in changes {
        let mut rig = Rig::start().await?;
        rig.stop_origin();
        rig.edge.tamper(|kept| {
            for text in kept.values_mut() {
                change(text);
            }
        });
        let cold = rig.cold();
        assert_eq!(status(&cold, "/validate", &rig.good).await?, 503, "{name}");
    }
    Ok(())
}

/// An edge of the same zone that has another key of the proof, or a clock that is behind.
#[tokio::test]
async fn what_another_edge_kept_counts_as_not_there() -> Result<()> {
    let mut rig = Rig::start().await?;
    rig.stop_origin();
    let other_key = rig.edge.cold(|name| match name {
        "EDGE_PROOF_KEY" => Some(Base64::encode_string(&[2; 32])),
        _ => rig.setting.var(name),
    });
    assert_eq!(status(&other_key, "/validate", &rig.good).await?, 503);
    rig.edge.pass(-10);
    assert_eq!(status(&rig.cold(), "/validate", &rig.good).await?, 503);
    rig.edge.pass(10);
    assert_eq!(status(&rig.cold(), "/validate", &rig.good).await?, 200);
    Ok(())
}

#[tokio::test]
async fn one_that_knows_asks_for_nothing_that_was_kept() -> Result<()> {
    let rig = Rig::start().await?;
    assert_eq!(rig.edge.recalls(), 2, "keys and revocations, when it began");
    for secs in [0, 3, 10, 301, 3_600] {
        rig.edge.pass(secs);
        let token = rig.issuer.token();
        status(&rig.edge, "/validate", &token).await?;
    }
    assert_eq!(rig.edge.recalls(), 2);
    Ok(())
}

/// Without the cache its calls fail, which the suite has as an edge that never reached its origin.
#[tokio::test]
async fn a_worker_that_starts_while_the_origin_is_down_serves_from_the_cache() -> Result<()> {
    let issuer = Issuer::new(ISSUER, 7);
    let origin = Stub::start(issuer.jwks())?;
    let (good, ended) = (issuer.token(), issuer.claims());
    origin.tell(Told::All(vec![end(&ended)]));
    let ended = jwt::sign(&ended, issuer.key());
    let cache = Cache::start().await?;
    let policy: toml::Value = serde_json::from_str(POLICY)?;
    let script = Script::edge(ISSUER, &origin.url)?.var("POLICY", policy);
    let script = script.cache(cache.address);
    let status = async |worker: &suite::Edge, token: &str| {
        let request = Request::get("/validate").header("authorization", format!("Bearer {token}"));
        let request = request.body(String::new())?;
        let answer = worker.ask([192, 0, 2, 1].into(), request).await?;
        anyhow::Ok(answer.status().as_u16())
    };
    let first = suite::Edge::Worker(Box::new(Worker::start(&script).await?));
    assert_eq!(status(&first, &good).await?, 200);
    cache.holds(2).await?;
    drop((first, origin));
    let cold = suite::Edge::Worker(Box::new(Worker::start(&script).await?));
    assert_eq!(status(&cold, &good).await?, 200);
    assert_eq!(status(&cold, &ended).await?, 401);
    Ok(())
}
