//! `cargo xtask test`: every test there is, beside a stack of its own that is gone afterwards.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Result;
use clap::Args;
use tests::{StripeFake, free_ports};

use crate::{
    browser, edge, logs,
    postgres::Durability,
    queries,
    secrets::Secrets,
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
/// stack in `EDGE_URL`, `ORIGIN_URL`, `ORIGIN_PORTS` and `DATA_DIR`, what its origin checks webhooks with in
/// `STACK_WEBHOOK_SECRET`, the provider that it knows in `STACK_OIDC_PROVIDERS`, what is built in
/// `ORIGIN_PROGRAM` and `SPIN_COMPONENT`, and programs of others in `CHROMIUM`, `PYTHON` and `PROMTOOL`. A test that needs
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
        as_deployed: true,
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
    if passed.as_ref().is_ok_and(|passed| *passed) {
        logs::hold_no_secret(data.path(), &Secrets::load_or_make(data.path())?)?;
    }
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
    let ports: Vec<String> = started.origin_ports.iter().map(u16::to_string).collect();
    let mut told: Vec<(&str, OsString)> = vec![
        ("DATABASE_URL", started.database_url.into()),
        ("EDGE_URL", started.edge_url.into()),
        ("ORIGIN_URL", started.origin_url.into()),
        ("ORIGIN_PORTS", ports.join(",").into()),
        ("DATA_DIR", started.data_dir.into()),
        ("ORIGIN_PROGRAM", tools::origin_program().into()),
        ("SPIN_COMPONENT", component.into()),
        ("STACK_OIDC_PROVIDERS", oidc_providers.into()),
        ("STACK_WEBHOOK_SECRET", STRIPE_WEBHOOK_SECRET.into()),
    ];
    let mut left_out = Vec::new();
    let pooler = started.pooler;
    for (what, is_there) in [
        ("a pooler", pooler.is_some()),
        ("a second origin behind a balancer", ports.len() > 1),
    ] {
        if !is_there {
            say(&format!(
                "testing without {what}: this machine can have none"
            ));
        }
    }
    match started.redis_url {
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
    match tools::of_debian("prometheus", "promtool").await {
        Some(program) => told.push(("PROMTOOL", program.into())),
        None => left_out.push("by_promtool"),
    }
    let cargo = Cargo {
        told,
        left_out,
        pooler,
    };
    if !arguments.is_empty() {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        return beside(stack, cargo.test(&arguments, &[])).await;
    }
    for name in &cargo.left_out {
        say(&format!("leaving out {name}: this machine can not have it"));
    }
    beside(stack, cargo.all()).await?;
    if cargo.left_out.contains(&"by_redis") {
        return beside(stack, cargo.routes()).await;
    }
    say("killing Redis");
    stack.kill_redis().await;
    beside(stack, async {
        cargo.routes().await?;
        cargo.without_redis().await
    })
    .await
}

/// Tests, while all of the stack runs.
async fn beside(stack: &mut Stack, tests: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        tested = tests => tested,
        ended = stack.ended() => Err(ended),
    }
}

/// How tests are run.
struct Cargo {
    /// What they are told.
    told: Vec<(&'static str, OsString)>,
    /// Words in the names of those that this machine cannot run.
    left_out: Vec<&'static str>,
    /// Where a pooler listens.
    pooler: Option<String>,
}

impl Cargo {
    async fn all(&self) -> Result<()> {
        for package in PACKAGES {
            let arguments = ["--package", package, "--"];
            self.test(&self.skipping(&arguments), &[]).await?;
        }
        Ok(())
    }

    /// The routes once more, by the pooler and with a Redis where nobody answers.
    async fn routes(&self) -> Result<()> {
        let routes = ["--package", "origin", "--test", "it", "--"];
        let mut told = vec![("TEST_REDIS", "redis://127.0.0.1:1")];
        told.extend(self.pooler.as_deref().map(|place| ("TEST_POOLER", place)));
        self.test(&self.skipping(&routes), &told).await
    }

    /// The stack once more, whose Redis is gone. Origins that a test starts for itself never had one.
    async fn without_redis(&self) -> Result<()> {
        let stack = ["--package", "tests", "--test", "e2e", "--"];
        let mut stack = self.skipping(&stack);
        for twins in [
            "by_redis", "bursts", "guessing", "rotation", "tracing", "schema",
        ] {
            stack.extend(["--skip", twins]);
        }
        self.test(&stack, &[]).await
    }

    fn skipping<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let skips = self.left_out.iter().flat_map(|name| ["--skip", name]);
        arguments.iter().copied().chain(skips).collect()
    }

    async fn test(&self, arguments: &[&str], told: &[(&str, &str)]) -> Result<()> {
        let mut cargo = tools::cargo(&["test"]);
        cargo.args(arguments).envs(self.told.iter().cloned());
        tools::run(cargo.envs(told.iter().copied())).await
    }
}
