//! The session of an app ends with the one of its browser, whatever ends that, and lives no longer.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::json;
use shared::revocations::Revocation;
use sqlx::PgPool;
use tokio::time::timeout;

use crate::{
    forgery::APP,
    leaving::leave,
    post_office::{FORGOT, NEW_PASSWORD, PostOffice, RESET},
    revocations::{claims, feed},
    session_to_token::{ADA, CHILDREN, TWO, Tab, person, run, scene, session_of},
    support::{Answer, Origin, PASSWORD, Person, Service, count, waiting},
};

async fn is_live(origin: &Origin, person: &Person) -> bool {
    origin
        .get("/api/v1/auth/session", &person.access)
        .await
        .status
        == StatusCode::OK
}

async fn post(origin: &Origin, path: &str, person: &Person, body: &serde_json::Value) -> Answer {
    let answer = origin.post(path, Some(&person.access), body).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    answer
}

async fn end(origin: &Origin, by: &Person, session: &str) {
    let request = Request::delete(format!("/api/v1/auth/sessions/{session}"))
        .header(header::AUTHORIZATION, format!("Bearer {}", by.access));
    let request = request.body(Body::empty()).expect("a request");
    assert_eq!(origin.send(request).await.status, StatusCode::OK);
}

/// Neither of its tokens is good at the origin, and the edges have heard of it.
async fn has_ended(origin: &Origin, db: &PgPool, what: &str, app: &Person) {
    assert!(!is_live(origin, app).await, "{what}");
    origin
        .refresh(&app.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    let minted = claims(&app.access)["iat"].as_i64().expect("a time");
    let told = feed(origin, db, 0).await;
    let is_told = told.revocations.iter().any(|revocation| match revocation {
        Revocation::Session { id, .. } => id.to_string() == session_of(app),
        Revocation::User { id, not_before, .. } => id.to_string() == app.id && minted < *not_before,
        Revocation::Key { .. } => false,
    });
    assert!(is_told, "{what}: {told:?}");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn whatever_ends_the_browsers_session_ends_the_apps(db: PgPool) {
    let (origin, desk) = scene(&db, &["--refresh-grace=0s"]).await;
    let (origin, desk) = (&origin, &desk.person);
    let ways: &[&str] = &[
        "sign out",
        "sign out by the refresh token",
        "end in the list",
        "refresh with a used token",
        "crowded out",
        "end the others",
        "new password",
        "sign out everywhere",
    ];
    for way in ways {
        let tab = Tab::sign_in(origin, ADA).await;
        let (one, two) = (tab.at(origin, APP).await, tab.at(origin, TWO).await);
        let desk = if ways[..5].contains(way) {
            desk
        } else {
            &origin.login(ADA).await
        };
        let body = json!({});
        match *way {
            "sign out" => {
                post(origin, "/api/v1/auth/logout", &tab.person, &body).await;
            }
            "sign out by the refresh token" => {
                let body = json!({"refreshToken": tab.person.refresh});
                origin.post("/api/v1/auth/logout", None, &body).await;
            }
            "end in the list" => end(origin, desk, &session_of(&tab.person)).await,
            "refresh with a used token" => {
                for _ in ["rotated", "recovered"] {
                    let answer = origin.refresh(&tab.person.refresh).await;
                    assert_eq!(answer.status, StatusCode::OK);
                }
                let lost = origin.refresh(&tab.person.refresh).await;
                let answer = origin.refresh(&person(&lost).refresh).await;
                assert_eq!(answer.status, StatusCode::OK);
                let reused = origin.refresh(&tab.person.refresh).await;
                reused.is_problem(401, "INVALID_REFRESH_TOKEN");
            }
            "crowded out" => {
                run(
                    &db,
                    "INSERT INTO auth.sessions (id, user_id, client_id, refresh_salt, remember, amr, expires_at, ends_at)
                     SELECT gen_random_uuid(), id, 'first-party', 'sixteen bytes ok', false, '{pwd}',
                            now() + interval '1 day', now() + interval '1 day'
                     FROM auth.users, generate_series(1, 100)",
                )
                .await;
                origin.login(ADA).await;
            }
            "end the others" => {
                post(origin, "/api/v1/auth/sessions/revoke-others", desk, &body).await;
            }
            "new password" => {
                let body = json!({"currentPassword": PASSWORD, "newPassword": PASSWORD, "revokeOthers": true});
                post(origin, "/api/v1/auth/change-password", desk, &body).await;
            }
            _ => {
                post(origin, "/api/v1/auth/logout-all", desk, &body).await;
            }
        }
        assert!(!is_live(origin, &tab.person).await, "{way}");
        for app in [&one, &two] {
            has_ended(origin, &db, way, app).await;
        }
    }
    let open = "SELECT count(*) FROM auth.sessions c JOIN auth.sessions p ON p.id = c.parent_id
                WHERE c.revoked_at IS DISTINCT FROM p.revoked_at";
    assert_eq!(count(&db, open).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_reset_and_a_deletion_end_it_too(db: PgPool) {
    Service::with_pages(&db, "one", &[APP]).await;
    let office = PostOffice::open(&db).await;
    office.join(ADA).await;
    let origin = &office.origin;
    let tab = Tab::sign_in(origin, ADA).await;
    let app = tab.at(origin, APP).await;
    let token = office.link(FORGOT, ADA).await;
    let body = json!({"token": token, "newPassword": NEW_PASSWORD});
    let answer = origin.post(RESET, None, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    has_ended(origin, &db, "reset", &app).await;

    let body = json!({"token": office.link(FORGOT, ADA).await, "newPassword": PASSWORD});
    origin.post(RESET, None, &body).await;
    let tab = Tab::sign_in(origin, ADA).await;
    let app = tab.at(origin, APP).await;
    let answer = leave(origin, &tab.person).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    has_ended(origin, &db, "leave", &app).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nothing_slides_it_past_the_end_of_the_browsers(db: PgPool) {
    let (origin, tab) = scene(&db, &["--refresh-grace=0s"]).await;
    let later = "SELECT count(*) FROM auth.sessions c JOIN auth.sessions p ON p.id = c.parent_id
                 WHERE c.expires_at > p.expires_at OR c.ends_at > p.ends_at";
    let app = tab.at(&origin, APP).await;
    assert_eq!(count(&db, later).await, 0);
    run(
        &db,
        "UPDATE auth.sessions SET expires_at = now() + interval '5 minutes'",
    )
    .await;
    let refreshed = origin.refresh(&app.refresh).await;
    let again = tab.ask(&origin, APP).await;
    let fresh = tab.ask(&origin, TWO).await;
    assert_eq!(count(&db, later).await, 0);
    let end =
        "SELECT extract(epoch FROM expires_at)::bigint FROM auth.sessions WHERE parent_id IS NULL";
    let end = count(&db, end).await;
    // Nor do tokens live longer: the edge does not ask when sessions end.
    for answer in [&refreshed, &again, &fresh] {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let token = claims(&person(answer).access);
        let [exp, iat] = ["exp", "iat"].map(|name| token[name].as_i64().expect("a time"));
        assert!(exp <= end && exp > end - 2, "{exp} {end}");
        assert_eq!(answer.body["expiresIn"], exp - iat);
    }
    run(
        &db,
        "UPDATE auth.sessions SET expires_at = now() WHERE parent_id IS NULL",
    )
    .await;
    run(
        &db,
        "UPDATE auth.sessions SET expires_at = now() WHERE parent_id IS NOT NULL",
    )
    .await;
    let over = origin.refresh(&person(&again).refresh).await;
    over.is_problem(401, "INVALID_REFRESH_TOKEN");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn one_whose_time_was_over_is_not_brought_back(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let old = tab.at(&origin, APP).await;
    run(
        &db,
        "UPDATE auth.sessions SET expires_at = now() WHERE parent_id IS NOT NULL",
    )
    .await;
    let new = tab.at(&origin, APP).await;
    assert_ne!(session_of(&old), session_of(&new));
    let answer = origin.refresh(&old.refresh).await;
    answer.is_problem(401, "INVALID_REFRESH_TOKEN");
    assert!(is_live(&origin, &new).await && !is_live(&origin, &old).await);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn signing_out_of_an_app_ends_that_alone(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let (one, two) = (tab.at(&origin, APP).await, tab.at(&origin, TWO).await);
    for _ in ["signs out", "had signed out"] {
        let body = json!({"refreshToken": one.refresh});
        let answer = origin.post("/api/v1/auth/logout", None, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert!(
            !answer.headers.contains_key(header::SET_COOKIE),
            "the browser's stays"
        );
    }
    has_ended(&origin, &db, "sign out", &one).await;
    assert!(is_live(&origin, &two).await && is_live(&origin, &tab.person).await);
    let again = tab.at(&origin, APP).await;
    assert_ne!(session_of(&again), session_of(&one));
    end(&origin, &tab.person, &session_of(&again)).await;
    has_ended(&origin, &db, "end in the list", &again).await;
    assert!(is_live(&origin, &two).await && is_live(&origin, &tab.person).await);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_apps_used_token_ends_the_apps_session_alone(db: PgPool) {
    let (origin, tab) = scene(&db, &["--refresh-grace=0s"]).await;
    let (one, two) = (tab.at(&origin, APP).await, tab.at(&origin, TWO).await);
    let next = person(&origin.refresh(&one.refresh).await);
    origin.refresh(&next.refresh).await;
    origin
        .refresh(&one.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    has_ended(&origin, &db, "reuse", &one).await;
    assert!(is_live(&origin, &two).await && is_live(&origin, &tab.person).await);
    assert!(is_live(&origin, &tab.at(&origin, APP).await).await);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn ending_the_others_from_an_app_leaves_it_and_its_browser(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let (one, two) = (tab.at(&origin, APP).await, tab.at(&origin, TWO).await);
    let other = Tab::sign_in(&origin, ADA).await;
    post(
        &origin,
        "/api/v1/auth/sessions/revoke-others",
        &one,
        &json!({}),
    )
    .await;
    assert!(is_live(&origin, &one).await && is_live(&origin, &tab.person).await);
    has_ended(&origin, &db, "beside it", &two).await;
    assert!(!is_live(&origin, &other.person).await);
    // From the browser's own, the apps' are others.
    post(
        &origin,
        "/api/v1/auth/sessions/revoke-others",
        &tab.person,
        &json!({}),
    )
    .await;
    has_ended(&origin, &db, "below it", &one).await;
    assert!(is_live(&origin, &tab.person).await);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn apps_crowd_nobody_out(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let apps: Vec<String> = (0..120).map(|n| format!("https://{n}.example")).collect();
    for (n, page) in apps.iter().enumerate() {
        Service::with_pages(&db, &format!("app-{n}"), &[page]).await;
    }
    for page in &apps {
        let answer = tab.ask(&origin, page).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    origin.login(ADA).await;
    assert!(is_live(&origin, &tab.person).await);
    let ended = "SELECT count(*) FROM auth.sessions WHERE revoked_at IS NOT NULL";
    assert_eq!(count(&db, ended).await, 0);
}

async fn in_time<T>(both: impl Future<Output = T>) -> T {
    let done = timeout(Duration::from_secs(20), both).await;
    done.expect("neither waits for ever")
}

/// The browser signs out between the look at its cookie and the making of the app's session.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn one_that_is_made_while_the_browser_signs_out_is_not(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let mut signing_out = db.begin().await.expect("a transaction");
    sqlx::query("UPDATE auth.sessions SET revoked_at = now()")
        .execute(&mut *signing_out)
        .await
        .expect("an end");
    let signed_out = async {
        waiting(&db, 1).await;
        signing_out.commit().await.expect("ended");
    };
    let (answer, ()) = in_time(async { tokio::join!(tab.ask(&origin, APP), signed_out) }).await;
    answer.is_problem(401, "UNAUTHENTICATED");
    assert_eq!(count(&db, CHILDREN).await, 0);
}

/// A thief's token ends the browser's session while the app's is being made.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn one_that_is_being_made_ends_with_the_browsers(db: PgPool) {
    let (origin, tab) = scene(&db, &["--refresh-grace=0s"]).await;
    let next = person(&origin.refresh(&tab.person.refresh).await);
    origin.refresh(&next.refresh).await;
    let user = tab.person.id.parse().expect("an id");
    let mut making = origin.app.db.writing_as(user).await.expect("a transaction");
    let made: String = sqlx::query_scalar(
        "SELECT session::text FROM auth.open_below($1::uuid, 'one', gen_random_uuid(), 'sixteen bytes ok', NULL, NULL)",
    )
    .bind(session_of(&tab.person))
    .fetch_one(&mut *making)
    .await
    .expect("a session");
    let commits = async {
        waiting(&db, 1).await;
        making.commit().await.expect("made");
    };
    let both = async { tokio::join!(origin.refresh(&tab.person.refresh), commits) };
    let (reused, ()) = in_time(both).await;
    reused.is_problem(401, "INVALID_REFRESH_TOKEN");
    let told = feed(&origin, &db, 0).await;
    let mut told = told.revocations.iter();
    assert!(
        told.any(|told| matches!(told, Revocation::Session { id, .. } if id.to_string() == made))
    );
    let open = "SELECT count(*) FROM auth.sessions WHERE revoked_at IS NULL";
    assert_eq!(count(&db, open).await, 0);
}
