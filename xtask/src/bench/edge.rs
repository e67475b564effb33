//! `bench edge`: our worker beside hono + jose, which is what people use today, and beside
//! JavaScript that does nothing, which is the most that workerd can do.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tempfile::TempDir;
use tests::{Issuer, Script, Worker};
use tokio::task::block_in_place;

use super::{
    Figure, Goal,
    load::{drive, drive_at, get, serve_origin, upload},
    median,
};
use crate::{edge, tools};

const ROUNDS: usize = 5;
pub const TOKENS: usize = 2_000;
/// More than any contestant verifies in a second.
const COLD_TOKENS_PER_SECOND: usize = 12_000;
const MAX_GZIPPED_KB: f64 = 350.0;
/// How many milliseconds later than a bare one an isolate may give its first answer.
const MAX_START_MILLIS: f64 = 10.0;
const STARTS: usize = 9;
/// How much longer than a bare one's the slowest answer but one in a hundred may take, in milliseconds.
const MAX_ADDED_MILLIS: f64 = 1.0;
const UPLOAD_BYTES: usize = 100 * 1_024 * 1_024;
/// How much memory a worker may take for an upload, in MiB.
const MAX_UPLOAD_MIB: f64 = 2.0;

pub const VALIDATE: &str = "/api/v1/auth/validate";
const FORWARDED: &str = "/api/v1/credits/balance";
const APP: &str = "/app/anything";
const APP_KEY: &str = "app:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

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
        figures.extend(forward(&field, &issuer, round)?);
        figures.extend(uploads(&field, &issuer)?);
        figures.push(size()?);
        anyhow::Ok(())
    })?;
    figures.push(start(&field, &issuer).await?);
    Ok(figures)
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
        drive(address(worker), &requests, usize::MAX, round).with_context(|| worker.log())
    })?;
    Ok([
        against("warm", ours, "hono+jose", hono_jose, 2.5),
        against("warm", ours, "hello", hello, 0.75),
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
        drive(address(worker), &requests[turn], 1, round).with_context(|| worker.log())
    })?;
    Ok(against("cold", ours, "hono+jose", hono_jose, 1.3))
}

/// Handed on, with tokens that were seen before, to an origin and an app that do next to nothing.
fn forward(field: &Field, issuer: &Issuer, round: Duration) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (case, path) in [
        ("forward to the origin", FORWARDED),
        ("forward to an app", APP),
    ] {
        eprintln!("{case}");
        let requests = requests(issuer, path, TOKENS);
        let contestants = [&field.ours, &field.hono_jose, &field.forward];
        for worker in contestants {
            drive(address(worker), &requests, 1, Duration::MAX)?;
        }
        let [ours, hono_jose, bare] = take_turns(contestants, |worker, _| {
            drive(address(worker), &requests, usize::MAX, round)
        })?;
        figures.push(against(case, ours, "hono+jose", hono_jose, 1.0));
        figures.push(against(case, ours, "bare forwarding", bare, 0.85));
        let half = ours.min(bare) / 2.0;
        let contestants = [&field.ours, &field.forward];
        let [ours, bare] = take_turns(contestants, |worker, _| {
            let slowest = drive_at(address(worker), &requests, half, round);
            Ok(slowest.with_context(|| worker.log())?.as_secs_f64() * 1_000.0)
        })?;
        figures.push(within(
            &format!("{case}, p99 at half load over bare's"),
            ours - bare,
            MAX_ADDED_MILLIS,
            "ms",
        ));
    }
    Ok(figures)
}

/// A large body, handed on to an app.
fn uploads(field: &Field, issuer: &Issuer) -> Result<[Figure; 2]> {
    eprintln!("uploads of 100 MB");
    let token = issuer.token();
    let contestants = [&field.ours, &field.forward];
    // The first of each finds buffers that are not there yet.
    for worker in contestants {
        upload(address(worker), APP, &token, UPLOAD_BYTES)?;
    }
    let before = field.ours.resident_bytes()?;
    let is_over = AtomicBool::new(false);
    let ([ours, bare], most) = thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = before;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(field.ours.resident_bytes()?);
                thread::sleep(Duration::from_millis(5));
            }
            anyhow::Ok(most)
        });
        let rates = take_turns(contestants, |worker, _| {
            upload(address(worker), APP, &token, UPLOAD_BYTES)
        });
        is_over.store(true, Ordering::Relaxed);
        anyhow::Ok((rates?, most.join().expect("it does not panic")?))
    })?;
    let grown = f64::from(u32::try_from(most - before)?) / 1_048_576.0;
    Ok([
        Figure {
            unit: "MB/s",
            ours: ours / 1e6,
            theirs: bare / 1e6,
            ..against("upload", ours, "bare forwarding", bare, 0.9)
        },
        within("memory for an upload", grown, MAX_UPLOAD_MIB, "MiB"),
    ])
}

