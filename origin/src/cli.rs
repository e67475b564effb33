//! The command line: what the program can do, and what each task is told.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use shared::{
    api::{AppId, Link},
    claims::{FIRST_PARTY, Role},
    credits::Credits,
};

use crate::{
    apps::Permission,
    config::{Config, Database, Remembering, Sealing},
    oidc::{self, Alg, GrantType},
};

/// Where a newcomer begins.
const BEGIN: &str = "Each option may be an environment variable, which its help names. To begin:
  origin serve --help      what an origin must be told
  origin config check      whether it would serve like that
  origin serve             makes the schema and the keys, and serves
  origin users role ada@example.org admin
                           somebody who has registered looks after the others at /admin";

/// Tollgate's origin: signs people in and keeps their prepaid credits, on Postgres.
#[derive(Parser)]
#[command(version, after_help = BEGIN)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
    /// Print JSON: what came of it, or of `serve` a line for each thing that happens.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What the program can do.
#[derive(Subcommand)]
pub enum Task {
    /// Migrate the database, then serve until SIGTERM or Ctrl-C.
    Serve(Box<Config>),
    /// Migrate the database, and that is all.
    Migrate(Database),
    /// See whether an origin would serve as it is configured. Nothing is changed.
    Config {
        /// What to do.
        #[command(subcommand)]
        task: ConfigTask,
    },
    /// Look after the ledger.
    Ledger {
        /// The database it is in.
        #[command(flatten)]
        database: Database,
        /// What to do with it.
        #[command(subcommand)]
        task: LedgerTask,
    },
    /// Look after the apps that charge.
    Apps {
        /// The database they are in.
        #[command(flatten)]
        database: Database,
        /// What to do with them.
        #[command(subcommand)]
        task: AppsTask,
    },
    /// Look after the clients that people sign in to by us.
    Clients {
        /// The database they are in.
        #[command(flatten)]
        database: Database,
        /// What to do with them.
        #[command(subcommand)]
        task: ClientsTask,
    },
    /// Look after the keys that sign tokens.
    Keys {
        /// The database they are in.
        #[command(flatten)]
        database: Database,
        /// What opens them.
        #[command(flatten)]
        sealing: Sealing,
        /// What to do with them.
        #[command(subcommand)]
        task: KeysTask,
    },
    /// Look after people.
    Users {
        /// The database they are in.
        #[command(flatten)]
        database: Database,
        /// What to do with them.
        #[command(subcommand)]
        task: UsersTask,
    },
    /// Look after what can be bought.
    Packages {
        /// The database they are in.
        #[command(flatten)]
        database: Database,
        /// What to do with them.
        #[command(subcommand)]
        task: PackagesTask,
    },
    /// Print what is said of every call, as docs/openapi.json has it.
    Openapi,
}

/// What can be done with the configuration.
#[derive(Subcommand)]
pub enum ConfigTask {
    /// Ask whatever it names: the database and its schema, a pooler and its role, the signing keys, Redis.
    Check(Box<Config>),
}

/// What can be done with people.
#[derive(Subcommand)]
pub enum UsersTask {
    /// Bring people from another service, with the hashes of their passwords: bcrypt, scrypt (as
    /// Better Auth has it), PBKDF2 or argon2id. Can be run again: who is here stays as they are.
    Import {
        /// A JSON object a line: {"email", "passwordHash", "id"?, "name"?, "emailVerified"?, "createdAt"?}.
        file: PathBuf,
        /// What the origin is served with.
        #[command(flatten)]
        remembering: Remembering,
    },
    /// Find people by what their address begins with, or by their id.
    List {
        /// The beginning of an address, or an id; everybody when there is none.
        #[arg(default_value = "")]
        search: String,
        /// From behind this address, where a page before has ended.
        #[arg(long, default_value = "")]
        after: String,
        /// How many at the most.
        #[arg(long, default_value = "50", value_parser = clap::value_parser!(u16).range(1..=1_000))]
        limit: u16,
    },
    /// Show somebody: the account, where they are signed in, and what happened last.
    Show {
        /// Their id or their address.
        who: String,
    },
    /// Say what somebody may do. Their tokens of before are refused; they stay signed in.
    Role {
        /// Their id or their address.
        who: String,
        /// `user` or `admin`.
        #[arg(value_parser = role)]
        role: Role,
    },
    /// Let somebody in no more, and sign them out everywhere.
    Ban {
        /// Their id or their address.
        who: String,
    },
    /// Let somebody in again.
    Unban {
        /// Their id or their address.
        who: String,
    },
    /// Sign somebody out everywhere.
    SignOut {
        /// Their id or their address.
        who: String,
    },
}

