//! A worker under workerd alone, without Wrangler: the modules of a folder, their bindings, and
//! a port.

use std::{
    collections::BTreeMap,
    env::consts::{ARCH, OS},
    fmt::Write,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use base64ct::{Base64, Encoding};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

/// How long workerd may take until it listens.
const START_WITHIN: Duration = Duration::from_secs(20);

/// The key of the proofs of an edge that tests start.
pub const PROOF_KEY: [u8; 32] = [1; 32];

/// A worker's code and what it is told.
#[derive(Clone, Debug)]
pub struct Script {
    /// Where its modules are; all of them under here are part of it.
    folder: PathBuf,
    /// The module that answers.
    main: String,
    /// Variables: texts as they are, everything else as JSON.
    vars: toml::Table,
    /// The class of its Durable Object, with the binding that it goes by.
    object: Option<(&'static str, &'static str)>,
    /// Modules that are other than in the folder.
    replaced: BTreeMap<String, String>,
    /// Where its Cache API leads; without one, its calls fail.
    cache: Option<SocketAddr>,
}

impl Script {
    /// A worker of JavaScript modules in `folder`.
    #[must_use]
    pub fn new(folder: &Path, main: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            main: main.to_owned(),
            vars: toml::Table::new(),
            object: None,
            replaced: BTreeMap::new(),
            cache: None,
        }
    }

    /// The edge, as `cargo xtask edge` built it and `wrangler.toml` configures it, in front of
    /// an origin at `origin_url` whose tokens are issued by `issuer`.
    pub fn edge(issuer: &str, origin_url: &str) -> Result<Self> {
        let mut edge = Self::new(&root().join("edge"), "entry.mjs");
        edge.object = Some(("LIMITS", "Limiter"));
        if let Some(vars) = wrangler()?.get("vars").and_then(toml::Value::as_table) {
            edge.vars.clone_from(vars);
        }
        Ok(edge
            .var("PUBLIC_URL", issuer)
            .var("ORIGIN_URL", origin_url)
            .var("EDGE_PROOF_KEY", Base64::encode_string(&PROOF_KEY)))
    }

    /// Sets a variable.
    #[must_use]
    pub fn var(mut self, name: &str, value: impl Into<toml::Value>) -> Self {
        self.vars.insert(name.to_owned(), value.into());
        self
    }

    /// Uses `text` in place of the module `name`.
    #[must_use]
    pub fn replace(mut self, name: &str, text: String) -> Self {
        self.replaced.insert(name.to_owned(), text);
        self
    }

    /// Lets its Cache API lead to a [`Cache`](crate::Cache) at `address`.
    #[must_use]
    pub const fn cache(mut self, address: SocketAddr) -> Self {
        self.cache = Some(address);
        self
    }

    /// Copies the modules into `to` and describes the worker as workerd reads it.
    fn lay_out(&self, to: &Path, port: u16) -> Result<String> {
        let mut modules = BTreeMap::new();
        collect(&self.folder, Path::new(""), &mut modules)?;
        // The first one answers.
        let main = modules.remove_entry(&self.main);
        let main =
            main.with_context(|| format!("no {} in {}", self.main, self.folder.display()))?;
        let mut listed = String::new();
        for (name, kind) in [main].into_iter().chain(modules) {
            let copy = to.join(&name);
            fs::create_dir_all(copy.parent().context("a module lies in a folder")?)?;
            match self.replaced.get(&name) {
                Some(text) => fs::write(copy, text)?,
                None => fs::copy(self.folder.join(&name), copy).map(drop)?,
            }
            writeln!(listed, "    (name = {name:?}, {kind} = embed {name:?}),")?;
        }
        let mut bindings = String::new();
        for (name, value) in &self.vars {
            let (kind, text) = match value {
                toml::Value::String(text) => ("text", text.clone()),
                other => ("json", serde_json::to_string(other)?),
            };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            writeln!(bindings, "    (name = {name:?}, {kind} = \"{text}\"),")?;
        }
        let mut objects = String::new();
        if let Some((binding, class)) = self.object {
            writeln!(
                bindings,
                "    (name = {binding:?}, durableObjectNamespace = {class:?}),"
            )?;
            write!(
                objects,
                "(className = {class:?}, uniqueKey = {class:?}, enableSql = true)"
            )?;
        }
        let (mut cache, mut outbound) = (String::new(), "");
        if let Some(address) = self.cache {
            write!(
                cache,
                "(name = \"cache\", external = (address = \"{address}\", http = ())),"
            )?;
            outbound = "cacheApiOutbound = \"cache\",";
        }
        let wrangler = wrangler()?;
        let date = wrangler.get("compatibility_date");
        let date = date.context("wrangler.toml has a compatibility_date")?;
        Ok(format!(
            r#"using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .main),
    (name = "internet", network = (allow = ["public", "private"])),
    {cache}
  ],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "main")],
);

const main :Workerd.Worker = (
  compatibilityDate = {date},
  modules = [
{listed}  ],
  bindings = [
{bindings}  ],
  durableObjectNamespaces = [{objects}],
  durableObjectStorage = (inMemory = void),
  {outbound}
);
"#
        ))
    }
}

/// A worker that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Worker {
    /// Where it answers.
    pub url: String,
    process: Child,
    folder: TempDir,
}

impl Worker {
    /// Starts `script` and waits until it listens.
    pub async fn start(script: &Script) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = script.lay_out(folder.path(), address.port())?;
        fs::write(folder.path().join("worker.capnp"), config)?;
        let log = fs::File::create(folder.path().join("log"))?;
        let mut process = Command::new(workerd()?)
            .args(["serve", "worker.capnp"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let listens = tokio::select! {
            _ = process.wait() => false,
            waited = timeout(START_WITHIN, listens) => waited.is_ok(),
        };
        let worker = Self {
            url: format!("http://{address}"),
            process,
            folder,
        };
        ensure!(listens, "workerd does not listen:\n{}", worker.log());
        Ok(worker)
    }

    /// How much memory it has, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let process = self.process.id().context("it runs")?;
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(1_024 * kib.context("its memory")?.parse::<u64>()?)
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// The checkout.
///
/// # Panics
/// Never: this crate has a parent folder.
#[must_use]
pub fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests lies in the checkout")
}

/// The program itself. The one in `.bin` is a script that calls it.
fn workerd() -> Result<PathBuf> {
    let os = if OS == "macos" { "darwin" } else { OS };
    let arch = if ARCH == "aarch64" { "arm64" } else { "64" };
    let program = root().join(format!(
        "node_modules/@cloudflare/workerd-{os}-{arch}/bin/workerd"
    ));
    ensure!(
        program.is_file(),
        "no {}: run `cargo xtask edge`",
        program.display()
    );
    Ok(program)
}

fn wrangler() -> Result<toml::Table> {
    Ok(fs::read_to_string(root().join("wrangler.toml"))?.parse()?)
}

/// Finds every module under `folder`, with its kind, by its path from there.
fn collect(
    folder: &Path,
    under: &Path,
    modules: &mut BTreeMap<String, &'static str>,
) -> Result<()> {
    for entry in fs::read_dir(folder.join(under))? {
        let entry = entry?;
        let path = under.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(folder, &path, modules)?;
        }
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            Some("js" | "mjs") => "esModule",
            Some("wasm") => "wasm",
            _ => continue,
        };
        let name = path.to_str().context("modules have plain names")?;
        modules.insert(name.to_owned(), kind);
    }
    Ok(())
}
