//! Postgres goes away and comes back: 503 meanwhile, and no sign-in counts as failed.

use axum::http::StatusCode;
use origin::rim;
use serde_json::json;
use sqlx::PgPool;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::support::{Origin, PASSWORD, count};

/// A line to Postgres that can be cut.
struct Line {
    port: u16,
    cut: watch::Sender<bool>,
}

impl Line {
    async fn to(db: &PgPool) -> Self {
        let options = db.connect_options();
        let target = (options.get_host().to_owned(), options.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (cut, is_cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut is_cut) = (target.clone(), is_cut.clone());
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await?;
                    tokio::select! {
                        biased;
                        _ = is_cut.wait_for(|cut| *cut) => Ok(()),
                        done = tokio::io::copy_bidirectional(&mut client, &mut server) => done.map(|_| ()),
                    }
                });
            }
        });
        Self { port, cut }
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_outage_is_never_a_wrong_password(db: PgPool) {
    let line = Line::to(&db).await;
    let options = (*db.connect_options())
        .clone()
        .host("127.0.0.1")
        .port(line.port);
    let origin = Origin::on(options, &[]);
    origin
        .app
        .keys
        .reload(origin.app.db.pool(), rim::now())
        .await
        .expect("the keys load");
    let ada = origin.join("ada@example.org").await;

    line.cut.send_replace(true);
    let right = json!({"email": "ada@example.org", "password": PASSWORD});
    let wrong = json!({"email": "ada@example.org", "password": "wrong horse"});
    for body in [&right, &wrong] {
        origin
            .post("/api/v1/auth/login", None, body)
            .await
            .is_problem(503, "DATABASE_UNAVAILABLE");
    }
    origin
        .refresh(&ada.refresh)
        .await
        .is_problem(503, "DATABASE_UNAVAILABLE");
    origin
        .spend(&ada, 1.0, None)
        .await
        .is_problem(503, "DATABASE_UNAVAILABLE");
    assert_eq!(
        origin.get("/api/v1/auth/jwks", "").await.status,
        StatusCode::OK
    );

    line.cut.send_replace(false);
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.security_events WHERE outcome = 'failure'"
        )
        .await,
        0
    );
    assert_eq!(origin.refresh(&ada.refresh).await.status, StatusCode::OK);
    assert_eq!(
        origin.post("/api/v1/auth/login", None, &right).await.status,
        StatusCode::OK
    );
}
