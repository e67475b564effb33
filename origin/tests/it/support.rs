//! A running origin for one test, a client for it, and a look at the database behind it.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use clap::Parser;
use origin::{
    App, Client, SealingKeys,
    apps::{self, NewApp, Permission, ServiceKey},
    cli::{Cli, Task},
    rim, router, verification,
};
use serde_json::{Value, json};
use shared::{api::AppId, credits::Credits};
use sqlx::{PgPool, postgres::PgConnectOptions};
use tokio::net::TcpListener;
use tower::ServiceExt;

/// 32 bytes in base64.
/// What [`SECRET`] seals by.
pub fn sealing() -> SealingKeys {
    SealingKeys::new([zeroize::Zeroizing::new(crate::edge::key())]).expect("a key")
}

pub const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const PASSWORD: &str = "correct horse";

/// An origin on a test's database.
pub struct Origin {
    pub app: App,
    router: Router,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

/// Somebody who is signed in.
pub struct Person {
    pub id: String,
    pub access: String,
    pub refresh: String,
}

/// An app with its service key.
pub struct Service {
    pub id: String,
    pub key: String,
}

impl Service {
    /// Registers an app, as an operator does.
    pub async fn add(db: &PgPool, id: &str, permissions: &[Permission], cap: i64) -> Self {
        Self::register(db, id, &[], permissions, cap).await
    }

    /// Registers an app that has pages, and charges.
    pub async fn with_pages(db: &PgPool, id: &str, origins: &[&str]) -> Self {
        Self::register(db, id, origins, &[Permission::Charge], 0).await
    }

    async fn register(
        db: &PgPool,
        id: &str,
        origins: &[&str],
        permissions: &[Permission],
        cap: i64,
    ) -> Self {
        let key = ServiceKey::new();
        let origins: Vec<String> = origins.iter().copied().map(str::to_owned).collect();
        let app = NewApp {
            id: &AppId::parse(id.to_owned()).expect("an id"),
            name: id,
            origins: &origins,
            permissions,
            daily_grant_cap: Credits::from_thousandths(cap).expect("an amount"),
        };
        let mut connection = db.acquire().await.expect("a connection");
        apps::add(&mut connection, &app, key.hash())
            .await
            .expect("a new app");
        Self {
            id: id.to_owned(),
            key: key.reveal().to_owned(),
        }
    }

    /// Gives somebody a session with the app.
    pub async fn meets(&self, db: &PgPool, person: &Person) {
        sqlx::query(
            "INSERT INTO auth.sessions (id, user_id, client_id, refresh_salt, remember, amr, expires_at, ends_at)
             SELECT gen_random_uuid(), $1::uuid, $2, 'sixteen bytes ok', false, '{pwd}', now(), now()",
        )
        .bind(&person.id)
        .bind(&self.id)
        .execute(db)
        .await
        .expect("a session");
    }
}

/// Every origin of the tests goes by a pooler in transaction mode where `TEST_POOLER` says where one is,
/// unless it is to find no database.
fn pooler(database: &PgConnectOptions) -> Option<String> {
    let place = std::env::var("TEST_POOLER").ok()?;
    let real: PgConnectOptions = std::env::var("DATABASE_URL").ok()?.parse().ok()?;
    if real.get_port() != database.get_port() {
        return None;
    }
    let name = database.get_database().expect("a database");
    Some(format!(
        "--database-pooler-url=postgres://tollgate_pool@{place}/{name}"
    ))
}

impl Origin {
    /// With cheap hashes, large quotas, and accounts that need no verification.
    pub async fn start(db: &PgPool) -> Self {
        Self::start_with(db, &[]).await
    }

    pub async fn start_with(db: &PgPool, flags: &[&str]) -> Self {
        let origin = Self::on((*db.connect_options()).clone(), flags);
        origin.load_keys().await;
        origin
    }

