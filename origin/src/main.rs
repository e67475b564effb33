//! The command line: serve, migrate, look after keys and packages.

use std::{
    fs::File,
    io::{BufReader, IsTerminal, stdout},
    net::SocketAddr,
    path::Path,
};

use anyhow::Context;
use axum::Router;
use clap::{CommandFactory, Parser, error::ErrorKind};
use mimalloc::MiMalloc;
use origin::{
    App, MIGRATOR,
    admin::{Change, Looked, People, Search, operator},
    apps::{self, NewApp, ServiceKey},
    clear_words,
    cli::{
        AppsTask, Cli, ClientsTask, KeysTask, LedgerTask, NewClientArgs, PackagesTask, Task,
        UsersTask,
    },
    config::{Config, Database, Remembering, Sealing},
    health, import_users, keys, mail, oidc, payments, revocations, rim, router, security_events,
    telemetry, verification,
};
use shared::{
    api::{AppId, Package},
    credits::Credits,
};
use sqlx::{Connection, PgConnection};
use tokio::{net::TcpListener, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    log_to_stdout();
    match cli.task {
        Task::Serve(config) => serve(*config).await,
        Task::Migrate(database) => migrate(&database).await,
        Task::Apps { database, task } => tend_apps(&database, task).await,
        Task::Clients { database, task } => tend_clients(&database, task).await,
        Task::Ledger {
            database,
            task: LedgerTask::Verify,
        } => verify(&database).await,
        Task::Keys {
            database,
            sealing,
            task,
        } => tend_keys(&database, &sealing, task).await,
        Task::Users { database, task } => tend_users(&database, task).await,
        Task::Packages { database, task } => tend_packages(&database, task).await,
    }
}

/// Lines for people at a terminal, JSON elsewhere; `LOG_FORMAT` overrides, `RUST_LOG` filters.
fn log_to_stdout() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let format = std::env::var("LOG_FORMAT").ok();
    let lines = format.map_or_else(|| stdout().is_terminal(), |format| format != "json");
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    if lines {
        subscriber.init();
    } else {
        subscriber.json().flatten_event(true).init();
    }
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
    let ledger = app.ledger.clone();
    let private_router = health::router(app.clone()).merge(telemetry::router(numbers));
    tokio::try_join!(
        listen("public", public, router(app.clone())),
        listen("private", private, private_router)
    )?;
    ledger.drain().await;
    Ok(())
}

/// Serves until told to stop, then finishes what it has begun.
async fn listen(port: &str, address: SocketAddr, router: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, port, "listening");
    axum::serve(
        listener,
        router.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(told_to_stop())
    .await?;
    Ok(())
}

async fn told_to_stop() {
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())
        .expect("SIGTERM can be listened for");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = signal::ctrl_c() => {}
    }
}

async fn connect(database: &Database) -> anyhow::Result<PgConnection> {
    PgConnection::connect_with(&database.database_url)
        .await
        .context("connecting to DATABASE_URL")
}

async fn migrate(database: &Database) -> anyhow::Result<()> {
    MIGRATOR
        .run(&mut connect(database).await?)
        .await
        .context("migrating the database")
}

async fn tend_keys(database: &Database, sealing: &Sealing, task: KeysTask) -> anyhow::Result<()> {
    let (mut db, sealing) = (connect(database).await?, &sealing.key_encryption_key);
    match task {
        KeysTask::Rotate => keys::rotate(&mut db, sealing, rim::now()).await?,
        KeysTask::Revoke { kid } => keys::revoke(&mut db, sealing, &kid, rim::now()).await?,
        KeysTask::List => {}
    }
    for key in keys::list(&mut db).await? {
        println!(
            "{}  {}  {:<8}  signs from {}",
            key.kid,
            key.kind.as_str(),
            format!("{:?}", key.state).to_lowercase(),
            key.activate_at
        );
    }
    Ok(())
}

