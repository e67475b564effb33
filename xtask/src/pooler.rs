//! A PgBouncer for the tests, in transaction mode: the machine's own, or Debian's. A machine that can have
//! none tests without.

use std::{fmt::Write, io::Write as _, os::unix::fs::chown, path::Path};

use anyhow::{Context, Result};
use nix::{
    sys::signal::Signal,
    unistd::{Uid, User},
};
use reqwest::Url;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::{children::Child, postgres::free_port, tools::debian};

/// Whom the pooler connects as, for whoever asks.
pub const USER: &str = "tollgate_pool";

/// Starts one in front of every database of the server at `database_url`; gives where it listens.
pub async fn start(data_dir: &Path, database_url: &str) -> Result<Option<(Child, String)>> {
    let Some(program) = debian("pgbouncer").await else {
        return Ok(None);
    };
    let server = Url::parse(database_url)?;
    let password = server.password().unwrap_or_default().replace("%3D", "=");
    make_user(database_url, &password).await?;
    let (host, port) = (server.host_str(), server.port());
    let (host, port) = (host.context("a host")?, port.context("a port")?);
    let own = free_port()?;
    let mut settings = format!(
        "[databases]\n* = host={host} port={port} user={USER} password={password}\n[pgbouncer]\n"
    );
    for (name, value) in [
        ("listen_addr", "127.0.0.1"),
        ("listen_port", &own.to_string()),
        ("unix_socket_dir", ""),
        ("auth_type", "any"),
        ("pool_mode", "transaction"),
        // What a query has prepared under a name is not there for the next one.
        ("server_reset_query", "DISCARD ALL"),
        ("server_reset_query_always", "1"),
        ("max_client_conn", "1000"),
        // As deploy/pgbouncer/start.sh has them.
        ("default_pool_size", "32"),
        ("server_login_retry", "1"),
        // Each test drops its database, and waits for who is connected to it.
        ("server_idle_timeout", "1"),
    ] {
        writeln!(settings, "{name} = {value}")?;
    }
    // Nobody else reads it, and it is read once.
    let mut file = NamedTempFile::new()?;
    file.write_all(settings.as_bytes())?;
    let mut command = Command::new(program);
    command.arg(file.path()).current_dir("/");
    // It does not run as root.
    if Uid::effective().is_root() {
        let user = User::from_name("nobody")?.context("there is no user `nobody`")?;
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        chown(file.path(), Some(uid), Some(gid))?;
        command.uid(uid).gid(gid);
    }
    let mut pooler = Child::start("pgbouncer", command, Signal::SIGINT, data_dir)?;
    pooler.listens(own).await?;
    Ok(Some((pooler, format!("127.0.0.1:{own}"))))
}

/// As docs/OPERATIONS.md tells it to operators.
async fn make_user(database_url: &str, password: &str) -> Result<()> {
    let mut db = PgConnection::connect(database_url).await?;
    let sql = format!(
        "DO $$ BEGIN
             IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tollgate_app') THEN
                 CREATE ROLE tollgate_app;
             END IF;
             IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{USER}') THEN
                 CREATE ROLE {USER} LOGIN IN ROLE tollgate_app;
             END IF;
         END $$;
         ALTER ROLE {USER} PASSWORD '{password}';
         ALTER ROLE {USER} SET statement_timeout = '8s';
         ALTER ROLE {USER} SET idle_in_transaction_session_timeout = '20s'"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut db).await?;
    Ok(())
}