    /// Reads the signing keys, or makes them.
    pub async fn load_keys(&self) {
        self.app
            .keys
            .reload(self.app.db.pool(), rim::now())
            .await
            .expect("the keys load");
    }

    /// Without a look at the database.
    pub fn on(database: PgConnectOptions, flags: &[&str]) -> Self {
        let defaults = [
            "--database-url=postgres://replaced".to_owned(),
            "--database-pool=8".to_owned(),
            "--public-url=http://127.0.0.1:8787".to_owned(),
            format!("--key-encryption-key={SECRET}"),
            format!("--refresh-token-keys=1:{SECRET}"),
            format!("--email-hash-key={SECRET}"),
            format!("--edge-proof-key={SECRET}"),
            "--require-email-verification=false".to_owned(),
            "--argon2-memory-kib=64".to_owned(),
            "--argon2-passes=1".to_owned(),
            "--limit-scale=1000".to_owned(),
        ];
        // The Redis that `TEST_REDIS` names, whether anybody is there or not.
        let redis = std::env::var("TEST_REDIS").map(|url| format!("--redis-url={url}"));
        let pooler = pooler(&database);
        let name = |flag: &str| flag.split('=').next().map(str::to_owned);
        let kept = defaults
            .iter()
            .chain(&redis)
            .map(String::as_str)
            .filter(|default| flags.iter().all(|flag| name(flag) != name(default)));
        let args = ["origin", "serve"]
            .into_iter()
            .chain(kept)
            .chain(pooler.as_deref())
            .chain(flags.iter().copied());
        let cli = Cli::try_parse_from(args).unwrap_or_else(|why| panic!("{why}"));
        let Task::Serve(mut config) = cli.task else {
            panic!("serve was asked for")
        };
        config.check().expect("a good configuration");
        config.database.database_url = database;
        let app = App::new(*config).expect("the parts");
        Self {
            router: router(app.clone()),
            app,
        }
    }

    /// Serves it on a port, for those who ask over the network; gives its URL.
    pub async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = self.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("infallible");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        let is_html = parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/html"));
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: if body.is_empty() {
                Value::Null
            } else if is_html {
                String::from_utf8(body.to_vec()).expect("UTF-8").into()
            } else {
                serde_json::from_slice(&body).expect("JSON")
            },
        }
    }

    pub async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        self.post_text(path, token, body.to_string()).await
    }

    pub async fn post_text(
        &self,
        path: &str,
        token: Option<&str>,
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.send(request.body(body.into()).expect("a request"))
            .await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(Body::empty()).expect("a request"))
            .await
    }

    /// A call of any method with a body.
    pub async fn call(&self, method: Method, path: &str, token: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(body.to_string().into()).expect("a request"))
            .await
    }

    pub async fn register(&self, email: &str) -> String {
        let answer = self
            .post(
                "/api/v1/auth/register",
                None,
                &json!({"email": email, "password": PASSWORD}),
            )
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        text(&answer.body["user"]["id"])
    }

    pub async fn login(&self, email: &str) -> Person {
        let answer = self
            .post(
                "/api/v1/auth/login",
                None,
                &json!({"email": email, "password": PASSWORD}),
            )
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        Person {
            id: text(&answer.body["user"]["id"]),
            access: text(&answer.body["accessToken"]),
            refresh: text(&answer.body["refreshToken"]),
        }
    }

    /// Registers and signs in.
    pub async fn join(&self, email: &str) -> Person {
        self.register(email).await;
        self.login(email).await
    }

    pub async fn refresh(&self, token: &str) -> Answer {
        self.post(
            "/api/v1/auth/refresh",
            None,
            &json!({"refreshToken": token}),
        )
        .await
    }

    pub async fn spend(&self, person: &Person, amount: f64, key: Option<&str>) -> Answer {
        let mut body = json!({"amount": amount, "appId": "app", "description": "a picture"});
        if let Some(key) = key {
            body["idempotencyKey"] = key.into();
        }
        self.post("/api/v1/credits/use", Some(&person.access), &body)
            .await
    }

    /// A call with an app's service key.
    pub async fn post_as(&self, app: &Service, path: &str, body: &Value) -> Answer {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-app-id", &app.id)
            .header("x-service-key", &app.key);
        self.send(request.body(body.to_string().into()).expect("a request"))
            .await
    }

    /// A look with an app's service key.
    pub async fn get_as(&self, app: &Service, path: &str) -> Answer {
        let request = Request::get(path)
            .header("x-app-id", &app.id)
            .header("x-service-key", &app.key);
        self.send(request.body(Body::empty()).expect("a request"))
            .await
    }

    /// Somebody who may everything.
    pub async fn join_as_admin(&self, db: &PgPool, email: &str) -> Person {
        self.register(email).await;
        sqlx::query("UPDATE auth.users SET role = 'admin' WHERE email = $1")
            .bind(email)
            .execute(db)
            .await
            .expect("a promotion");
        self.login(email).await
    }

    /// What can be spent, in credits.
    pub async fn spendable(&self, person: &Person) -> f64 {
        let balance = self
            .get("/api/v1/credits/balance", &person.access)
            .await
            .body;
        balance["balance"].as_f64().expect("a number")
            + balance["freeCreditsRemaining"].as_f64().expect("a number")
    }
}