/// What can be done with packages of credits.
#[derive(Subcommand)]
pub enum PackagesTask {
    /// List them, in the order in which they are offered.
    List,
    /// Offer one, or change one; what was bought before stays as it was.
    Set {
        /// Its id: letters, digits, dots, hyphens and underscores.
        #[arg(value_parser = app_id)]
        id: AppId,
        /// How many credits it brings.
        #[arg(long, value_parser = price)]
        credits: Credits,
        /// What it costs, in the smallest unit of the currency.
        #[arg(long, value_parser = clap::value_parser!(i64).range(1..=99_999_999))]
        price_cents: i64,
        /// ISO 4217, in small letters.
        #[arg(long, default_value = "eur", value_parser = currency)]
        currency: String,
    },
    /// Offer one no longer.
    Remove {
        /// Its id.
        id: String,
    },
}

/// What can be done with the ledger.
#[derive(Subcommand)]
pub enum LedgerTask {
    /// Compare everything that is kept twice: balances with entries, lots, holds and usage.
    /// Prints the figures; fails with the rows that differ.
    Verify,
}

/// What can be done with apps.
#[derive(Subcommand)]
pub enum AppsTask {
    /// Register an app, and show its service key: once, and never again.
    Add {
        /// Its id, as charges name it: letters, digits, dots, hyphens, underscores.
        #[arg(value_parser = app_id)]
        id: AppId,
        /// What people read; the id by default.
        #[arg(long)]
        name: Option<String>,
        /// Where its pages are, such as `https://app.example.org`; may be repeated.
        #[arg(long = "origin", value_parser = web_origin)]
        origins: Vec<String>,
        /// What its key may do.
        #[arg(
            long = "allow",
            value_delimiter = ',',
            default_value = "charge,read,refund"
        )]
        permissions: Vec<Permission>,
        /// How many credits its key may grant a UTC day, all people together.
        #[arg(long, default_value = "0")]
        daily_grant_cap: Credits,
    },
    /// List them.
    List,
    /// Show a new service key; the one before is worth nothing from now on.
    Rotate {
        /// Its id.
        #[arg(value_parser = app_id)]
        id: AppId,
    },
    /// Make an app's key worth nothing. `rotate` enables it again.
    Disable {
        /// Its id.
        #[arg(value_parser = app_id)]
        id: AppId,
    },
}

/// What can be done with clients.
#[derive(Subcommand)]
pub enum ClientsTask {
    /// Register a client, and show its secret: once, and never again.
    Add(Box<NewClientArgs>),
    /// List them.
    List,
    /// Show a new secret; the one before is worth nothing from now on. Enables a client that was disabled.
    Rotate {
        /// Its `client_id`.
        #[arg(value_parser = app_id)]
        id: AppId,
    },
    /// Make a client nobody, and its tokens worth nothing.
    Disable {
        /// Its `client_id`.
        #[arg(value_parser = app_id)]
        id: AppId,
    },
}

