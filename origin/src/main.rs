//! The command line: serves, or does what `commands` has.

mod commands;

use std::{
    io::{self, IsTerminal, stderr, stdout},
    net::SocketAddr,
    sync::atomic::Ordering,
};

use anyhow::Context;
use axum::Router;
use clap::{CommandFactory, Parser, error::ErrorKind};
use mimalloc::MiMalloc;
use origin::{
    App, DEADLINE, clear_words,
    cli::{Cli, Task},
    config::Config,
    health, mail, oidc, revocations, rim, router, security_events, telemetry, traces,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task,
    time::timeout,
};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use commands::{Tell, migrate};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { task, json } = Cli::parse();
    let Task::Serve(config) = task else {
        log_to(stderr, json, None);
        return commands::run(task, Tell { json }).await;
    };
    let endpoint = config.otel_exporter_otlp_endpoint.as_ref();
    let traces = endpoint.map(traces::begin).transpose();
    let traces = traces.context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    log_to(stdout, json, traces.as_ref());
    let served = serve(*config).await;
    if let Some(traces) = traces {
        // The last of them; nobody may be there to take them.
        task::spawn_blocking(move || traces.shutdown()).await?.ok();
    }
    served
}

/// Lines for people at a terminal, JSON elsewhere; `LOG_FORMAT` overrides, `RUST_LOG` filters.
fn log_to<W: io::Write + 'static>(
    writer: fn() -> W,
    json: bool,
    traces: Option<&traces::Provider>,
) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let format = std::env::var("LOG_FORMAT").ok();
    let lines = format.map_or_else(|| stdout().is_terminal(), |format| format != "json") && !json;
    let log = tracing_subscriber::fmt::layer().with_writer(writer);
    let log = if lines {
        log.boxed()
    } else {
        log.json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry()
        .with(log.with_filter(filter))
        .with(traces.map(traces::layer))
        .init();
}

async fn serve(config: Config) -> anyhow::Result<()> {
    if let Err(why) = config.check() {
        Cli::command().error(ErrorKind::ValueValidation, why).exit();
    }
    migrate(&config.database).await?;
    let (public, private) = (config.listen, config.private_listen);
    let numbers = telemetry::start().context("starting the metrics")?;
    let app = App::new(config)?;
    app.keys
        .reload(app.db.pool(), rim::now())
        .await
        .context("loading the signing keys")?;
    revocations::catch_up(&app, &mut app.db.connect().await?)
        .await
        .context("loading the revocations")?;
    tokio::spawn(app.clone().tend_keys());
    tokio::spawn(app.clone().tend_accounts());
    tokio::spawn(clear_words(app.clone()));
    tokio::spawn(revocations::follow(app.clone()));
    tokio::spawn(security_events::tend(app.clone()));
    tokio::spawn(oidc::tend(app.clone()));
    tokio::spawn(oidc::tell(app.clone()));
    tokio::spawn(mail::watch(app.clone()));
    for _ in 0..mail::SENDERS {
        tokio::spawn(mail::tend(app.clone()));
    }
    tokio::spawn(app.ledger.clone().tend());
    tokio::spawn(app.ledger.clone().verify_daily());
    let last = app.clone();
    let private_router = health::router(app.clone()).merge(telemetry::router(app.clone(), numbers));
    tokio::try_join!(
        listen("public", public, router(app.clone()), stopped(&app)),
        listen("private", private, private_router, stopped(&app))
    )?;
    // Those whose clients are gone are still under way.
    last.requests.close();
    let _ = timeout(DEADLINE, last.requests.wait()).await;
    last.ledger.drain().await;
    Ok(())
}

/// Serves until told to stop, then finishes what it has begun.
async fn listen(
    port: &str,
    address: SocketAddr,
    router: Router,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, port, "listening");
    axum::serve(
        listener,
        router.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(stopped)
    .await?;
    Ok(())
}

/// Ends when connections may close: some time after the first signal, in which balancers see that it is not
/// ready and look elsewhere, or with the second.
fn stopped(app: &App) -> impl Future<Output = ()> + Send + 'static {
    let app = app.clone();
    async move {
        let listen_for = |kind| signal(kind).expect("signals can be listened for");
        let mut terminate = listen_for(SignalKind::terminate());
        let mut interrupt = listen_for(SignalKind::interrupt());
        let mut told = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        told().await;
        app.stopping.store(true, Ordering::Relaxed);
        tokio::select! {
            () = tokio::time::sleep(app.config.shutdown_delay) => {}
            () = told() => {}
        }
    }
}
