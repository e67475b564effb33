//! Configuration of `serve`: environment variables, or flags of the same names, parsed once into one typed
//! struct. What is missing or wrong names itself and stops the start; a secret is never printed,
//! not even when it is the one that is wrong.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use argon2::Params;
use base64ct::{Base64, Encoding};
use clap::{
    Arg, Command,
    builder::{StringValueParser, TypedValueParser},
    error::ErrorKind,
};
use http::Uri;
use lettre::message::Mailbox;
use shared::{credits::Credits, proof::ProofKey};
use sqlx::postgres::PgConnectOptions;
use url::Url;
use zeroize::Zeroizing;

use crate::{
    cookies::SameSite,
    mail::SmtpUrl,
    outside::OutsideConfig,
    payments::{SecretKey, Stripe, WebhookSecrets},
    seal::SealingKeys,
    sessions::RefreshKeys,
};

/// Where the data is.
#[derive(clap::Args)]
pub struct Database {
    /// postgres://… of a role that may migrate; requests are served as `tollgate_app`.
    #[arg(long, env, hide_env_values = true, value_parser = secret("a postgres:// URL", |text| text.parse::<PgConnectOptions>().ok()))]
    pub database_url: PgConnectOptions,
}

/// What opens seals.
#[derive(clap::Args)]
pub struct Sealing {
    /// Seals private keys and authenticator apps' secrets in the database: 32 bytes in base64. While it gets a
    /// successor, both with a comma between them: the first seals, each opens.
    #[arg(long, env, hide_env_values = true,
        value_parser = secret("32 bytes in base64, or such keys with commas between them", sealing_keys))]
    pub key_encryption_key: SealingKeys,
}

/// How addresses are remembered when nobody may know them any more.
#[derive(clap::Args)]
pub struct Remembering {
    /// Hashes addresses that had their sign-up bonus, and proves our cookies: 32 bytes in base64. Never changes.
    #[arg(long, env, hide_env_values = true, value_parser = secret("32 bytes in base64", key))]
    pub email_hash_key: Key,
}

/// A secret key of 32 bytes, wiped when dropped.
pub type Key = Zeroizing<[u8; 32]>;

/// Everything that `serve` can be told.
#[derive(clap::Args)]
pub struct Config {
    /// The database.
    #[command(flatten)]
    pub database: Database,
    /// postgres://… of a pooler in transaction mode, by which requests go: a role that is a member of
    /// `tollgate_app` alone. Migrations, and three connections of each process, go to `DATABASE_URL`.
    #[arg(long, env, hide_env_values = true, value_parser = secret("a postgres:// URL", |text| text.parse::<PgConnectOptions>().ok()))]
    pub database_pooler_url: Option<PgConnectOptions>,
    /// The most connections to the database.
    #[arg(long, env, default_value = "16")]
    pub database_pool: u32,
    /// http(s)://…, where traces are gathered by OTLP over HTTP; nowhere without it. `OTEL_EXPORTER_OTLP_HEADERS` and
    /// `OTEL_SERVICE_NAME` count, too.
    #[arg(long, env)]
    pub otel_exporter_otlp_endpoint: Option<Url>,
    /// redis://…, where replicas share their quotas; each keeps its own without it.
    #[arg(long, env, hide_env_values = true, value_parser = secret("a redis:// URL", |text| redis::Client::open(text).ok()))]
    pub redis_url: Option<redis::Client>,
    /// Where to listen.
    #[arg(long, env, default_value = "127.0.0.1:3001")]
    pub listen: SocketAddr,
    /// Where to listen for /health/live, /health/ready and /metrics: not for the net.
    #[arg(long, env, default_value = "127.0.0.1:3002")]
    pub private_listen: SocketAddr,
    /// What clients reach us by, and the `iss` of every token: no trailing slash.
    #[arg(long, env)]
    pub public_url: PublicUrl,
    /// The `aud` of access tokens.
    #[arg(long, env, default_value = "tollgate")]
    pub token_audience: String,

