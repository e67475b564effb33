//! A request is one trace from the edge to the database, for whoever gathers traces.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use axum::{Router, body::Bytes, extract::State, routing::post};
use tests::Client;
use tokio::net::TcpListener;

use crate::{
    rig::{Person, until},
    twin::Twin,
};

const BALANCE: &str = "/api/v1/credits/balance";

type Gathered = Arc<Mutex<Vec<u8>>>;

/// Gathers all that is sent to it, as it came (OTLP over HTTP, protobuf).
async fn gather() -> Result<(String, Gathered)> {
    let gathered = Gathered::default();
    let keep = async |State(all): State<Gathered>, body: Bytes| {
        all.lock().expect("no panic").extend_from_slice(&body);
    };
    let router = Router::new().route("/v1/traces", post(keep));
    let router = router.with_state(gathered.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((url, gathered))
}

fn has(all: &Gathered, part: &[u8]) -> bool {
    let all = all.lock().expect("no panic");
    all.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn a_request_is_one_trace_from_the_edge_to_the_database() -> Result<()> {
    let (url, gathered) = gather().await?;
    let told = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        // In milliseconds: spans are sent together.
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let twin = Twin::start(1_000, &told).await?;
    let ada = Person::sign_up_at(twin.edge.clone()).await?;
    let answer = ada.get(BALANCE).await?.ok();
    // A trace that nobody has begun is called as the request is.
    let id = answer.header("tollgate-request-id").replace('-', "");
    let id = hex::decode(&id).context(id)?;
    until("the trace is gathered", async || has(&gathered, &id)).await;

    // One that the client has begun goes on.
    let theirs = [0xab; 16];
    let parent = format!("00-{}-00f067aa0ba902b7-01", hex::encode(theirs));
    let asked = Client::new(&twin.edge.url(""));
    let asked = asked.get(BALANCE).bearer_auth(&ada.access);
    asked.header("traceparent", parent).send().await?;
    until("their trace is gathered", async || has(&gathered, &theirs)).await;

    for part in [
        "GET /api/v1/credits/balance",
        "tollgate-origin",
        "sqlx::",
        "SELECT",
    ] {
        assert!(has(&gathered, part.as_bytes()), "{part}");
    }
    for secret in [&ada.access, &ada.refresh, &ada.email] {
        assert!(!has(&gathered, secret.as_bytes()), "{secret}");
    }
    Ok(())
}
