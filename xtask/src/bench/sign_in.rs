//! `bench sign-in`: signing in beside bare argon2, and keeping a session beside better-auth, which
//! is what people take for it in Node, on the same Postgres.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use ::tests::free_ports;
use anyhow::{Context, Result, bail, ensure};
use argon2::Argon2;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{PgPool, raw_sql};
use tokio::task::{block_in_place, yield_now};

use super::{
    Figure, Goal, code_flow,
    load::{Answer, Connection, get, header, open, post, together},
    median,
};
use crate::{
    children::Child,
    origin::{self, Origin},
    postgres::{self, Durability},
    secrets::Secrets,
    tools, up,
};

const ROUNDS: usize = 3;
/// Accounts, each with a session and a connection of its own.
const PEOPLE: usize = 16;
const PASSWORD: &str = "a horse that counts";
/// How many sign in at once to see what becomes of those that must wait.
const CROWD: usize = 500;
/// The origin's own: no answer takes longer.
const DEADLINE: Duration = Duration::from_secs(15);
const MAX_MEMORY_MIB: f64 = 400.0;

/// Runs every case.
pub async fn measure(seconds: u64) -> Result<Vec<Figure>> {
    tools::install_node_modules().await?;
    let build = ["build", "--release", "--package", "origin"];
    tools::run(&mut tools::cargo(&build)).await?;
    let data = tempfile::tempdir()?;
    // As for `bench ledger`: Postgres may run as another user.
    fs::set_permissions(data.path(), Permissions::from_mode(0o755))?;
    let field = Field::start(data.path()).await?;
    let measured = tokio::select! {
        measured = run(&field, Duration::from_secs(seconds)) => measured,
        told = up::told_to_stop() => told.and_then(|()| bail!("stopped before the end")),
    };
    field.stop().await;
    measured
}

/// The programs.
struct Field {
    /// Where the origin listens.
    ours: String,
    /// Where better-auth listens.
    theirs: String,
    postgres: Child,
    origin: Child,
    better_auth: Child,
}

impl Field {
    async fn start(data_dir: &Path) -> Result<Self> {
        let program = tools::target_dir().join("release/origin");
        let secrets = Secrets::load_or_make(data_dir)?;
        let (postgres, database_url) =
            postgres::start(data_dir, &secrets, Durability::Full).await?;
        let database = PgPool::connect(&database_url).await?;
        raw_sql("CREATE DATABASE better_auth")
            .execute(&database)
            .await?;
        database.close().await;
        let [theirs, ours] = free_ports()?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Origin {
            program: &program,
            port: ours,
            public_url: &format!("http://{}", address(ours)),
            database_url: &database_url,
            limit_scale: 1_000_000,
            secrets: &secrets,
        }
        .serve()?;
        // Each refresh rotates, as each look at better-auth's session writes.
        command.env("REFRESH_GRACE", "0s").env("RUST_LOG", "warn");
        let mut origin = Child::start("origin", command, Signal::SIGTERM, data_dir)?;
        origin.answers(&origin::ready_url(ours)).await?;
        code_flow::register(&program, &database_url).await?;

        let server = database_url.strip_suffix("postgres");
        let mut command = tools::node_tool("node");
        command
            .arg("xtask/src/bench/better_auth.mjs")
            .env("PORT", theirs.to_string())
            .env("NODE_ENV", "production")
            .env(
                "DATABASE_URL",
                format!(
                    "{}better_auth",
                    server.context("the URL names its database")?
                ),
            );
        let mut better_auth = Child::start("better-auth", command, Signal::SIGTERM, data_dir)?;
        better_auth
            .answers(&format!("http://{}/ready", address(theirs)))
            .await?;
        Ok(Self {
            ours: address(ours),
            theirs: address(theirs),
            postgres,
            origin,
            better_auth,
        })
    }

    async fn stop(self) {
        self.better_auth.stop().await;
        self.origin.stop().await;
        self.postgres.stop().await;
    }
}

