//! `origin users`: the first admin, and what an operator does without one.

use clap::Parser;
use origin::{
    admin::{Change, Error, Search, operator},
    cli::Cli,
};
use shared::claims::Role;
use sqlx::PgPool;

use crate::support::{Origin, count, text};

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_operator_makes_the_first_admin_and_takes_the_role_away(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("Ada@example.org").await;
    let mut owner = db.acquire().await.expect("a connection");
    let user = operator::named(&mut owner, "ada@EXAMPLE.org")
        .await
        .expect("Ada");
    assert_eq!(user.to_string(), ada.id);
    let role = Change::Role(Role::Admin);
    operator::change(&mut owner, user, role)
        .await
        .expect("a promotion");
    let answer = origin.refresh(&ada.refresh).await;
    assert_eq!(text(&answer.body["user"]["role"]), "admin");
    let role = Change::Role(Role::User);
    operator::change(&mut owner, user, role)
        .await
        .expect("a demotion");
    let written = "SELECT count(*) FROM auth.security_events
                   WHERE type IN ('made_admin', 'made_user') AND admin_id IS NULL";
    assert_eq!(count(&db, written).await, 2);
    let revoked = "SELECT count(*) FROM auth.revocations WHERE session_id IS NULL";
    assert_eq!(count(&db, revoked).await, 2);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_operator_bans_and_signs_out(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let mut owner = db.acquire().await.expect("a connection");
    let user = operator::named(&mut owner, &ada.id).await.expect("Ada");
    operator::change(&mut owner, user, Change::SignOut)
        .await
        .expect("all end");
    let answer = origin.refresh(&ada.refresh).await;
    answer.is_problem(401, "INVALID_REFRESH_TOKEN");
    operator::change(&mut owner, user, Change::Ban)
        .await
        .expect("a ban");
    let found = operator::find(&mut owner, &Search::new("ada", ""))
        .await
        .expect("a look");
    assert_eq!(found.found[0].status, "banned");
    operator::change(&mut owner, user, Change::Unban)
        .await
        .expect("another chance");
    origin.login("ada@example.org").await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_operator_sees_one_account_and_no_other(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    origin.join("ada@example.org.example.net").await;
    let mut owner = db.acquire().await.expect("a connection");
    let user = operator::named(&mut owner, "ada@example.org")
        .await
        .expect("Ada");
    assert_eq!(user.to_string(), ada.id);
    let looked = operator::look(&mut owner, user).await.expect("a look");
    assert_eq!(looked.sessions.len(), 1);
    // The connection is the owner's again.
    assert_eq!(
        operator::find(&mut owner, &Search::new("", ""))
            .await
            .expect("all")
            .found
            .len(),
        2
    );
    // Who is meant is said in full.
    for nobody in ["ada@example", "", "ada@example.or_"] {
        let error = operator::named(&mut owner, nobody).await;
        assert!(
            matches!(error, Err(Error::NoSuchUser)),
            "{nobody:?}: {error:?}"
        );
    }
}

#[test]
fn nobody_is_made_a_program() {
    for (role, is_good) in [
        ("user", true),
        ("admin", true),
        ("service", false),
        ("root", false),
    ] {
        let url = "--database-url=postgres://localhost/x";
        let parsed = Cli::try_parse_from(["origin", "users", url, "role", "a@b.c", role]);
        assert_eq!(parsed.is_ok(), is_good, "{role}");
    }
}
