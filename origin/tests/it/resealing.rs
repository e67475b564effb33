//! The key that seals gets a successor, and nobody notices.

use axum::http::StatusCode;
use origin::{keys, rim};
use serde_json::json;
use sqlx::{ConnectOptions, PgPool};
use tokio::process::Command;

use crate::{
    second_factor::{Guarded, first_step, join_guarded, time_passes},
    support::{Origin, SECRET},
};

const SUCCESSOR: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";
const LOGIN_MFA: &str = "/api/v1/auth/login/mfa";
const PROFILE: &str = "/api/v1/auth/profile";

async fn reseal(db: &PgPool, sealing: &str) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_origin"))
        .args(["keys", "reseal"])
        .env("DATABASE_URL", db.connect_options().to_url_lossy().as_str())
        .env("KEY_ENCRYPTION_KEY", sealing)
        .output()
        .await
        .expect("the origin's program");
    let said = |bytes| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() {
        Ok(said(output.stdout))
    } else {
        Err(said(output.stderr))
    }
}

async fn with(db: &PgPool, sealing: &str) -> Origin {
    Origin::start_with(db, &[&format!("--key-encryption-key={sealing}")]).await
}

async fn signs_in(origin: &Origin, email: &str, ada: &Guarded) -> StatusCode {
    let token = first_step(origin, email).await;
    let body = json!({"mfaToken": token, "code": ada.app.good()});
    origin.post(LOGIN_MFA, None, &body).await.status
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sealing_key_gets_a_successor_and_nobody_is_signed_out(db: PgPool) {
    let old = Origin::start(&db).await;
    let ada = join_guarded(&old, &db, "ada@example.org").await;

    // Those that know both read what the old one has sealed, and seal so that the old ones read it.
    let second = with(&db, &format!("{SECRET},{SUCCESSOR}")).await;
    let eve = join_guarded(&second, &db, "eve@example.org").await;
    assert_eq!(
        signs_in(&old, "eve@example.org", &eve).await,
        StatusCode::OK
    );
    let first = with(&db, &format!("{SUCCESSOR},{SECRET}")).await;
    let bob = join_guarded(&first, &db, "bob@example.org").await;
    assert_eq!(
        signs_in(&second, "bob@example.org", &bob).await,
        StatusCode::OK
    );

    let both = format!("{SUCCESSOR},{SECRET}");
    assert!(
        reseal(&db, SUCCESSOR)
            .await
            .is_err_and(|why| why.contains("does not open"))
    );
    let said = reseal(&db, &both).await.expect("it reseals");
    assert!(
        said.starts_with("1 signing keys and 2 authenticators"),
        "{said}"
    );
    let said = reseal(&db, &both).await.expect("it reseals again");
    assert!(
        said.starts_with("0 signing keys and 0 authenticators"),
        "{said}"
    );

    // The old key opens nothing any more, and what it signed is good.
    let new = with(&db, SUCCESSOR).await;
    time_passes(&db).await;
    for (email, person) in [
        ("ada@example.org", &ada),
        ("eve@example.org", &eve),
        ("bob@example.org", &bob),
    ] {
        assert_eq!(signs_in(&new, email, person).await, StatusCode::OK);
        assert_eq!(
            new.get(PROFILE, &person.person.access).await.status,
            StatusCode::OK
        );
    }
    let late = Origin::on((*db.connect_options()).clone(), &[]);
    let loaded = late.app.keys.reload(late.app.db.pool(), rim::now()).await;
    assert!(
        matches!(loaded, Err(keys::Error::Unreadable(_))),
        "{loaded:?}"
    );
    // Cookies, and what clients know sessions by, come from another key.
    assert_eq!(*new.app.cookie_key, *old.app.cookie_key);
}
