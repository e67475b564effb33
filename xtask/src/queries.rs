//! `.sqlx`: what Postgres says about each query of the origin, so that the origin compiles
//! without a database. [`rewrite`] makes it, [`check`] finds out whether it is out of date.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use crate::{
    postgres::{self, Durability},
    secrets::Secrets,
    tools,
};

/// Writes `.sqlx` anew.
pub async fn rewrite() -> Result<()> {
    let fresh = tempfile::tempdir()?;
    describe(fresh.path()).await?;
    let kept = kept();
    if kept.exists() {
        fs::remove_dir_all(&kept)?;
    }
    fs::create_dir(&kept)?;
    for name in names(fresh.path())? {
        fs::copy(fresh.path().join(&name), kept.join(name))?;
    }
    Ok(())
}

/// An error unless `.sqlx` is what [`rewrite`] would make it.
pub async fn check() -> Result<()> {
    let fresh = tempfile::tempdir()?;
    describe(fresh.path()).await?;
    let (fresh, kept) = (fresh.path(), &kept());
    let names = &names(fresh)? | &names(kept)?;
    let differs =
        |name: &&String| fs::read(fresh.join(name)).ok() != fs::read(kept.join(name)).ok();
    let stale: Vec<_> = names.iter().filter(differs).map(String::as_str).collect();
    ensure!(
        stale.is_empty(),
        ".sqlx is out of date, run `cargo xtask queries`: {}",
        stale.join(", ")
    );
    Ok(())
}

/// Compiles the origin against a database with today's schema; sqlx's macros write what they
/// learn into `folder`.
async fn describe(folder: &Path) -> Result<()> {
    tools::install_node_modules().await?;
    let data = tempfile::tempdir()?;
    let secrets = Secrets::load_or_make(data.path())?;
    let (postgres, url) = postgres::start(data.path(), &secrets, Durability::None).await?;
    let described = async {
        let mut migrate = tools::node_tool("node");
        migrate
            .arg("xtask/src/migrate.mjs")
            .env("DATABASE_URL", &url);
        tools::run(&mut migrate).await?;
        // Cargo does not know that the macros read a database: only newer code is compiled again.
        let code = File::options()
            .write(true)
            .open(tools::root().join("origin/src/lib.rs"))?;
        code.set_modified(tests::now().into())?;
        let mut cargo = tools::cargo(&["check", "--quiet", "--package", "origin", "--all-targets"]);
        cargo.env("DATABASE_URL", &url);
        cargo
            .env("SQLX_OFFLINE", "false")
            .env("SQLX_OFFLINE_DIR", folder);
        tools::run(&mut cargo).await
    };
    let described = described.await;
    postgres.stop().await;
    described
}

fn kept() -> PathBuf {
    tools::root().join(".sqlx")
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder)?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
