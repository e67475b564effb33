//! `bench limits`: how many requests of one address a quota admits that is counted in isolates alone, for
//! there is no goal but to know it.

use anyhow::Result;
use tests::{Issuer, Script, Worker};
use tokio::task::block_in_place;

use super::{
    Figure,
    load::{Connection, open, serve_origin},
};
use crate::edge;

const QUOTA: u32 = 300;
/// Past what an isolate keeps of other addresses, 2 × 16,384.
const OTHERS: u32 = 40_000;

/// Asks isolates in turn for as much as they admit.
pub async fn measure() -> Result<Vec<Figure>> {
    edge::build().await?;
    let issuer = Issuer::new("http://127.0.0.1", 7);
    let origin = serve_origin(serde_json::to_string(&issuer.jwks())?)?;
    // A day, so that nothing refills meanwhile.
    let policy = toml::toml! {
        routes = []
        [shield]
        quota = 300
        period = 86400
    };
    let script = Script::edge(issuer.url(), &format!("http://{origin}"))?.var("POLICY", policy);
    let mut figures = Vec::new();
    for isolates in [1, 2, 4] {
        let mut workers = Vec::new();
        for _ in 0..isolates {
            workers.push(Worker::start(&script).await?);
        }
        let case = format!("{isolates} isolates in turn");
        figures.push(figure(case, block_in_place(|| admitted(&workers))?));
    }
    let worker = [Worker::start(&script).await?];
    let twice = block_in_place(|| {
        let first = admitted(&worker)?;
        let [other] = &mut connections(&worker)?[..] else {
            unreachable!("one worker has one connection");
        };
        for number in 0..OTHERS {
            let [_, _, c, d] = number.to_be_bytes();
            let block = number >> 16;
            other.ask(asks(&format!("10.{block}.{c}.{d}")).as_bytes())?;
        }
        anyhow::Ok(first + admitted(&worker)?)
    })?;
    let case = format!("1 isolate, {OTHERS} others between");
    figures.push(figure(case, twice));
    Ok(figures)
}

/// How many of an address are admitted, who asks the workers in turn until each has refused.
fn admitted(workers: &[Worker]) -> Result<u32> {
    let mut connections = connections(workers)?;
    let request = asks("192.0.2.1");
    let mut admitted = 0;
    loop {
        let mut refused = 0;
        for connection in &mut connections {
            match connection.ask(request.as_bytes())?.status {
                429 => refused += 1,
                _ => admitted += 1,
            }
        }
        if refused == workers.len() {
            return Ok(admitted);
        }
    }
}

fn connections(workers: &[Worker]) -> Result<Vec<Connection>> {
    let mut all = Vec::new();
    for worker in workers {
        all.extend(open(worker.url.trim_start_matches("http://"), 1)?);
    }
    Ok(all)
}

fn asks(address: &str) -> String {
    format!("GET /health HTTP/1.1\r\nhost: bench\r\ncf-connecting-ip: {address}\r\n\r\n")
}

fn figure(case: String, admitted: u32) -> Figure {
    let (ours, theirs) = (f64::from(admitted), f64::from(QUOTA));
    Figure {
        bench: "limits",
        case,
        unit: "admitted",
        ours,
        peer: "quota",
        theirs,
        ratio: ours / theirs,
        goal: None,
    }
}