/// Prints the figures, and fails with the rows that differ.
async fn verify(database: &Database) -> anyhow::Result<()> {
    let report = verification::run(&mut connect(database).await?).await?;
    for (figure, value) in &report.figures {
        println!("{value:>20}  {figure}");
    }
    for difference in &report.differences {
        println!("{difference}");
    }
    let count = report.differences.len();
    anyhow::ensure!(count == 0, "{count} rows differ");
    println!("Everything adds up.");
    Ok(())
}

async fn tend_apps(database: &Database, task: AppsTask) -> anyhow::Result<()> {
    let mut db = connect(database).await?;
    let key = ServiceKey::new();
    match task {
        AppsTask::Add {
            id,
            name,
            origins,
            permissions,
            daily_grant_cap,
        } => {
            let app = NewApp {
                name: name.as_deref().unwrap_or(id.as_str()),
                id: &id,
                origins: &origins,
                permissions: &permissions,
                daily_grant_cap,
            };
            apps::add(&mut db, &app, key.hash()).await?;
            show(&id, &key);
        }
        AppsTask::Rotate { id } => {
            apps::rotate(&mut db, &id, key.hash()).await?;
            show(&id, &key);
        }
        AppsTask::Disable { id } => apps::disable(&mut db, &id).await?,
        AppsTask::List => {
            for app in apps::all(&mut db).await? {
                let cap = Credits::from_thousandths(app.daily_grant_cap).unwrap_or_default();
                println!(
                    "{}  {}  may {}  grants {cap} a day  {}{}",
                    app.id,
                    app.name,
                    app.permissions.join(", "),
                    app.origins.join(" "),
                    if app.disabled_at.is_some() {
                        "  disabled"
                    } else {
                        ""
                    },
                );
            }
        }
    }
    Ok(())
}

fn show(id: &AppId, key: &ServiceKey) {
    println!("X-App-Id: {}", id.as_str());
    println!("X-Service-Key: {}", key.reveal());
    eprintln!("This key is shown once. Its calls carry both headers.");
}

async fn tend_clients(database: &Database, task: ClientsTask) -> anyhow::Result<()> {
    let mut db = connect(database).await?;
    match task {
        ClientsTask::Add(new) => add_client(&mut db, &new).await?,
        ClientsTask::Rotate { id } => {
            let secret = oidc::Secret::new();
            oidc::rotate(&mut db, &id, secret.hash()).await?;
            show_client(&id, Some(&secret));
        }
        ClientsTask::Disable { id } => oidc::disable(&mut db, &id).await?,
        ClientsTask::List => {
            for client in oidc::all(&mut db).await? {
                println!(
                    "{}  {}  {}  {}  {}  {}{}{}",
                    client.id,
                    client.name,
                    client.auth_method,
                    client.id_token_alg,
                    client.grant_types.join(", "),
                    client.redirect_uris.join(" "),
                    if client.trusted { "  trusted" } else { "" },
                    if client.disabled_at.is_some() {
                        "  disabled"
                    } else {
                        ""
                    },
                );
            }
        }
    }
    Ok(())
}

async fn add_client(db: &mut PgConnection, new: &NewClientArgs) -> anyhow::Result<()> {
    let jwks = match &new.jwks {
        Some(file) => {
            let file = File::open(file).with_context(|| format!("opening {}", file.display()))?;
            Some(serde_json::from_reader(BufReader::new(file)).context("reading the key set")?)
        }
        None => None,
    };
    let secret = oidc::Secret::new();
    let client = oidc::NewClient {
        id: &new.id,
        name: new.name.as_deref().unwrap_or(new.id.as_str()),
        public: new.public,
        jwks,
        grant_types: &new.grant_types,
        redirect_uris: &new.redirect_uris,
        post_logout_redirect_uris: &new.post_logout_redirect_uris,
        backchannel_logout_uri: new.backchannel_logout_uri.as_deref(),
        alg: new.alg,
        trusted: new.trusted,
        without_pkce: new.without_pkce,
        matrix_server: new.matrix_server.as_deref(),
    };
    let has_secret = oidc::add(db, &client, secret.hash()).await?;
    show_client(&new.id, has_secret.then_some(&secret));
    Ok(())
}