/// Until an isolate's first answer, beside one that does nothing.
async fn start(field: &Field, issuer: &Issuer) -> Result<Figure> {
    eprintln!("the first answer of {STARTS} isolates");
    let health = get("/health", &issuer.token());
    let mut waits = [Vec::new(), Vec::new()];
    for _ in 0..STARTS {
        for (script, waits) in [&field.scripts.0, &field.scripts.1]
            .into_iter()
            .zip(&mut waits)
        {
            let worker = Worker::start(script).await?;
            let begun = Instant::now();
            block_in_place(|| {
                drive(
                    address(&worker),
                    std::slice::from_ref(&health),
                    1,
                    Duration::MAX,
                )
            })?;
            waits.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    let [ours, hello] = waits.map(median);
    Ok(within(
        "an isolate's first answer, later than hello's",
        ours - hello,
        MAX_START_MILLIS,
        "ms",
    ))
}

fn within(case: &str, ours: f64, limit: f64, unit: &'static str) -> Figure {
    Figure {
        bench: "edge",
        case: case.to_owned(),
        unit,
        ours,
        peer: "limit",
        theirs: limit,
        ratio: ours / limit,
        goal: Some(Goal::AtMost(1.0)),
    }
}

fn size() -> Result<Figure> {
    let ours = f64::from(u32::try_from(edge::gzipped_bytes()?)?) / 1000.0;
    Ok(within("size", ours, MAX_GZIPPED_KB, "KB of gzipped Wasm"))
}

/// Who takes part; all of them run all the time.
struct Field {
    ours: Worker,
    hono_jose: Worker,
    hello: Worker,
    forward: Worker,
    /// Ours, and the one that does nothing.
    scripts: (Script, Script),
    _bundles: TempDir,
}

impl Field {
    async fn start(issuer: &Issuer) -> Result<Self> {
        let origin = format!(
            "http://{}",
            serve_origin(serde_json::to_string(&issuer.jwks())?)?
        );
        let app = format!("http://{}", serve_origin(String::new())?);
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
        let policy = toml::toml! {
            [upstreams.app]
            url = "APP"

            [[routes]]
            path = "/app/{*rest}"
            methods = ["GET", "POST"]
            upstream = "app"
            auth = "required"
            limits = ["user"]
        };
        let mut policy = toml::Value::Table(policy);
        policy["upstreams"]["app"]["url"] = app.into();
        let ours = Script::edge(issuer.url(), &origin)?
            .var("LIMIT_SCALE", "1000000")
            .var("POLICY", policy)
            .var("UPSTREAM_PROOF_KEYS", APP_KEY);
        Ok(Self {
            ours: Worker::start(&ours).await?,
            hono_jose: Worker::start(&peer("hono-jose")).await?,
            hello: Worker::start(&peer("hello")).await?,
            forward: Worker::start(&peer("forward")).await?,
            scripts: (ours, peer("hello")),
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
pub fn take_turns<T: Copy, const N: usize>(
    contestants: [T; N],
    measure: impl Fn(T, usize) -> Result<f64>,
) -> Result<[f64; N]> {
    let mut rates = [[0.0; ROUNDS]; N];
    for turn in 0..ROUNDS {
        for (contestant, rates) in contestants.into_iter().zip(&mut rates) {
            rates[turn] = measure(contestant, turn)?;
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

pub fn requests(issuer: &Issuer, path: &str, count: usize) -> Vec<String> {
    (0..count).map(|_| get(path, &issuer.token())).collect()
}

fn address(worker: &Worker) -> &str {
    worker.url.trim_start_matches("http://")
}