/// A client to be registered.
#[derive(clap::Args)]
pub struct NewClientArgs {
    /// Its `client_id`: letters, digits, dots, hyphens, underscores.
    #[arg(value_parser = app_id)]
    pub id: AppId,
    /// What people read; the id by default.
    #[arg(long)]
    pub name: Option<String>,
    /// A browser's or native app, which can keep no secret.
    #[arg(long)]
    pub public: bool,
    /// A file with the key set that it signs with (`private_key_jwt`), in place of a secret.
    #[arg(long)]
    pub jwks: Option<PathBuf>,
    /// Where people come back to, to the letter; may be repeated. On `127.0.0.1` and `[::1]` any port will do.
    #[arg(long = "redirect-uri", value_parser = oidc::registrable)]
    pub redirect_uris: Vec<String>,
    /// Where they may go when they have signed out; may be repeated.
    #[arg(long = "post-logout-redirect-uri", value_parser = oidc::registrable)]
    pub post_logout_redirect_uris: Vec<String>,
    /// Where it hears that somebody has signed out.
    #[arg(long, value_parser = oidc::web)]
    pub backchannel_logout_uri: Option<String>,
    /// What it may ask tokens for.
    #[arg(
        long = "grant",
        value_delimiter = ',',
        default_value = "authorization_code,refresh_token"
    )]
    pub grant_types: Vec<GrantType>,
    /// What its `id_token`s are signed with.
    #[arg(long = "id-token-alg", default_value = "EdDSA")]
    pub alg: Alg,
    /// Nobody is asked whether they let it know who they are.
    #[arg(long)]
    pub trusted: bool,
    /// It does not know PKCE. A confidential client alone.
    #[arg(long)]
    pub without_pkce: bool,
    /// The server name behind the colon of Matrix ids, where it is a Matrix server.
    #[arg(long, value_parser = server_name)]
    pub matrix_server: Option<String>,
}

/// What can be done with signing keys.
#[derive(Subcommand)]
pub enum KeysTask {
    /// Publish the next key; it signs once every cache must have seen it.
    Rotate,
    /// Seal private keys and authenticator apps' secrets by the first of `KEY_ENCRYPTION_KEY`'s keys, whichever
    /// of them has sealed them. Can be run again.
    Reseal,
    /// List them.
    List,
    /// Drop one at once, with every token that it signed.
    Revoke {
        /// Its id.
        kid: String,
    },
}

fn app_id(text: &str) -> Result<AppId, &'static str> {
    AppId::parse(text.to_owned())
        .filter(|id| id.as_str() != FIRST_PARTY)
        .ok_or(
            "must be 1 to 64 letters, digits, dots, hyphens and underscores, and not first-party",
        )
}

/// A Matrix server's name: a host, and a port perhaps.
fn server_name(text: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let is_name = (1..=230).contains(&text.len()) && text.bytes().all(is_plain);
    let name = is_name.then(|| text.to_owned());
    name.ok_or("must be a server name such as example.org")
}

/// As browsers write `Origin`: no path, not even a slash.
fn web_origin(text: &str) -> Result<String, &'static str> {
    let link = Link::parse(text.to_ascii_lowercase());
    link.map(|link| link.origin().to_owned())
        .filter(|origin| origin.len() == text.len())
        .ok_or("must be http:// or https:// with a host and nothing behind it")
}

fn price(text: &str) -> Result<Credits, String> {
    match text.parse() {
        Ok(Credits::ZERO) => Err("must be more than 0".to_owned()),
        Ok(credits) => Ok(credits),
        Err(why) => Err(why.to_string()),
    }
}

fn role(text: &str) -> Result<Role, &'static str> {
    match text.parse() {
        Ok(role @ (Role::User | Role::Admin)) => Ok(role),
        _ => Err("must be user or admin"),
    }
}

fn currency(text: &str) -> Result<String, &'static str> {
    let is_code = text.len() == 3 && text.bytes().all(|b| b.is_ascii_lowercase());
    is_code
        .then(|| text.to_owned())
        .ok_or("must be three small letters, such as eur")
}