async fn run(field: &Field, within: Duration) -> Result<Vec<Figure>> {
    let mut rounds: [Vec<f64>; 7] = Default::default();
    let mut ours = block_in_place(|| Ours::sign_up(&field.ours))?;
    let mut theirs = block_in_place(|| Theirs::sign_up(&field.theirs))?;
    for number in 1..=ROUNDS {
        eprintln!("round {number} of {ROUNDS}");
        // Or nobody would hear Ctrl-C.
        yield_now().await;
        let measured = block_in_place(|| -> Result<_> {
            Ok([
                raw_argon2(within)?,
                ours.login(within)?,
                ours.refresh(within)?,
                theirs.session(within, "")?,
                ours.validate(within)?,
                theirs.session(within, "?disableRefresh=true")?,
                ours.code_flow(within)?,
            ])
        })?;
        for (round, value) in rounds.iter_mut().zip(measured) {
            round.push(value);
        }
    }
    let [
        raw,
        login,
        refresh,
        their_refresh,
        validate,
        their_look,
        flows,
    ] = rounds.map(median);
    let (longest, turned_away) = block_in_place(|| ours.crowd())?;
    eprintln!("of {CROWD} at once, {turned_away} were told to come back");
    let mut figures = vec![
        figure(
            "login",
            "a second",
            login,
            ("argon2 alone", raw),
            Some(Goal::AtLeast(0.9)),
        ),
        figure(
            "refresh",
            "a second",
            refresh,
            ("better-auth, session refresh", their_refresh),
            Some(Goal::AtLeast(5.0)),
        ),
        figure(
            "validate",
            "a second",
            validate,
            ("better-auth, get-session", their_look),
            None,
        ),
        figure(
            "code flow of a relying party",
            "a second",
            flows,
            ("least", code_flow::LEAST_A_SECOND),
            Some(Goal::AtLeast(1.0)),
        ),
        figure(
            "500 sign in at once, the longest",
            "ms",
            longest.as_secs_f64() * 1e3,
            ("deadline", DEADLINE.as_secs_f64() * 1e3),
            Some(Goal::AtMost(1.0)),
        ),
    ];
    if let Some(peak_mib) = peak_memory_mib(field.origin.id()) {
        figures.push(figure(
            "memory of the origin, the most",
            "MiB",
            peak_mib,
            ("limit", MAX_MEMORY_MIB),
            Some(Goal::AtMost(1.0)),
        ));
    }
    Ok(figures)
}