impl Answer {
    /// Insists on a problem of this code, written as RFC 9457 says.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> &Self {
        assert_eq!(
            (self.status.as_u16(), &self.body["code"]),
            (status, &json!(code)),
            "{self:?}"
        );
        assert_eq!(
            self.headers[header::CONTENT_TYPE],
            "application/problem+json"
        );
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["message"], self.body["detail"]);
        assert_eq!(
            self.body["instance"].as_str(),
            self.headers["tollgate-request-id"].to_str().ok()
        );
        self
    }

    /// The fields that the problem points at.
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        errors
            .iter()
            .filter_map(|error| error["pointer"].as_str())
            .collect()
    }
}

/// From where an admin acts, in tests that call without a request.
pub fn client() -> Client {
    Client {
        address: Some([192, 0, 2, 7].into()),
        agent: Some("an admin's browser".to_owned()),
        device: None,
    }
}

pub fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

/// How many connections of a test wait for a lock.
pub const AT_A_LOCK: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Waits until so many of them do.
pub async fn waiting(db: &PgPool, connections: i64) {
    while count(db, AT_A_LOCK).await < connections {}
}

pub async fn count(db: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query)
        .fetch_one(db)
        .await
        .expect("a count")
}

/// The ledger's own verification finds nothing.
pub async fn assert_ledger_adds_up(db: &PgPool) {
    let mut connection = db.acquire().await.expect("a connection");
    let report = verification::run(&mut connection).await.expect("a look");
    assert!(report.differences.is_empty(), "{:#?}", report.differences);
}

/// Gives everybody a lot, as the database's owner may.
pub async fn add_lot(db: &PgPool, kind: &str, amount: i64, expires_in_days: Option<i32>) {
    sqlx::query(
        "SELECT credits.save(credits.add_grant(
             b, gen_random_uuid(), 'gift', $1, $2, now() + make_interval(days => $3), now()
         )) FROM credits.balances b",
    )
    .bind(kind)
    .bind(amount)
    .bind(expires_in_days)
    .execute(db)
    .await
    .expect("a lot");
}

/// Lets the first expiry of lots and holds come now.
pub async fn let_it_expire(db: &PgPool, table: &str) {
    for statement in [
        format!(
            "UPDATE {table} SET expires_at = now() - interval '1 second' WHERE expires_at IS NOT NULL"
        ),
        "UPDATE credits.balances SET due_at = now() - interval '1 minute' WHERE due_at IS NOT NULL"
            .to_owned(),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(db)
            .await
            .expect("it expires");
    }
}