fn show_client(id: &AppId, secret: Option<&oidc::Secret>) {
    println!("client_id: {}", id.as_str());
    if let Some(secret) = secret {
        println!("client_secret: {}", secret.reveal());
        eprintln!("This secret is shown once.");
    }
}

async fn tend_users(database: &Database, task: UsersTask) -> anyhow::Result<()> {
    let mut db = connect(database).await?;
    let (who, change) = match task {
        UsersTask::Import { file, remembering } => {
            return import(&mut db, &file, &remembering).await;
        }
        UsersTask::List {
            search,
            after,
            limit,
            json,
        } => {
            let search = Search::new(&search, &after).limit(limit.into());
            return list(&operator::find(&mut db, &search).await?, json);
        }
        UsersTask::Show { who, json } => {
            let user = operator::named(&mut db, &who).await?;
            return tell(&operator::look(&mut db, user).await?, json);
        }
        UsersTask::Role { who, role } => (who, Change::Role(role)),
        UsersTask::Ban { who } => (who, Change::Ban),
        UsersTask::Unban { who } => (who, Change::Unban),
        UsersTask::SignOut { who } => (who, Change::SignOut),
    };
    let user = operator::named(&mut db, &who).await?;
    operator::change(&mut db, user, change).await?;
    println!("Done for {user}.");
    Ok(())
}

fn list(people: &People, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(people)?);
        return Ok(());
    }
    for person in &people.found {
        println!(
            "{}  {:<5}  {:<6}  {}",
            person.id,
            person.role.as_str(),
            person.status,
            person.email
        );
    }
    if let Some(next) = &people.next {
        println!("More with --after {next}");
    }
    Ok(())
}

fn tell(looked: &Looked, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(looked)?);
        return Ok(());
    }
    let account = &looked.account;
    println!("{}  {}", account.id, account.email);
    println!("{}, {}", account.role.as_str(), account.status);
    for (what, is_so) in [
        ("verified address", account.email_verified),
        ("password", account.has_password),
        ("second factor", account.has_second_factor),
    ] {
        println!("{what}: {}", if is_so { "yes" } else { "no" });
    }
    for linked in &looked.linked {
        println!("linked: {}", linked.provider);
    }
    for session in &looked.sessions {
        let agent = session.user_agent.as_deref().unwrap_or("unknown program");
        println!(
            "session {}  last used {}  {agent}",
            session.id, session.last_used_at
        );
    }
    for event in &looked.events {
        println!("{}  {}  {}", event.at, event.r#type, event.outcome);
    }
    Ok(())
}

async fn import(
    db: &mut PgConnection,
    file: &Path,
    remembering: &Remembering,
) -> anyhow::Result<()> {
    let lines = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let imported = import_users(db, &remembering.email_hash_key, BufReader::new(lines)).await?;
    for (number, why) in &imported.wrong {
        eprintln!("line {number}: {why}");
    }
    println!(
        "{} imported, {} here already",
        imported.made, imported.there
    );
    let count = imported.wrong.len();
    anyhow::ensure!(count == 0, "{count} lines are wrong");
    Ok(())
}

async fn tend_packages(database: &Database, task: PackagesTask) -> anyhow::Result<()> {
    let mut db = connect(database).await?;
    match task {
        PackagesTask::Set {
            id,
            credits,
            price_cents,
            currency,
        } => {
            let id = id.as_str().to_owned();
            let package = Package {
                id,
                credits,
                price_cents,
                currency,
            };
            payments::set_package(&mut db, &package).await?;
        }
        PackagesTask::Remove { id } => payments::remove_package(&mut db, &id).await?,
        PackagesTask::List => {}
    }
    for listed in payments::list_packages(&mut db).await? {
        let package = listed.package;
        println!(
            "{:<20}  {:>12} credits  {:>8} cents {}{}",
            package.id,
            package.credits.to_string(),
            package.price_cents,
            package.currency,
            if listed.is_active { "" } else { "  (removed)" }
        );
    }
    Ok(())
}