    /// What opens the signing keys and the secrets of second factors.
    #[command(flatten)]
    pub sealing: Sealing,
    /// Make refresh tokens: `1:<32 bytes in base64>,2:…`. The highest version makes them, all verify.
    #[arg(long, env, hide_env_values = true,
          value_parser = secret("comma-separated version:base64 pairs, with versions of 0 to 255 and 32 bytes each", refresh_keys))]
    pub refresh_token_keys: RefreshKeys,
    /// How addresses are remembered.
    #[command(flatten)]
    pub remembering: Remembering,
    /// Shared with the edge, which proves with it whom it speaks for: 32 bytes in base64.
    #[arg(long, env, hide_env_values = true, value_parser = secret("32 bytes in base64", |text| key(text).map(ProofKey::new)))]
    pub edge_proof_key: ProofKey,
    /// Whether all but the key set is served only under the edge's proof: where others reach the origin too, they
    /// would pass by the edge's quotas.
    #[arg(long, env, default_value = "false", action = clap::ArgAction::Set)]
    pub require_edge_proof: bool,

    /// How long after a rotation the token before it still gets the same answer.
    #[arg(long, env, default_value = "10s", value_parser = humantime::parse_duration)]
    pub refresh_grace: Duration,
    /// Whether an address must be verified before its account can be used.
    #[arg(long, env, default_value = "true", action = clap::ArgAction::Set)]
    pub require_email_verification: bool,

    /// How far a session goes.
    #[command(flatten)]
    pub session_cookie: SessionCookieConfig,
    /// Mail.
    #[command(flatten)]
    pub mail: MailConfig,
    /// Password hashing.
    #[command(flatten)]
    pub passwords: PasswordConfig,
    /// Free credits.
    #[command(flatten)]
    pub credits: CreditsConfig,

    /// Other providers by which people sign in.
    #[command(flatten)]
    pub outside: OutsideConfig,
    /// Card payments.
    #[command(flatten)]
    pub stripe: StripeConfig,

    /// The largest body that is read, in bytes.
    #[arg(long, env, default_value = "65536")]
    pub max_body_bytes: usize,
    /// How long it goes on serving after SIGTERM while `/health/ready` says `stopping`: longer than a balancer
    /// takes to notice. Connections close after it; a second signal ends it.
    #[arg(long, env, default_value = "5s", value_parser = humantime::parse_duration)]
    pub shutdown_delay: Duration,
    /// Multiplies every quota, for tests and benches: refused unless `PUBLIC_URL` is on loopback.
    #[arg(long, env, default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_scale: u32,
}

/// How far the cookie of a session goes: to this host alone, unless apps on others of its domain are to
/// see who is signed in.
#[derive(clap::Args, Clone)]
pub struct SessionCookieConfig {
    /// The domain to whose every host browsers send it: `PUBLIC_URL`'s, or one above.
    #[arg(long, env)]
    pub session_cookie_domain: Option<String>,
    /// Which requests of other sites' pages carry it: `none` lets them all.
    #[arg(long, env, value_enum, default_value = "lax")]
    pub session_cookie_same_site: SameSite,
}

