//! `cargo xtask test`: every test there is, beside a stack of its own that is gone afterwards.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;
use clap::Args;
use tests::{StripeFake, free_ports};

use crate::{
    browser, edge,
    postgres::Durability,
    queries,
    stack::{Settings, Stack},
    steps::say,
    tools,
    torture::{Torture, torture},
    up,
};

/// In the order in which a mistake is best found. Each is built by itself, as it is when it is
/// run: together they would be built anew, with the features of all.
const PACKAGES: [&str; 5] = ["shared", "edge", "origin", "xtask", "tests"];

/// What the stack's origin and its Stripe know each other by.
const STRIPE_KEY: &str = "sk_test_stack";
const STRIPE_WEBHOOK_SECRET: &str = "whsec_stack";

/// What the stack's origin is told of the provider that a test starts on `port`.
fn oidc_providers(port: u16) -> String {
    let issuer = format!("http://127.0.0.1:{port}");
    format!(
        r#"[{{"id": "acme", "issuer": "{issuer}", "clientId": "tollgate", "clientSecret": "not a secret + 100%"}}]"#
    )
}

/// What to test.
#[derive(Args, Default)]
pub struct Tests {
    /// For one `cargo test` instead of one a package: `-p tests`, a filter, `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the tests of the workspace. They find a superuser's `DATABASE_URL`, a `REDIS_URL`, the
/// stack in `EDGE_URL`, `ORIGIN_URL` and `DATA_DIR`, what its origin checks webhooks with in
/// `STACK_WEBHOOK_SECRET`, the provider that it knows in `STACK_OIDC_PROVIDERS`, what is built in
/// `ORIGIN_PROGRAM` and `SPIN_COMPONENT`, and programs of others in `CHROMIUM` and `PYTHON`. A test that needs
/// what a machine may not have says so in its name.
pub async fn test(tests: Tests) -> Result<()> {
    say("checking what .sqlx says of the queries");
    queries::check().await?;
    say("building the edge as a Spin component");
    let component = edge::build_component().await?;
    let data = tempfile::tempdir()?;
    let [edge_port, origin_port] = free_ports()?;
    let [provider_port, _] = free_ports()?;
    let oidc_providers = oidc_providers(provider_port);
    let stripe = StripeFake::start(STRIPE_KEY, STRIPE_WEBHOOK_SECRET).await?;
    let mut stack = Stack::open(Settings {
        edge_port,
        origin_port,
        data_dir: data.path().to_owned(),
        limit_scale: 1_000,
        policy: None,
        database_url: None,
        durability: Durability::None,
        origin_env: vec![
            ("STRIPE_SECRET_KEY", STRIPE_KEY.to_owned()),
            ("STRIPE_WEBHOOK_SECRET", STRIPE_WEBHOOK_SECRET.to_owned()),
            ("STRIPE_API_BASE", stripe.url.clone()),
            ("OIDC_PROVIDERS", oidc_providers.clone()),
        ],
    })
    .await?;
    let passed = tokio::select! {
        ended = run(&mut stack, component, &oidc_providers, &tests.arguments) => ended.map(|()| true),
        told = up::told_to_stop() => told.map(|()| false),
    };
    stack.stop().await;
    if passed? && tests.arguments.is_empty() {
        torture(Torture::SHORT).await?;
    }
    Ok(())
}

async fn run(
    stack: &mut Stack,
    component: PathBuf,
    oidc_providers: &str,
    arguments: &[String],
) -> Result<()> {
    let started = stack.start().await?;
    let mut told: Vec<(&str, OsString)> = vec![
        ("DATABASE_URL", started.database_url.into()),
        ("EDGE_URL", started.edge_url.into()),
        ("ORIGIN_URL", started.origin_url.into()),
        ("DATA_DIR", started.data_dir.into()),
        ("ORIGIN_PROGRAM", tools::origin_program().into()),
        ("SPIN_COMPONENT", component.into()),
        ("STACK_OIDC_PROVIDERS", oidc_providers.into()),
        ("STACK_WEBHOOK_SECRET", STRIPE_WEBHOOK_SECRET.into()),
    ];
    let mut left_out = Vec::new();
    match stack.start_redis().await? {
        Some(url) => told.push(("REDIS_URL", url.into())),
        None => left_out.push("by_redis"),
    }
    match browser::chromium().await {
        Some(program) => told.push(("CHROMIUM", program.into())),
        None => left_out.push("in_a_browser"),
    }
    match browser::python().await {
        Some(program) => told.push(("PYTHON", program.into())),
        None => left_out.push("by_python"),
    }
    tokio::select! {
        tested = cargo_tests(&told, &left_out, arguments) => tested,
        ended = stack.ended() => Err(ended),
    }
}

async fn cargo_tests(
    told: &[(&str, OsString)],
    left_out: &[&str],
    arguments: &[String],
) -> Result<()> {
    let test = async |arguments: &[&str]| {
        let mut cargo = tools::cargo(&["test"]);
        tools::run(cargo.args(arguments).envs(told.iter().cloned())).await
    };
    if !arguments.is_empty() {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        return test(&arguments).await;
    }
    for name in left_out {
        say(&format!("leaving out {name}: this machine can not have it"));
    }
    for package in PACKAGES {
        let skips = left_out.iter().flat_map(|name| ["--skip", name]);
        let arguments = ["--package", package, "--"].into_iter().chain(skips);
        test(&arguments.collect::<Vec<_>>()).await?;
    }
    Ok(())
}
