//! What somebody has let a client do is never the account, and ends with what it came from.

use axum::http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    batcher::until_true,
    oidc_flow::{ADA, Tokens, authorize, is_refused, location, param, token, with},
    oidc_token::{refresh, start, userinfo},
    session_to_token::Tab,
    support::{count, text},
};

/// Each route that wants a person's token, as the edge has them.
fn routes() -> Vec<(String, String)> {
    let policy: toml::Table = include_str!("../../../policy.toml")
        .parse()
        .expect("a policy");
    let routes = policy["routes"].as_array().expect("routes").iter();
    routes
        .filter(|route| route.get("auth").is_some() && route.get("serve").is_none())
        .flat_map(|route| {
            let path = route["path"].as_str().expect("a path");
            let path = path.replace("{hold}", HOLD).replace(['{', '}'], "");
            let methods = route["methods"].as_array().expect("methods").iter();
            methods
                .map(|method| (method.as_str().expect("text").to_owned(), path.clone()))
                .collect::<Vec<_>>()
        })
        .collect()
}

const HOLD: &str = "0197a7c2-0000-7000-8000-000000000000";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_relying_partys_token_is_never_the_account(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let tokens = party.tokens(&origin, &tab, "openid profile email").await;
    let routes = routes();
    assert!(routes.len() > 30, "{routes:?}");
    for (method, path) in routes {
        for token in [&tokens.access, &tokens.id] {
            let method = method.parse().expect("a method");
            let answer = origin.call(method, &path, token, &json!({})).await;
            // Where a service key asks, nobody looks at a token.
            let code = text(&answer.body["code"]);
            let codes = ["INVALID_TOKEN", "INVALID_SERVICE_KEY"];
            assert!(codes.contains(&&*code), "{path}: {answer:?}");
            answer.is_problem(401, &code);
        }
    }
    let body = json!({"token": tokens.access});
    let answer = origin.post("/api/v1/auth/validate", None, &body).await;
    assert_eq!(answer.body["valid"], false);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_grant_ends_with_the_browsers_session_unless_it_is_for_later(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let bound = party.tokens(&origin, &tab, "openid").await;
    let offline = party.tokens(&origin, &tab, "openid offline_access").await;
    let code = party.code(&origin, &tab).await;
    let answer = origin
        .post("/api/v1/auth/logout", Some(&tab.person.access), &json!({}))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(userinfo(&origin, &bound.access).await, 401);
    is_refused(
        &refresh(&origin, &party, &bound.refresh).await,
        400,
        "invalid_grant",
    );
    is_refused(
        &token(&origin, &party.exchange(&code)).await,
        400,
        "invalid_grant",
    );
    assert_eq!(userinfo(&origin, &offline.access).await, 200);
    let offline = Tokens::of(&refresh(&origin, &party, &offline.refresh).await);

    // Whatever ends every session ends that, too.
    let again = Tab::sign_in(&origin, ADA).await;
    origin
        .post(
            "/api/v1/auth/logout-all",
            Some(&again.person.access),
            &json!({}),
        )
        .await;
    assert_eq!(userinfo(&origin, &offline.access).await, 401);
    is_refused(
        &refresh(&origin, &party, &offline.refresh).await,
        400,
        "invalid_grant",
    );

    let last = Tab::sign_in(&origin, ADA).await;
    let kept = party.tokens(&origin, &last, "openid offline_access").await;
    sqlx::query("UPDATE auth.users SET status = 'banned'")
        .execute(&db)
        .await
        .expect("banned");
    assert_eq!(userinfo(&origin, &kept.access).await, 401);
    is_refused(
        &refresh(&origin, &party, &kept.refresh).await,
        400,
        "invalid_grant",
    );
    let url = location(&authorize(&origin, Some(&last), &party.request()).await);
    assert_eq!((url.path(), param(&url, "code")), ("/sign-in", None));
}

/// Whoever has somebody's cookie asks for a grant for later while its owner ends everything.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn no_grant_is_opened_beside_the_end_of_everything(db: PgPool) {
    let (origin, tab, party) = start(&db).await;
    let mut ending = db.begin().await.expect("a transaction");
    for statement in [
        "SELECT FROM auth.users FOR NO KEY UPDATE",
        "UPDATE auth.sessions SET revoked_at = now()",
        "UPDATE auth.client_grants SET revoked_at = now()",
    ] {
        let done = sqlx::query(statement).execute(&mut *ending).await;
        done.expect("what `end_everything` does");
    }
    let fields = with(party.request(), "scope", Some("openid offline_access"));
    let (answer, ()) = tokio::join!(authorize(&origin, Some(&tab), &fields), async {
        let waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()
             AND wait_event_type = 'Lock' AND query LIKE '%open_grant%'";
        until_true(&db, waits).await;
        ending.commit().await.expect("an end");
    });
    assert_eq!(location(&answer).path(), "/sign-in");
    let grants = "SELECT count(*) FROM auth.client_grants WHERE revoked_at IS NULL";
    assert_eq!(count(&db, grants).await, 0);
}