impl SessionCookieConfig {
    /// What no field can say alone.
    fn check(&self, url: &PublicUrl) -> Result<(), String> {
        if let Some(domain) = &self.session_cookie_domain {
            let is_below = url.host() == domain || url.host().ends_with(&format!(".{domain}"));
            if !is_below || !domain.contains('.') || url.address().is_some() {
                return Err(format!(
                    "SESSION_COOKIE_DOMAIN must be the host of PUBLIC_URL or a domain above it, as in \
                     example.org, not {domain}"
                ));
            }
        }
        if self.session_cookie_same_site == SameSite::None && !url.is_https() {
            return Err(
                "SESSION_COOKIE_SAME_SITE=none needs a PUBLIC_URL by https://: browsers drop the cookie \
                 otherwise"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// How passwords are hashed, and how many may wait for it.
#[derive(clap::Args, Clone)]
pub struct PasswordConfig {
    /// Memory of one hash, in KiB.
    #[arg(long, env, default_value_t = Params::DEFAULT_M_COST)]
    pub argon2_memory_kib: u32,
    /// Passes over that memory.
    #[arg(long, env, default_value_t = Params::DEFAULT_T_COST)]
    pub argon2_passes: u32,
    /// Lanes.
    #[arg(long, env, default_value_t = Params::DEFAULT_P_COST)]
    pub argon2_lanes: u32,
    /// How many are hashed at once; the cores of the machine by default.
    #[arg(long, env)]
    pub password_workers: Option<NonZeroUsize>,
    /// How many may wait before sign-ins are answered 503.
    #[arg(long, env, default_value = "64")]
    pub password_queue: usize,
    /// A service that knows the passwords of breaches, as Have I Been Pwned's does: new
    /// passwords are looked up by five digits of their hash.
    #[arg(long, env)]
    pub breach_api_base: Option<PublicUrl>,
}

/// How mail leaves. Without it nobody can verify an address, or sign in or reset a password by mail.
#[derive(clap::Args, Clone)]
pub struct MailConfig {
    /// `smtps://user:password@host`, or `smtp://…:587?tls=required`; `tls` must be said unless the
    /// host is on loopback.
    #[arg(long, env, hide_env_values = true, value_parser = secret("an smtps:// URL, or an smtp:// URL with ?tls=required or ?tls=opportunistic", SmtpUrl::parse))]
    pub smtp_url: Option<SmtpUrl>,
    /// Whom mail is from: `Tollgate <no-reply@example.org>`.
    #[arg(long, env)]
    pub mail_from: Option<Mailbox>,
    /// A folder for mail where there is no `SMTP_URL`, on a developer's machine: the links in it are
    /// logged too.
    #[arg(long, env)]
    pub mail_dir: Option<PathBuf>,
}

impl MailConfig {
    /// What no field can say alone.
    fn check(&self, needed: bool) -> Result<(), String> {
        match (&self.smtp_url, &self.mail_dir) {
            (Some(_), _) if self.mail_from.is_none() => {
                Err("MAIL_FROM is missing: whom is mail by SMTP_URL from?".to_owned())
            }
            (None, None) if needed => Err(
                "REQUIRE_EMAIL_VERIFICATION needs mail: set SMTP_URL and MAIL_FROM (or MAIL_DIR, \
                 on a developer's machine), or set it to false"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}

/// How to reach Stripe. Without it nothing can be bought.
#[derive(clap::Args, Clone)]
pub struct StripeConfig {
    /// `sk_live_…` or `sk_test_…`; test events count only under a test key.
    #[arg(long, env, hide_env_values = true, value_parser = secret("a key such as sk_live_… or sk_test_…", SecretKey::parse))]
    pub stripe_secret_key: Option<SecretKey>,
    /// What Stripe signs its events with: `whsec_…`, comma-separated while it is rotated.
    #[arg(long, env, hide_env_values = true, value_parser = secret("comma-separated secrets such as whsec_…", WebhookSecrets::parse))]
    pub stripe_webhook_secret: Option<WebhookSecrets>,
    /// Where its API is.
    #[arg(long, env, default_value = "https://api.stripe.com")]
    pub stripe_api_base: PublicUrl,
}

impl StripeConfig {
    /// A client of Stripe, if it is configured.
    pub fn client(&self) -> anyhow::Result<Option<Stripe>> {
        let client = |key| Stripe::new(self.stripe_api_base.as_str(), key);
        Ok(self.stripe_secret_key.clone().map(client).transpose()?)
    }

    /// What no field can say alone.
    fn check(&self) -> Result<(), String> {
        if self.stripe_secret_key.is_some() != self.stripe_webhook_secret.is_some() {
            return Err("STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET go together: \
                 what is paid is only credited when Stripe can tell"
                .to_owned());
        }
        if !self.stripe_api_base.is_https() && !self.stripe_api_base.is_loopback() {
            return Err("STRIPE_API_BASE must be https://, unless it is on loopback".to_owned());
        }
        Ok(())
    }
}

/// What credits come for free.
#[derive(clap::Args, Clone, Copy)]
pub struct CreditsConfig {
    /// Free credits of a new account, once for an address.
    #[arg(long, env, default_value = "150")]
    pub credits_signup_bonus: Credits,
    /// Free credits of each UTC day on which somebody looks or spends.
    #[arg(long, env, default_value = "5")]
    pub credits_daily: Credits,
    /// How many charges may wait for their turn before more are answered 503.
    #[arg(long, env, default_value = "2048", value_parser = clap::value_parser!(u32).range(1..).map(|queue| queue as usize))]
    pub ledger_queue: usize,
    /// Whether what is left of a day's credits goes with the day.
    #[arg(long, env, default_value = "false", action = clap::ArgAction::Set)]
    pub credits_daily_expires: bool,
}

impl Config {
    /// What no field can say alone.
    pub fn check(&self) -> Result<(), String> {
        if self.limit_scale != 1 && !self.public_url.is_loopback() {
            return Err(
                "LIMIT_SCALE is for tests: PUBLIC_URL must be on loopback to set it".to_owned(),
            );
        }
        if let Some(base) = &self.passwords.breach_api_base
            && !base.is_https()
            && !base.is_loopback()
        {
            return Err("BREACH_API_BASE must be https://, unless it is on loopback".to_owned());
        }
        if self.mail.mail_dir.is_some() && !self.public_url.is_loopback() {
            return Err(
                "MAIL_DIR logs the links of mails: PUBLIC_URL must be on loopback to set it"
                    .to_owned(),
            );
        }
        self.passwords
            .params()
            .map_err(|why| format!("ARGON2_MEMORY_KIB, ARGON2_PASSES or ARGON2_LANES: {why}"))?;
        self.session_cookie.check(&self.public_url)?;
        self.mail.check(self.require_email_verification)?;
        self.outside.check()?;
        self.stripe.check()
    }
}

impl PasswordConfig {
    /// The parameters of argon2id.
    pub fn params(&self) -> argon2::Result<Params> {
        Params::new(
            self.argon2_memory_kib,
            self.argon2_passes,
            self.argon2_lanes,
            None,
        )
    }
}

/// An absolute http or https URL without a trailing slash.
#[derive(Clone, Debug)]
pub struct PublicUrl {
    text: String,
    origin: String,
    uri: Uri,
}

impl PublicUrl {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its origin, as browsers write `Origin`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The host, without a port.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// Whether browsers reach us by TLS.
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    fn is_loopback(&self) -> bool {
        self.host() == "localhost" || self.address().is_some_and(|ip| ip.is_loopback())
    }

    /// The host, where it is an address and no name.
    fn address(&self) -> Option<IpAddr> {
        self.host().trim_matches(['[', ']']).parse().ok()
    }
}

impl FromStr for PublicUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| "not a URL")?;
        let absolute = matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none();
        if !absolute || text.ends_with('/') {
            return Err("must be http:// or https://, without a trailing slash");
        }
        let url = url::Url::parse(text).map_err(|_| "not a URL")?;
        Ok(Self {
            text: text.to_owned(),
            origin: url.origin().ascii_serialization(),
            uri,
        })
    }
}

fn key(text: &str) -> Option<Key> {
    let mut key = Zeroizing::new([0; 32]);
    let decoded = Base64::decode(text, key.as_mut()).ok()?.len();
    (decoded == 32).then_some(key)
}

fn sealing_keys(text: &str) -> Option<SealingKeys> {
    let keys: Option<Vec<Key>> = text.split(',').map(key).collect();
    SealingKeys::new(keys?)
}

fn refresh_keys(text: &str) -> Option<RefreshKeys> {
    let keys: BTreeMap<u8, Key> = text
        .split(',')
        .map(|pair| {
            let (version, bytes) = pair.split_once(':')?;
            Some((version.parse().ok()?, key(bytes)?))
        })
        .collect::<Option<_>>()?;
    RefreshKeys::new(keys)
}

/// Parses a value that clap must not repeat in its complaint.
pub fn secret<T: Clone + Send + Sync + 'static>(
    must_be: &'static str,
    parse: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    #[derive(Clone)]
    struct Secret<T>(&'static str, fn(&str) -> Option<T>);

    impl<T: Clone + Send + Sync + 'static> TypedValueParser for Secret<T> {
        type Value = T;

        fn parse_ref(
            &self,
            command: &Command,
            arg: Option<&Arg>,
            value: &std::ffi::OsStr,
        ) -> Result<T, clap::Error> {
            let text = Zeroizing::new(StringValueParser::new().parse_ref(command, arg, value)?);
            (self.1)(&text).ok_or_else(|| {
                let name = arg
                    .and_then(Arg::get_env)
                    .map(|name| name.to_string_lossy().into_owned());
                let message = format!("{} must be {}\n", name.unwrap_or_default(), self.0);
                command.clone().error(ErrorKind::ValueValidation, message)
            })
        }
    }

    Secret(must_be, parse)
}
