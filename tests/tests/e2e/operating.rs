//! What operators watch: the dashboard and the alerts read numbers that there are.

use std::{collections::BTreeSet, env, fs};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Answer, Client, operator, origin::metrics_url, root};
use tokio::process::Command;

use crate::rig::{LOGIN, Person};

/// What an origin tells ten minutes after its start, when it has looked at the whole ledger.
const LATE: [&str; 2] = [
    "tollgate_ledger_differences",
    "tollgate_ledger_verified_timestamp_seconds",
];

/// The names of our numbers in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("tollgate_")).collect()
}

/// Those of every origin.
async fn numbers() -> Result<String> {
    let mut numbers = String::new();
    for port in env::var("ORIGIN_PORTS")?.split(',') {
        let told = reqwest::get(metrics_url(port.parse()?)).await?;
        numbers += &told.error_for_status()?.text().await?;
    }
    Ok(numbers)
}

/// What all series of `name` with these labels say together.
fn value(numbers: &str, name: &str, labels: &[&str]) -> f64 {
    let lines = numbers.lines().filter(|line| {
        let is_it = line
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']));
        is_it && labels.iter().all(|label| line.contains(label))
    });
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_read_numbers_that_there_are() -> Result<()> {
    let ada = Person::sign_up().await?;
    let charge = json!({"amount": 1, "appId": "app", "description": "a picture"});
    let _ = ada.post("/api/v1/credits/use", charge).await?.ok();
    let refresh = json!({"refreshToken": ada.refresh});
    let refreshed = Answer::to(ada.edge.post("/api/v1/auth/refresh").json(&refresh));
    let _ = refreshed.await?.ok();
    let out = ada.post("/api/v1/auth/logout-all", json!({})).await?;
    let _ = out.ok();
    ada.refusal().await?;
    let told = numbers().await?;
    assert!(value(&told, "tollgate_ready", &[]) >= 1.0);
    // A histogram is several series.
    let told: BTreeSet<&str> = names(&told).into_iter().chain(LATE).collect();
    for file in [
        "deploy/prometheus/alerts.yml",
        "deploy/grafana/tollgate.json",
    ] {
        let text = fs::read_to_string(root().join(file))?;
        let read = names(&text);
        assert!(read.len() > 8, "{file} reads {read:?}");
        let missing: Vec<_> = read.difference(&told).collect();
        assert!(
            missing.is_empty(),
            "{file} reads what is not told: {missing:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_people_try_is_counted_by_what_came_of_it() -> Result<()> {
    let ada = Person::sign_up().await?;
    let wrong = json!({"email": ada.email, "password": "wrong horse battery"});
    let series = [r#"what="password""#, r#"outcome="INVALID_CREDENTIALS""#];
    let route = [
        r#"route="/api/v1/auth/login""#,
        r#"status="401""#,
        r#"method="POST""#,
    ];
    let before = numbers().await?;
    let edge = Client::of_stack();
    Answer::to(edge.post(LOGIN).json(&wrong))
        .await?
        .is_problem(401, "INVALID_CREDENTIALS");
    let after = numbers().await?;
    for (name, labels) in [
        ("tollgate_attempts_total", series.as_slice()),
        ("tollgate_http_requests_total", route.as_slice()),
    ] {
        // Other tests count, too.
        let [before, after] = [&before, &after].map(|told| value(told, name, labels));
        assert!(after >= before + 1.0, "{name}: {before}, {after}");
    }
    // What anybody may make up is no name of a series.
    let odd = reqwest::Method::from_bytes(b"MADEUP")?;
    let origin = env::var("ORIGIN_URL")?;
    reqwest::Client::new()
        .request(odd, format!("{origin}{LOGIN}"))
        .send()
        .await?;
    reqwest::get(format!("{origin}/made-up")).await?;
    let told = numbers().await?;
    for made_up in ["MADEUP", "made-up", ada.email.as_str()] {
        assert!(!told.contains(made_up), "{made_up}");
    }
    assert!(
        value(
            &told,
            "tollgate_http_requests_total",
            &[r#"method="other""#]
        ) >= 1.0
    );
    Ok(())
}

#[tokio::test]
async fn what_the_deployment_names_is_there_by_python() -> Result<()> {
    let mut help = Command::new(operator::program()?);
    help.args(["serve", "--help"]);
    let help = String::from_utf8(help.output().await?.stdout)?;
    let checked = Command::new(env::var("PYTHON")?)
        .arg(root().join("tests/tests/e2e/deployment.py"))
        .arg(root())
        .arg(help)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}{checked:?}");
    Ok(())
}

/// By Prometheus' own reader of rules, on series that are made up.
#[tokio::test]
async fn each_alert_rings_when_it_should_by_promtool() -> Result<()> {
    let promtool = env::var("PROMTOOL")?;
    for (what, file) in [
        (["check", "rules"], "deploy/prometheus/alerts.yml"),
        (["test", "rules"], "tests/tests/e2e/alerts.yml"),
    ] {
        let mut tool = Command::new(&promtool);
        let said = tool.args(what).arg(root().join(file)).output().await?;
        assert!(said.status.success(), "{said:?}");
    }
    Ok(())
}

/// Grafana reads the file as it is: each panel has a place and something to ask.
#[test]
fn the_dashboard_is_whole() -> Result<()> {
    let text = fs::read_to_string(root().join("deploy/grafana/tollgate.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let mut places = BTreeSet::new();
    for panel in panels {
        let place = &panel["gridPos"];
        assert!(places.insert(place.to_string()), "two are at {place}");
        let asks = panel["targets"].as_array().context("targets")?;
        assert!(!asks.is_empty(), "{} asks nothing", panel["title"]);
    }
    Ok(())
}
