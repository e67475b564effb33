//! `origin config check`: what is wrong is named before anybody is served.

use sqlx::{ConnectOptions, PgPool};
use tokio::process::Command;

use crate::{
    second_factor::change,
    support::{Origin, SECRET},
};

/// What the command says, and whether all was good.
async fn check(db: &PgPool, settings: &[(&str, &str)]) -> (String, bool) {
    let url = db.connect_options().to_url_lossy();
    let mut command = Command::new(env!("CARGO_BIN_EXE_origin"));
    command
        .args(["config", "check"])
        .env_clear()
        .env("DATABASE_URL", url.as_str());
    for name in ["KEY_ENCRYPTION_KEY", "EMAIL_HASH_KEY", "EDGE_PROOF_KEY"] {
        command.env(name, SECRET);
    }
    command
        .env("REFRESH_TOKEN_KEYS", format!("1:{SECRET}"))
        .env("PUBLIC_URL", "http://127.0.0.1:8787")
        .env("REQUIRE_EMAIL_VERIFICATION", "false")
        .envs(settings.iter().copied());
    let output = command.output().await.expect("the origin's program");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        output.status.success(),
    )
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_would_stop_an_origin_is_named_beforehand(db: PgPool) {
    Origin::start(&db).await;
    let (said, is_good) = check(&db, &[]).await;
    assert!(is_good, "{said}");
    assert_eq!(said.matches("good").count(), 3, "{said}");

    let owner = db.connect_options().to_url_lossy();
    let role = "DO $$ BEGIN
                    CREATE ROLE tollgate_endless LOGIN PASSWORD 'pw' IN ROLE tollgate_app;
                EXCEPTION WHEN duplicate_object THEN
                END $$";
    change(&db, role).await;
    let mut endless = owner.clone();
    endless.set_username("tollgate_endless").expect("a name");
    endless.set_password(Some("pw")).expect("a password");
    let another = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";
    for (name, value, wrong) in [
        ("KEY_ENCRYPTION_KEY", another, "BAD   KEY_ENCRYPTION_KEY"),
        (
            "DATABASE_URL",
            "postgres://nobody@127.0.0.1:1/none",
            "BAD   DATABASE_URL",
        ),
        ("DATABASE_POOLER_URL", owner.as_str(), "may do more"),
        (
            "DATABASE_POOLER_URL",
            endless.as_str(),
            "lacks a statement_timeout",
        ),
        ("REDIS_URL", "redis://127.0.0.1:1", "BAD   REDIS_URL"),
        ("REQUIRE_EMAIL_VERIFICATION", "true", "BAD   settings"),
    ] {
        let (said, is_good) = check(&db, &[(name, value)]).await;
        assert!(!is_good && said.contains(wrong), "{name}: {said}");
        assert!(!said.contains(value) || value == "true", "{said}");
    }
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (99990101000000, 'of the next release', true, '', 0)";
    change(&db, newer).await;
    let (said, is_good) = check(&db, &[]).await;
    assert!(
        !is_good && said.contains("newer than this program"),
        "{said}"
    );
}