fn figure(
    case: &str,
    unit: &'static str,
    ours: f64,
    (peer, theirs): (&'static str, f64),
    goal: Option<Goal>,
) -> Figure {
    Figure {
        bench: "sign-in",
        case: case.to_owned(),
        unit,
        ours,
        peer,
        theirs,
        ratio: ours / theirs,
        goal,
    }
}

/// Hashes a second, on every core, with the parameters that the origin has by default.
fn raw_argon2(within: Duration) -> Result<f64> {
    let workers = thread::available_parallelism()?.get();
    let done = AtomicU32::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let (argon2, mut out) = (Argon2::default(), [0; 32]);
                while begun.elapsed() < within {
                    argon2
                        .hash_password_into(PASSWORD.as_bytes(), b"sixteen bytes ok", &mut out)
                        .expect("the parameters are good");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    Ok(f64::from(done.into_inner()) / begun.elapsed().as_secs_f64())
}

/// Lets each of several do something again and again; how often a second all together.
fn again_and_again<T: Send>(
    connections: &mut [Connection],
    states: &mut [T],
    within: Duration,
    turn: impl Fn(&mut Connection, &mut T) -> Result<()> + Sync,
) -> Result<f64> {
    let begun = Instant::now();
    let turn = &turn;
    let done: Vec<u32> = thread::scope(|scope| {
        let threads: Vec<_> = connections
            .iter_mut()
            .zip(states)
            .map(|(connection, state)| {
                scope.spawn(move || {
                    let mut done = 0;
                    while begun.elapsed() < within {
                        turn(connection, state)?;
                        done += 1;
                    }
                    Ok(done)
                })
            })
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|done| done.expect("connections do not panic"))
            .collect::<Result<_>>()
    })?;
    Ok(f64::from(done.iter().sum::<u32>()) / begun.elapsed().as_secs_f64())
}

/// People with an account of ours.
pub(super) struct Ours {
    address: String,
    connections: Vec<Connection>,
    people: Vec<Person>,
}

struct Person {
    email: String,
    access: String,
    refresh: String,
    cookie: String,
}

impl Person {
    fn login(&self) -> String {
        let body = json!({"email": self.email, "password": PASSWORD});
        post("/api/v1/auth/login", &body)
    }

    fn take(&mut self, answer: &Answer<'_>) -> Result<()> {
        let tokens: Value = serde_json::from_slice(answer.body)?;
        if let Some(cookie) = code_flow::cookie(answer.head) {
            cookie.clone_into(&mut self.cookie);
        }
        let text = |name: &str| tokens[name].as_str().map(str::to_owned);
        self.access = text("accessToken").context("an access token")?;
        self.refresh = text("refreshToken").context("a refresh token")?;
        Ok(())
    }
}

impl Ours {
    pub(super) fn sign_up(address: &str) -> Result<Self> {
        let mut connections = open(address, PEOPLE)?;
        let people = together(&mut connections, |number, connection| {
            let mut person = Person {
                email: format!("p{number}@example.org"),
                access: String::new(),
                refresh: String::new(),
                cookie: String::new(),
            };
            let body = json!({"email": person.email, "password": PASSWORD});
            let request = post("/api/v1/auth/register", &body);
            connection.ask(request.as_bytes())?.ok()?;
            let answer = connection.ask(person.login().as_bytes())?.ok()?;
            person.take(&answer)?;
            Ok(person)
        })?;
        Ok(Self {
            address: address.to_owned(),
            connections,
            people,
        })
    }

    /// Asks elsewhere from now on.
    pub(super) fn go_to(&mut self, address: &str) -> Result<()> {
        address.clone_into(&mut self.address);
        self.connections = open(address, PEOPLE)?;
        Ok(())
    }

    fn login(&mut self, within: Duration) -> Result<f64> {
        again_and_again(
            &mut self.connections,
            &mut self.people,
            within,
            |connection, person| {
                let answer = connection.ask(person.login().as_bytes())?.ok()?;
                person.take(&answer)
            },
        )
    }

    pub(super) fn refresh(&mut self, within: Duration) -> Result<f64> {
        again_and_again(
            &mut self.connections,
            &mut self.people,
            within,
            |connection, person| {
                let body = json!({"refreshToken": person.refresh});
                let request = post("/api/v1/auth/refresh", &body);
                let answer = connection.ask(request.as_bytes())?.ok()?;
                let before = person.refresh.clone();
                person.take(&answer)?;
                ensure!(person.refresh != before, "a refresh did not rotate");
                Ok(())
            },
        )
    }

    fn validate(&mut self, within: Duration) -> Result<f64> {
        again_and_again(
            &mut self.connections,
            &mut self.people,
            within,
            |connection, person| {
                let body = json!({"token": person.access});
                let request = post("/api/v1/auth/validate", &body);
                let answer = connection.ask(request.as_bytes())?.ok()?;
                let validity: Value = serde_json::from_slice(answer.body)?;
                ensure!(validity["valid"] == true, "{validity}");
                Ok(())
            },
        )
    }

    fn code_flow(&mut self, within: Duration) -> Result<f64> {
        again_and_again(
            &mut self.connections,
            &mut self.people,
            within,
            |connection, person| code_flow::go_through(connection, &person.cookie),
        )
    }

    /// All at once: the longest that one waited for an answer, and how many were told to come back.
    fn crowd(&self) -> Result<(Duration, usize)> {
        let mut connections = open(&self.address, CROWD)?;
        let answers = together(&mut connections, |number, connection| {
            let request = self.people[number % PEOPLE].login();
            let begun = Instant::now();
            let answer = connection.ask(request.as_bytes())?;
            let told = header(answer.head, "retry-after").is_some();
            match (answer.status, told) {
                (200, _) | (503, true) => Ok((begun.elapsed(), answer.status == 503)),
                _ => bail!("{}", answer.shown()),
            }
        })?;
        let longest = answers.iter().map(|(took, _)| *took).max();
        let turned_away = answers.iter().filter(|(_, away)| *away).count();
        Ok((longest.unwrap_or_default(), turned_away))
    }
}

/// People with an account of better-auth's.
struct Theirs {
    connections: Vec<Connection>,
    cookies: Vec<String>,
}

impl Theirs {
    fn sign_up(address: &str) -> Result<Self> {
        let mut connections = open(address, PEOPLE)?;
        let cookies = together(&mut connections, |number, connection| {
            let email = format!("p{number}@example.org");
            let body = json!({"email": email, "password": PASSWORD, "name": "somebody"});
            let request = post("/api/auth/sign-up/email", &body);
            let answer = connection.ask(request.as_bytes())?.ok()?;
            let cookie = header(answer.head, "set-cookie").context("a cookie")?;
            Ok(cookie.split(';').next().unwrap_or_default().to_owned())
        })?;
        Ok(Self {
            connections,
            cookies,
        })
    }

    fn session(&mut self, within: Duration, query: &str) -> Result<f64> {
        again_and_again(
            &mut self.connections,
            &mut self.cookies,
            within,
            |connection, cookie| {
                let path = format!("/api/auth/get-session{query}");
                let request =
                    get(&path, "").replace("authorization: Bearer ", &format!("cookie: {cookie}"));
                let answer = connection.ask(request.as_bytes())?.ok()?;
                let is_session = answer.body.windows(8).any(|window| window == b"\"session");
                ensure!(is_session, "{}", answer.shown());
                Ok(())
            },
        )
    }
}

/// The most memory that a process has had, where `/proc` tells.
fn peak_memory_mib(pid: i32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}
