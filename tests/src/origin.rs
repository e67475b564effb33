//! An origin on this machine: what each of ours is told, whoever starts it.

use std::path::Path;

use anyhow::Result;
use tokio::process::Command;

use crate::secrets::Secrets;

/// What an origin must be told. For all else there are its defaults, and more variables.
pub struct Origin<'a> {
    /// The program, of whichever profile.
    pub program: &'a Path,
    /// Where it listens; the next port has its health and metrics.
    pub port: u16,
    /// What its clients reach it by, on loopback.
    pub public_url: &'a str,
    /// The database, as its owner.
    pub database_url: &'a str,
    /// Multiplies every quota.
    pub limit_scale: u32,
    /// Its keys.
    pub secrets: &'a Secrets,
}

impl Origin<'_> {
    /// `origin serve`, for accounts that need no verified address.
    pub fn serve(&self) -> Result<Command> {
        let refresh_keys = format!("1:{}", self.secrets.get("REFRESH_TOKEN_KEY")?);
        let mut origin = Command::new(self.program);
        origin
            .arg("serve")
            .env("DATABASE_URL", self.database_url)
            .env("LISTEN", format!("127.0.0.1:{}", self.port))
            .env("PRIVATE_LISTEN", format!("127.0.0.1:{}", self.port + 1))
            .env("PUBLIC_URL", self.public_url)
            .env("LIMIT_SCALE", self.limit_scale.to_string())
            .env("REQUIRE_EMAIL_VERIFICATION", "false")
            // Nobody balances here.
            .env("SHUTDOWN_DELAY", "0s")
            .env("REFRESH_TOKEN_KEYS", refresh_keys);
        for name in ["EDGE_PROOF_KEY", "EMAIL_HASH_KEY", "KEY_ENCRYPTION_KEY"] {
            origin.env(name, self.secrets.get(name)?);
        }
        Ok(origin)
    }
}

/// Where the origin that listens on `port` says whether it can serve.
#[must_use]
pub fn ready_url(port: u16) -> String {
    format!("http://127.0.0.1:{}/health/ready", port + 1)
}

/// Where the origin that listens on `port` has its metrics.
#[must_use]
pub fn metrics_url(port: u16) -> String {
    format!("http://127.0.0.1:{}/metrics", port + 1)
}
