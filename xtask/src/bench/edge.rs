//! `bench edge`: our worker beside hono + jose, which is what people use today, and beside
//! JavaScript that does nothing, which is the most that workerd can do.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tests::{Issuer, Script, Worker};
use tokio::task::block_in_place;

use super::{
    Figure, Goal,
    load::{drive, get, serve_origin},
    median,
};
use crate::{edge, tools};

const ROUNDS: usize = 3;
const TOKENS: usize = 2_000;
/// More than any contestant verifies in a second.
const COLD_TOKENS_PER_SECOND: usize = 12_000;
const MAX_GZIPPED_KB: f64 = 300.0;

const VALIDATE: &str = "/api/v1/auth/validate";
const FORWARDED: &str = "/api/v1/credits/balance";

/// Runs every case.
pub async fn measure(seconds: u64) -> Result<Vec<Figure>> {
    edge::build().await?;
    let issuer = Issuer::new("http://127.0.0.1", 7);
    let field = Field::start(&issuer).await?;
    let round = Duration::from_secs(seconds);
    let mut figures = Vec::new();
    block_in_place(|| {
        figures.extend(warm(&field, &issuer, round)?);
        figures.push(cold(&field, &issuer, round)?);
        figures.push(forward(&field, &issuer, round)?);
        figures.push(size()?);
        Ok(figures)
    })
}

/// Every token was seen before.
fn warm(field: &Field, issuer: &Issuer, round: Duration) -> Result<[Figure; 2]> {
    eprintln!("warm: {TOKENS} tokens that were seen before");
    let requests = requests(issuer, VALIDATE, TOKENS);
    let contestants = [&field.ours, &field.hono_jose, &field.hello];
    for worker in contestants {
        drive(address(worker), &requests, 1, Duration::MAX)?;
    }
    let [ours, hono_jose, hello] = take_turns(contestants, |worker, _| {
        drive(address(worker), &requests, usize::MAX, round)
    })?;
    Ok([
        against("warm", ours, "hono+jose", hono_jose, 2.0),
        against("warm", ours, "hello", hello, 0.6),
    ])
}

/// No token was seen before.
fn cold(field: &Field, issuer: &Issuer, round: Duration) -> Result<Figure> {
    let count = COLD_TOKENS_PER_SECOND * usize::try_from(round.as_secs())?;
    eprintln!("cold: {count} new tokens a round");
    let requests: Vec<_> = (0..ROUNDS)
        .map(|_| requests(issuer, VALIDATE, count))
        .collect();
    let [ours, hono_jose] = take_turns([&field.ours, &field.hono_jose], |worker, turn| {
        drive(address(worker), &requests[turn], 1, round)
    })?;
    Ok(against("cold", ours, "hono+jose", hono_jose, 1.1))
}

/// Handed on to an origin that does next to nothing.
fn forward(field: &Field, issuer: &Issuer, round: Duration) -> Result<Figure> {
    eprintln!("forward: with tokens that were seen before");
    let requests = requests(issuer, FORWARDED, TOKENS);
    let contestants = [&field.ours, &field.hono_jose, &field.forward];
    for worker in contestants {
        drive(address(worker), &requests, 1, Duration::MAX)?;
    }
    let [ours, hono_jose, _bare] = take_turns(contestants, |worker, _| {
        drive(address(worker), &requests, usize::MAX, round)
    })?;
    Ok(against("forward", ours, "hono+jose", hono_jose, 1.0))
}

fn size() -> Result<Figure> {
    let ours = f64::from(u32::try_from(edge::gzipped_bytes()?)?) / 1000.0;
    Ok(Figure {
        bench: "edge",
        case: "size".to_owned(),
        unit: "KB of gzipped Wasm",
        ours,
        peer: "limit",
        theirs: MAX_GZIPPED_KB,
        ratio: ours / MAX_GZIPPED_KB,
        goal: Some(Goal::AtMost(1.0)),
    })
}

/// Who takes part; all of them run all the time.
struct Field {
    ours: Worker,
    hono_jose: Worker,
    hello: Worker,
    forward: Worker,
    _bundles: TempDir,
}

impl Field {
    async fn start(issuer: &Issuer) -> Result<Self> {
        let origin = format!(
            "http://{}",
            serve_origin(serde_json::to_string(&issuer.jwks())?)?
        );
        let bundles = tempfile::tempdir()?;
        for name in ["hello", "forward", "hono-jose"] {
            bundle(name, bundles.path()).await?;
        }
        let peer = |name: &str| {
            Script::new(&bundles.path().join(name), "worker.mjs")
                .var("PUBLIC_URL", issuer.url())
                .var("ORIGIN_URL", origin.as_str())
                .var("TOKEN_AUDIENCE", "tollgate")
        };
        let ours = Script::edge(issuer.url(), &origin)?.var("LIMIT_SCALE", "1000000");
        Ok(Self {
            ours: Worker::start(&ours).await?,
            hono_jose: Worker::start(&peer("hono-jose")).await?,
            hello: Worker::start(&peer("hello")).await?,
            forward: Worker::start(&peer("forward")).await?,
            _bundles: bundles,
        })
    }
}

/// Makes one module of `xtask/bench/<name>.mjs` and what it imports, as Wrangler would.
async fn bundle(name: &str, to: &Path) -> Result<()> {
    let folder = to.join(name);
    fs::create_dir(&folder)?;
    let mut esbuild = tools::node_tool("esbuild");
    esbuild
        .arg(format!("xtask/bench/{name}.mjs"))
        .args(["--bundle", "--format=esm", "--minify", "--log-level=error"])
        .args(["--conditions=workerd,worker,browser"])
        .arg(format!("--outfile={}", folder.join("worker.mjs").display()));
    tools::run(&mut esbuild).await
}

/// Measures each contestant once a round and returns their medians.
fn take_turns<const N: usize>(
    contestants: [&Worker; N],
    measure: impl Fn(&Worker, usize) -> Result<f64>,
) -> Result<[f64; N]> {
    let mut rates = [[0.0; ROUNDS]; N];
    for turn in 0..ROUNDS {
        for (worker, rates) in contestants.iter().zip(&mut rates) {
            rates[turn] = measure(worker, turn).with_context(|| worker.log())?;
        }
    }
    Ok(rates.map(|rates| median(rates.to_vec())))
}

fn against(case: &str, ours: f64, peer: &'static str, theirs: f64, goal: f64) -> Figure {
    Figure {
        bench: "edge",
        case: case.to_owned(),
        unit: "requests/s",
        ours,
        peer,
        theirs,
        ratio: ours / theirs,
        goal: Some(Goal::AtLeast(goal)),
    }
}

fn requests(issuer: &Issuer, path: &str, count: usize) -> Vec<String> {
    (0..count).map(|_| get(path, &issuer.token())).collect()
}

fn address(worker: &Worker) -> &str {
    worker.url.trim_start_matches("http://")
}
