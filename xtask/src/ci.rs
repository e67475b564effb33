//! `cargo xtask ci`: what must hold before a change lands.

use anyhow::Result;

use crate::{
    edge,
    steps::Steps,
    supply,
    test::{self, Tests},
    tidy, tools,
};

/// Formatting, lints, the rules of [`tidy`], dependencies, documentation, the deployments, every test, and the seeds
/// of fuzzing.
pub async fn ci() -> Result<()> {
    let mut steps = Steps::of(10);
    steps
        .step("formatting", cargo(&["fmt", "--all", "--check"]))
        .await?;
    steps.step("tidiness", async { tidy::tidy() }).await?;
    let native = cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    steps.step("lints", native).await?;
    for target in [edge::TARGET, edge::WASI] {
        let lints = async {
            tools::add_rust_target(target).await?;
            let packages = ["--package=edge", "--package=shared", "--target", target];
            let mut clippy = tools::cargo(&["clippy"]);
            tools::run(clippy.args(packages).args(["--", "-D", "warnings"])).await
        };
        steps.step(&format!("lints for {target}"), lints).await?;
    }
    steps
        .step("licences and sources", supply::allowed())
        .await?;
    let documentation = async {
        let mut doc = tools::cargo(&["doc", "--workspace", "--no-deps"]);
        tools::run(doc.env("RUSTDOCFLAGS", "-D warnings")).await
    };
    steps.step("documentation", documentation).await?;
    steps
        .step("deployments, as dry runs", edge::rehearse())
        .await?;
    steps.step("tests", test::test(Tests::default())).await?;
    steps.step("fuzzing's seeds", fuzz_seeds()).await
}

/// The fuzz targets, a workspace of their own, without what needs nightly or C++.
async fn fuzz_seeds() -> Result<()> {
    let manifest = ["--manifest-path", "fuzz/Cargo.toml"];
    tools::run(tools::cargo(&["fmt", "--check"]).args(manifest)).await?;
    let mut test = tools::cargo(&["test", "--all-targets", "--locked", "--no-default-features"]);
    test.args(manifest)
        .arg("--target-dir")
        .arg(tools::target_dir());
    tools::run(&mut test).await
}

async fn cargo(arguments: &[&str]) -> Result<()> {
    tools::run(&mut tools::cargo(arguments)).await
}
