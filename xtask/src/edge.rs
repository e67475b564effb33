//! Makes the edge's worker: `edge/build/edge.js` and `edge/build/edge_bg.wasm`, which
//! `edge/entry.mjs` imports.
//!
//! The steps are those of `worker-build`, with wasm-bindgen as a library at the version of
//! `Cargo.lock` and wasm-opt from npm, so that nothing is downloaded but packages.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use wasm_bindgen_cli_support::Bindgen;

use crate::tools;

/// The worker's target.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// The target of the Spin component.
pub const WASI: &str = "wasm32-wasip2";

/// Small functions: workerd compiles a function when it is first called, and well only later if ever, so
/// what is inlined into one is waited for by the first request and paid room on the stack by all. Against
/// `opt-level = 3` as many requests a second, and an isolate starts 2 ms sooner.
const PROFILE: &str = "profile.release.opt-level=\"s\"";
/// What wasm-opt does with the outcome.
const OPTIMISE: &str = "-O3";
/// What a deployment may have of Wasm, compressed; it is loaded by every isolate that starts.
const MAX_GZIPPED_BYTES: usize = 350_000;
/// The top level of `wrangler.toml`, and the environments that it has.
const ENVIRONMENTS: [&str; 3] = ["", "staging", "production"];

/// Builds the worker, unless the same code was built before, and prints its size.
pub async fn build() -> Result<()> {
    tools::add_rust_target(TARGET).await?;
    tools::install_node_modules().await?;
    let mut cargo = tools::cargo(&["build", "--release", "--package", "edge"]);
    tools::run(cargo.args(["--target", TARGET, "--config", PROFILE])).await?;

    let compiled = tools::target_dir().join(TARGET).join("release/edge.wasm");
    let code = fs::read(&compiled).with_context(|| format!("no {}", compiled.display()))?;
    let recipe = Sha256::new()
        .chain_update(OPTIMISE)
        .chain_update(&code)
        .finalize();
    let stamp = folder().join("built-from");
    if fs::read(&stamp).is_ok_and(|earlier| earlier == recipe[..]) {
        return Ok(());
    }
    if folder().exists() {
        fs::remove_dir_all(folder())?;
    }
    bind(&compiled)?;
    let wasm = wasm();
    let mut optimise = tools::node_tool("wasm-opt");
    optimise.arg(OPTIMISE).arg(&wasm).arg("-o").arg(&wasm);
    tools::run(&mut optimise).await?;
    fs::write(stamp, recipe)?;
    let size = fs::metadata(&wasm)?.len();
    println!(
        "edge_bg.wasm: {} KB, {} KB gzipped",
        size / 1000,
        gzipped_bytes()? / 1000
    );
    Ok(())
}

/// Goes through the deployment to each environment, up to what would be sent; needs no network.
pub async fn rehearse() -> Result<()> {
    tools::install_node_modules().await?;
    let deploy = tools::target_dir().join("deploy");
    for environment in ENVIRONMENTS {
        let mut wrangler = tools::wrangler(&deploy.join("logs"));
        wrangler
            .args(["deploy", "--dry-run", "--env", environment, "--outdir"])
            .arg(deploy.join("tollgate").join(environment));
        tools::run(&mut wrangler).await?;
    }
    let size = gzipped_bytes()?;
    ensure!(
        size <= MAX_GZIPPED_BYTES,
        "the edge's Wasm is {size} bytes gzipped, and {MAX_GZIPPED_BYTES} is the most"
    );
    Ok(())
}

/// Builds the Spin component, as `spin.toml` does, and returns its path.
pub async fn build_component() -> Result<PathBuf> {
    tools::add_rust_target(WASI).await?;
    let mut cargo = tools::cargo(&["build", "--release", "--package", "edge"]);
    tools::run(cargo.args(["--target", WASI])).await?;
    Ok(tools::target_dir().join(WASI).join("release/edge.wasm"))
}

/// How many bytes of Wasm a deployment sends, compressed as Cloudflare counts them.
pub fn gzipped_bytes() -> Result<usize> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&fs::read(wasm())?)?;
    Ok(gzip.finish()?.len())
}

/// Splits what rustc made into Wasm that a host loads and the JavaScript that it calls.
fn bind(compiled: &Path) -> Result<()> {
    let mut bindgen = Bindgen::new();
    bindgen
        .input_path(compiled)
        .web(true)?
        // The entry hands the module over; there is nothing to fetch.
        .omit_default_module_path(true)
        // After a panic the entry starts the module afresh.
        .reset_state_function(true)
        .typescript(false);
    bindgen.generate(folder())
}

fn folder() -> PathBuf {
    tools::root().join("edge/build")
}

fn wasm() -> PathBuf {
    folder().join("edge_bg.wasm")
}
