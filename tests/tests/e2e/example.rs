//! The example of the README: an app behind the edge, whose calls cost credits.

use std::{env, fs, process::Stdio};

use anyhow::{Context, Result};
use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use tests::{Answer, Client, Script, Worker, free_ports, root, secrets::Secrets};
use tokio::process::{Child, Command};

use crate::rig::{Person, until};

const NOTES: &str = "/notes";
const BALANCE: &str = "/api/v1/credits/balance";

/// The app, and an edge in front of it and of the stack's origin.
struct Rig {
    edge: Client,
    app: Client,
    _worker: Worker,
    _app: Child,
}

impl Rig {
    async fn start() -> Result<Self> {
        let [port, _] = free_ports()?;
        let key = Base64::encode_string(&[3; 32]);
        let process = Command::new("node")
            .arg(root().join("examples/notes/server.mjs"))
            .env("PORT", port.to_string())
            .env("PROOF_KEY", &key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        let app = Client::new(&url);
        until("the app listens", async || {
            app.get(NOTES).send().await.is_ok()
        })
        .await;
        let policy = fs::read_to_string(root().join("examples/notes/policy.toml"))?;
        let policy: toml::Table = policy.replace("http://127.0.0.1:4000", &url).parse()?;
        let secrets = Secrets::load_or_make(env::var("DATA_DIR")?.as_ref())?;
        let script = Script::edge(&env::var("EDGE_URL")?, &env::var("ORIGIN_URL")?)?
            .var("EDGE_PROOF_KEY", secrets.get("EDGE_PROOF_KEY")?)
            .var("UPSTREAM_PROOF_KEYS", format!("notes:{key}"))
            .var("LIMIT_SCALE", "1000")
            .var("POLICY", policy);
        let worker = Worker::start(&script).await?;
        Ok(Self {
            edge: Client::new(&worker.url),
            app,
            _worker: worker,
            _app: process,
        })
    }
}

/// What somebody can spend, once nothing is put aside.
async fn settled(ada: &Person) -> Result<f64> {
    until("nothing is put aside", async || {
        let balance = ada.get(BALANCE).await;
        balance.is_ok_and(|balance| balance.body["held"] == json!(0))
    })
    .await;
    let balance = ada.get(BALANCE).await?.ok().body;
    let number = |name: &str| balance[name].as_f64().context("a number");
    Ok(number("balance")? + number("freeCreditsRemaining")?)
}

#[tokio::test]
async fn a_note_costs_what_it_came_to_and_reading_nothing() -> Result<()> {
    let rig = Rig::start().await?;
    let ada = Person::sign_up_at(rig.edge.clone()).await?;
    let begin = settled(&ada).await?;
    let note = async |text: &Value| ada.post(NOTES, json!({ "text": text })).await;
    for (text, status, costs) in [
        (json!("a gate"), 201, 1.0),
        (json!("gate ".repeat(100)), 201, 5.0),
        (json!(7), 400, 0.0),
    ] {
        let before = settled(&ada).await?;
        let answer = note(&text).await?;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("tollgate-cost"), "");
        let after = settled(&ada).await?;
        assert!((before - after - costs).abs() < 1e-9, "{before} {after}");
    }
    let read = ada.get(NOTES).await?.ok();
    assert_eq!(read.body.as_array().map(Vec::len), Some(2));
    assert!((begin - settled(&ada).await? - 6.0).abs() < 1e-9);

    let eve = Person::sign_up_at(rig.edge.clone()).await?;
    assert_eq!(eve.get(NOTES).await?.ok().body, json!([]));
    Ok(())
}

#[tokio::test]
async fn who_has_no_credits_or_no_token_is_told_so_by_the_edge() -> Result<()> {
    let rig = Rig::start().await?;
    let ada = Person::sign_up_at(rig.edge.clone()).await?;
    let all = settled(&ada).await?;
    let spend = json!({"amount": all - 4.0, "appId": "other", "description": "all but four"});
    let _ = ada.post("/api/v1/credits/use", spend).await?.ok();
    let refused = ada.post(NOTES, json!({"text": "one more"})).await?;
    refused.is_problem(402, "INSUFFICIENT_CREDITS");
    assert_eq!(
        (&refused.body["available"], &refused.body["required"]),
        (&json!(4), &json!(5))
    );
    let _ = ada.get(NOTES).await?.ok();
    let nobody = Answer::to(rig.edge.get(NOTES)).await?;
    nobody.is_problem(401, "UNAUTHENTICATED");
    let around = rig.app.get(NOTES).header("tollgate-subject", "ada");
    assert_eq!(Answer::to(around).await?.status, 403);
    assert!((settled(&ada).await? - 4.0).abs() < 1e-9);
    Ok(())
}
