//! Back to the moment before a mistake: a base backup and the log since, as docs/OPERATIONS.md tells it.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{
    CALM,
    load::Load,
    site::{ORIGINS, Site},
};
use crate::tools;

const ARCHIVED_WITHIN: Duration = Duration::from_secs(30);

/// Somebody empties the wallets after the load has ended; what was there before is there again.
pub async fn restore() -> Result<String> {
    let mut site = Site::prepare().await?;
    let found = go_back(&mut site).await;
    site.end(found).await
}

async fn go_back(site: &mut Site) -> Result<String> {
    let data = site.cluster.data.clone();
    let archive = data.with_extension("archive");
    copy(&data, &archive).await?;
    empty(&archive)?;
    let keep = format!("archive_command=cp %p {}/%f", archive.display());
    site.cluster.settings = vec!["archive_mode=on".to_owned(), keep];
    site.start().await?;
    let load = Load::start(&site.base, 0..12).await?;
    sleep(CALM).await;
    let backup = data.with_extension("backup");
    let begun = Instant::now();
    back_up(&site.cluster.url, &data, &backup).await?;
    let backed_up = begun.elapsed();
    sleep(CALM).await;
    let told = load.end().await?;
    ensure!(told.bad().next().is_none(), "{told}");

    let mut owner = PgConnection::connect(&site.cluster.url).await?;
    let before: (String, i64) = sqlx::query_as(
        "SELECT clock_timestamp()::text, (SELECT count(*) FROM credits.transactions)",
    )
    .fetch_one(&mut owner)
    .await?;
    sleep(Duration::from_secs(1)).await;
    sqlx::raw_sql("SET session_replication_role = replica; TRUNCATE credits.transactions CASCADE")
        .execute(&mut owner)
        .await?;
    archive_all(&mut owner).await?;
    owner.close().await?;

    let begun = Instant::now();
    for at in 0..ORIGINS {
        site.stop_origin(at).await?;
    }
    site.end_postgres(Signal::SIGQUIT).await?;
    // Its log is in the archive; what is in the folder belongs to the mistake.
    fs::rename(&data, data.with_extension("mistaken"))?;
    copy(&backup, &data).await?;
    give(&data, "recovery.signal", "")?;
    let fetch = format!("restore_command=cp {}/%f %p", archive.display());
    site.cluster.settings = vec![
        fetch,
        format!("recovery_target_time={}", before.0),
        "recovery_target_action=promote".to_owned(),
    ];
    site.start_postgres().await?;
    let mut owner = PgConnection::connect(&site.cluster.url).await?;
    timeout(ARCHIVED_WITHIN, promoted(&mut owner)).await??;
    for at in 0..ORIGINS {
        site.start_origin(at).await?;
    }
    site.serves().await?;
    let took = begun.elapsed();
    let after: i64 = sqlx::query_scalar("SELECT count(*) FROM credits.transactions")
        .fetch_one(&mut owner)
        .await?;
    ensure!(
        after == before.1,
        "{} transactions before, {after} after",
        before.1
    );
    let load = Load::start(&site.base, 100..112).await?;
    sleep(CALM).await;
    let again = load.end().await?;
    ensure!(again.bad().next().is_none(), "{again}");
    Ok(format!(
        "a base backup under load in {backed_up:.1?}; {after} transactions back, with two origins, {took:.1?} after the \
         decision; {told}"
    ))
}

/// What `pg_basebackup` does, which is not among the programs here: the low-level API.
async fn back_up(url: &str, data: &Path, backup: &Path) -> Result<()> {
    let mut owner = PgConnection::connect(url).await?;
    sqlx::query("SELECT pg_backup_start('drill', fast => true)")
        .execute(&mut owner)
        .await?;
    // Files come and go meanwhile; its log makes them whole.
    let _ = copy(data, backup).await;
    let (label,): (String,) = sqlx::query_as("SELECT labelfile FROM pg_backup_stop()")
        .fetch_one(&mut owner)
        .await?;
    give(backup, "backup_label", &label)?;
    empty(&backup.join("pg_wal"))?;
    for name in ["postmaster.pid", "postmaster.opts"] {
        let _ = fs::remove_file(backup.join(name));
    }
    Ok(())
}

/// Waits until all that was written is in the archive.
async fn archive_all(owner: &mut PgConnection) -> Result<()> {
    let last: String = sqlx::query_scalar("SELECT pg_walfile_name(pg_switch_wal())")
        .fetch_one(&mut *owner)
        .await?;
    let archived = async {
        let sql =
            format!("SELECT coalesce(last_archived_wal >= '{last}', false) FROM pg_stat_archiver");
        while !sqlx::query_scalar::<_, bool>(AssertSqlSafe(sql.clone()))
            .fetch_one(&mut *owner)
            .await?
        {
            sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    timeout(ARCHIVED_WITHIN, archived)
        .await
        .context("the log was not archived")?
}

async fn promoted(owner: &mut PgConnection) -> Result<()> {
    while sqlx::query_scalar::<_, bool>("SELECT pg_is_in_recovery()")
        .fetch_one(&mut *owner)
        .await?
    {
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(from).arg(to);
    tools::output(&mut copy).await.map(drop)
}

/// Writes a file that belongs to whom the folder belongs to.
fn give(folder: &Path, name: &str, text: &str) -> Result<()> {
    let (file, owner) = (folder.join(name), fs::metadata(folder)?);
    fs::write(&file, text)?;
    chown(file, Some(owner.uid()), Some(owner.gid()))?;
    Ok(())
}

/// Removes what is in a folder, and not the folder, which keeps its owner.
fn empty(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
