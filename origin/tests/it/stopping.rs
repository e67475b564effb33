//! What a process does that is told to stop.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use sqlx::{ConnectOptions, PgPool};
use tests::free_ports;
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::support::SECRET;

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
