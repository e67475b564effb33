//! What a process tells of itself while it stops, and while its database hangs.

use std::{process::Stdio, time::Duration};

use axum::{body::Body, http::Request};
use metrics_exporter_prometheus::PrometheusBuilder;
use origin::{health, telemetry};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, PgPool};
use tests::free_ports;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::{
    batcher::until_true,
    support::{Origin, PASSWORD, SECRET, count, waiting},
};

/// For hanging.
const WITHIN: Duration = Duration::from_secs(20);

fn start(db: &PgPool, port: u16) -> Child {
    let mut origin = Command::new(env!("CARGO_BIN_EXE_origin"));
    for name in ["KEY_ENCRYPTION_KEY", "EMAIL_HASH_KEY", "EDGE_PROOF_KEY"] {
        origin.env(name, SECRET);
    }
    origin
        .arg("serve")
        .env("DATABASE_URL", db.connect_options().to_url_lossy().as_str())
        .env("REFRESH_TOKEN_KEYS", format!("1:{SECRET}"))
        .env("PUBLIC_URL", "http://127.0.0.1:8787")
        .env("REQUIRE_EMAIL_VERIFICATION", "false")
        .env("LISTEN", format!("127.0.0.1:{port}"))
        .env("PRIVATE_LISTEN", format!("127.0.0.1:{}", port + 1))
        // Longer than the test.
        .env("SHUTDOWN_DELAY", "10m")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the origin's program")
}

async fn terminate(process: &Child) {
    let id = process.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status().await;
    assert!(sent.expect("kill").success());
}

/// Waits until `/health/ready` says so.
async fn says(url: &str, status: u16) -> Value {
    let said = async {
        loop {
            if let Ok(answer) = reqwest::get(url).await
                && answer.status().as_u16() == status
            {
                return answer.json().await.expect("JSON");
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WITHIN, said).await.expect("it says so in time")
}

/// Numbers are looked at most when the database hangs.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn numbers_do_not_wait_for_a_database_that_hangs(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut holds = db.begin().await.expect("a transaction");
    sqlx::query("LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *holds)
        .await
        .expect("a lock");
    let ask = |path: &str| Request::get(path).body(Body::empty()).expect("a request");
    // It waits for as long as Postgres lets a statement run.
    let probe = health::router(origin.app.clone()).oneshot(ask("/health/ready"));
    let probe = tokio::spawn(probe);
    let waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()
         AND wait_event_type = 'Lock' AND query LIKE '%_sqlx_migrations%'";
    until_true(&db, waits).await;
    let numbers = PrometheusBuilder::new().build_recorder().handle();
    let numbers = telemetry::router(origin.app.clone(), numbers).oneshot(ask("/metrics"));
    tokio::select! {
        told = numbers => assert_eq!(told.expect("infallible").status(), 200),
        probed = probe => panic!("the probe ended first: {probed:?}"),
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_is_told_to_stop_is_not_ready_and_serves_until_told_again(db: PgPool) {
    let [_, port] = free_ports().expect("ports");
    let mut process = start(&db, port);
    let ready = format!("http://127.0.0.1:{}/health/ready", port + 1);
    says(&ready, 200).await;
    terminate(&process).await;
    assert_eq!(says(&ready, 503).await["failing"][0], "stopping");
    let numbers = reqwest::get(format!("http://127.0.0.1:{}/metrics", port + 1)).await;
    let numbers = numbers.expect("an answer").text().await.expect("text");
    assert!(numbers.contains("\ntollgate_ready 0\n"), "{numbers}");
    // A new connection, as any other client makes one.
    let keys = reqwest::get(format!("http://127.0.0.1:{port}/api/v1/auth/jwks"));
    assert_eq!(keys.await.expect("an answer").status().as_u16(), 200);
    terminate(&process).await;
    let ended = timeout(WITHIN, process.wait()).await.expect("it ends");
    assert!(ended.expect("a status").success());
}

/// As it would be for one whose client is still there.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_stops_does_a_request_to_its_end_whose_client_is_gone(db: PgPool) {
    Origin::start(&db).await.register("ada@example.org").await;
    let [_, port] = free_ports().expect("ports");
    let mut process = start(&db, port);
    let ready = format!("http://127.0.0.1:{}/health/ready", port + 1);
    says(&ready, 200).await;

    let mut holds = db.begin().await.expect("a transaction");
    sqlx::query("LOCK auth.failures")
        .execute(&mut *holds)
        .await
        .expect("a lock");
    let body = json!({"email": "ada@example.org", "password": PASSWORD}).to_string();
    let request = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: origin\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a connection");
    client.write_all(request.as_bytes()).await.expect("sent");
    waiting(&db, 1).await;
    drop(client);
    terminate(&process).await;
    says(&ready, 503).await;
    terminate(&process).await;
    let listens = async { while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {} };
    timeout(WITHIN, listens).await.expect("it takes nobody in");

    holds.rollback().await.expect("an end");
    let ended = timeout(WITHIN, process.wait()).await.expect("it ends");
    assert!(ended.expect("a status").success());
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 1);
}
