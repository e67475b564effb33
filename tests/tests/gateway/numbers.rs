//! What the edge tells its operator of itself.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use axum::http::Request;
use edge::numbers::NAMES;
use serde_json::{Value, json};
use tests::{Issuer, Script, Stub, Told, Worker, root};
use tokio::time::sleep;

use crate::{
    native, script,
    setting::Setting,
    tokens::{Token, Tokens},
};

const POLICY: &str = r#"{
    "limits": {"few": {"by": "address", "quota": 2}},
    "routes": [
        {"path": "/mine", "methods": ["GET"], "upstream": "origin", "auth": "required"},
        {"path": "/strict", "methods": ["GET"], "serve": "validate", "auth": "required", "strict": true},
        {"path": "/admin", "methods": ["GET"], "upstream": "origin", "auth": "required", "role": "admin"},
        {"path": "/few", "methods": ["GET"], "serve": "health", "limits": ["few"]}
    ]
}"#;

fn setting(origin: &Stub) -> Setting {
    Setting::new("http://127.0.0.1:8787", origin, POLICY)
}

fn get(path: &str, token: Option<&str>) -> Result<Request<String>> {
    let mut request = Request::get(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    Ok(request.body(String::new())?)
}

#[tokio::test]
async fn verdicts_fetches_and_answers_are_counted_and_told_every_ten_seconds() -> Result<()> {
    let tokens = Tokens::new(Issuer::new("http://127.0.0.1:8787", 7));
    let origin = Stub::start(tokens.jwks())?;
    origin.tell(Told::All(tokens.revocations()));
    let edge = native::Edge::new(&setting(&origin));
    let ask = async |path: &str, token: Option<Token>| -> Result<u16> {
        let text = token.map(|token| tokens.text(token));
        let request = get(path, text.as_deref())?;
        let answer = edge.ask([192, 0, 2, 1].into(), request).await?;
        Ok(answer.status().as_u16())
    };
    for (path, token, status) in [
        ("/mine", Some(Token::Good), 200),
        ("/mine", Some(Token::Good), 200),
        ("/mine", None, 401),
        ("/mine", Some(Token::Expired), 401),
        ("/mine", Some(Token::Ended), 401),
        ("/admin", Some(Token::Good), 403),
        ("/few", None, 200),
        ("/few", None, 200),
        ("/few", None, 429),
    ] {
        assert_eq!(ask(path, token).await?, status, "{path} {token:?}");
    }
    edge.pass(4);
    origin.tell(Told::Nothing);
    assert_eq!(ask("/strict", Some(Token::Good)).await?, 200);
    assert_eq!(edge.reports(), [""; 0], "not yet");
    edge.pass(6);
    drop(origin);
    assert_eq!(ask("/strict", Some(Token::Good)).await?, 503);
    edge.pass(10);
    assert_eq!(ask("/mine", Some(Token::Good)).await?, 502);
    let reports = edge.reports();
    let told = |index: usize| -> Result<Value> {
        let report: Value = serde_json::from_str(reports.get(index).context("a report")?)?;
        Ok(report["numbers"].clone())
    };
    let first = told(0)?;
    for (name, value) in [
        ("requests", 10),
        ("accepted", 4),
        ("remembered", 3),
        ("unauthenticated", 1),
        ("invalid", 1),
        ("ended", 1),
        ("forbidden", 1),
        ("unavailable", 0),
        ("limited", 1),
        ("signatures", 3),
        ("keyFetches", 2),
        ("feedFetches", 2),
        ("fetchFailures", 1),
        ("answers", 2),
        ("unanswered", 0),
        ("answerMillis", 6),
        ("slowestMillis", 3),
        ("keysAgeSecs", 10),
        ("feedAgeSecs", 10),
    ] {
        assert_eq!(first[name], value, "{name}: {first}");
    }
    let second = told(1)?;
    assert_eq!(second["unavailable"], 1, "{second}");
    Ok(())
}

/// Asks the built worker until it says this; so long is counted before it is told.
async fn says(script: &Script, what: &str) -> Result<String> {
    let worker = Worker::start(script).await?;
    let begun = Instant::now();
    loop {
        reqwest::get(format!("{}/few", worker.url)).await?;
        let log = worker.log();
        if let Some(line) = log.lines().find(|line| line.contains(what)) {
            return Ok(line.to_owned());
        }
        ensure!(begun.elapsed() < Duration::from_mins(1), "{log}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_worker_logs_its_numbers() -> Result<()> {
    let origin = Stub::start(Issuer::new("http://127.0.0.1:8787", 7).jwks())?;
    let line = says(&script(&setting(&origin))?, "\"numbers\"").await?;
    let told: Value = serde_json::from_str(&line)?;
    let count = |name: &str| told["numbers"][name].as_u64().context("a count");
    assert_eq!(count("requests")?, count("limited")? + 2, "{line}");
    Ok(())
}

/// The binding of a dataset, which workerd has not by itself.
#[tokio::test]
async fn a_worker_writes_its_numbers_into_a_dataset_where_there_is_one() -> Result<()> {
    let origin = Stub::start(Issuer::new("http://127.0.0.1:8787", 7).jwks())?;
    let entry = fs::read_to_string(root().join("edge/entry.mjs"))?;
    let dataset = "{ writeDataPoint: (point) => console.log(`point ${JSON.stringify(point)}`) }";
    let bound = entry.replace(
        "head(request), request, env,",
        &format!("head(request), request, {{ ...env, NUMBERS: {dataset} }},"),
    );
    assert_ne!(entry, bound);
    let script = script(&setting(&origin))?.replace("entry.mjs", bound);
    let line = says(&script, "point ").await?;
    let point: Value = serde_json::from_str(line.trim_start_matches("point "))?;
    assert_eq!(point["indexes"], json!(["edge"]));
    let values = point["doubles"].as_array().context("values")?;
    assert_eq!(values.len(), NAMES.len());
    let value = |name: &str| {
        let at = NAMES.iter().position(|known| *known == name);
        values[at.expect("a name")].as_f64().expect("a number")
    };
    assert!(
        value("limited") > 0.0 && value("requests") > value("limited"),
        "{line}"
    );
    Ok(())
}
