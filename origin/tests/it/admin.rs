//! What admins do to other people's accounts, and that nobody else does.

use std::time::Duration;

use axum::http::StatusCode;
use origin::admin::{self, Change, Error, Search};
use serde_json::json;
use shared::{
    claims::Role,
    ids::{SessionId, UserId},
};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::support::{Origin, Person, client, count, text, waiting};

fn id(person: &Person) -> UserId {
    person.id.parse().expect("an id")
}

async fn scene(db: &PgPool) -> (Origin, Person, Person) {
    let origin = Origin::start(db).await;
    let ada = origin.join("ada@example.org").await;
    let admin = origin.join_as_admin(db, "root@example.org").await;
    (origin, ada, admin)
}

async fn change(origin: &Origin, by: &Person, to: &Person, what: Change) -> Result<(), Error> {
    admin::change(&origin.app, id(by), id(to), what, &client()).await
}

/// What was written down for somebody of what an admin did, in order.
async fn written(db: &PgPool, of: &Person, by: &Person) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT type FROM auth.security_events
         WHERE user_id = $1::uuid AND admin_id = $2::uuid AND address = '192.0.2.7' ORDER BY id",
    )
    .bind(&of.id)
    .bind(&by.id)
    .fetch_all(db)
    .await
    .expect("events")
}

/// The row that makes edges refuse at once.
const USERS_REVOKED: &str =
    "SELECT count(*) FROM auth.revocations WHERE session_id IS NULL AND user_id IS NOT NULL";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn whoever_is_no_admin_is_refused_by_the_database(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    let eve = origin.join("eve@example.org").await;
    let app = &origin.app;
    let refused = async |eve: UserId, ada: UserId| {
        for what in [
            Change::Role(Role::Admin),
            Change::Ban,
            Change::Unban,
            Change::SignOut,
            Change::EndSession(SessionId::from(uuid::Uuid::nil())),
        ] {
            let error = admin::change(app, eve, ada, what, &client()).await;
            assert!(matches!(error, Err(Error::NotAdmin)), "{what:?}: {error:?}");
        }
        let search = Search::new("", "");
        for error in [
            admin::find(app, eve, &search).await.err(),
            admin::look(app, eve, ada).await.err(),
            admin::outbox(app, eve).await.err(),
            admin::health(app, eve).await.err(),
            admin::as_admin(app, eve).await.err(),
        ] {
            assert!(matches!(error, Some(Error::NotAdmin)), "{error:?}");
        }
    };
    refused(id(&eve), id(&ada)).await;
    // Nor one who was an admin a moment ago.
    let root = origin.join_as_admin(&db, "second@example.org").await;
    change(&origin, &root, &admin, Change::Ban)
        .await
        .expect("a ban");
    refused(id(&admin), id(&ada)).await;
    assert_eq!(
        origin.get("/api/v1/auth/session", &ada.access).await.status,
        StatusCode::OK
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_ban_ends_every_session_and_lets_nobody_in(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    let second = origin.login("ada@example.org").await;
    change(&origin, &admin, &ada, Change::Ban)
        .await
        .expect("a ban");
    for device in [&ada, &second] {
        let answer = origin.get("/api/v1/auth/session", &device.access).await;
        answer.is_problem(401, "SESSION_REVOKED");
        origin
            .refresh(&device.refresh)
            .await
            .is_problem(401, "INVALID_REFRESH_TOKEN");
    }
    assert_eq!(count(&db, USERS_REVOKED).await, 1);
    let credentials = json!({"email": "ada@example.org", "password": crate::support::PASSWORD});
    let login = "/api/v1/auth/login";
    let answer = origin.post(login, None, &credentials).await;
    answer.is_problem(403, "ACCOUNT_DISABLED");
    let error = change(&origin, &admin, &ada, Change::Ban).await;
    assert!(matches!(error, Err(Error::AsBefore)), "{error:?}");

    change(&origin, &admin, &ada, Change::Unban)
        .await
        .expect("another chance");
    origin.login("ada@example.org").await;
    // What had ended stays so.
    origin
        .refresh(&ada.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    assert_eq!(written(&db, &ada, &admin).await, ["banned", "unbanned"]);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_role_holds_from_the_next_refresh_and_the_old_tokens_no_longer(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    let role = Change::Role(Role::Admin);
    change(&origin, &admin, &ada, role)
        .await
        .expect("a promotion");
    assert_eq!(count(&db, USERS_REVOKED).await, 1);
    let answer = origin.refresh(&ada.refresh).await;
    assert_eq!(text(&answer.body["user"]["role"]), "admin");
    let role = Change::Role(Role::User);
    change(&origin, &ada, &admin, role)
        .await
        .expect("a demotion");
    assert_eq!(count(&db, USERS_REVOKED).await, 2);
    assert_eq!(written(&db, &ada, &admin).await, ["made_admin"]);
    assert_eq!(written(&db, &admin, &ada).await, ["made_user"]);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn admins_lock_themselves_out_in_no_way(db: PgPool) {
    let (origin, _, admin) = scene(&db).await;
    for what in [Change::Role(Role::User), Change::Ban] {
        let error = change(&origin, &admin, &admin, what).await;
        assert!(matches!(error, Err(Error::Oneself)), "{what:?}: {error:?}");
    }
    assert!(written(&db, &admin, &admin).await.is_empty());
    let answer = origin.get("/api/v1/auth/session", &admin.access).await;
    assert_eq!(text(&answer.body["user"]["role"]), "admin");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn one_session_ends_or_all_of_them_and_only_that_persons(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    let second = origin.login("ada@example.org").await;
    let looked = admin::look(&origin.app, id(&admin), id(&ada))
        .await
        .expect("a look");
    assert_eq!(looked.sessions.len(), 2);
    let latest = looked.sessions[0].id;
    let end = Change::EndSession(latest);
    // Named with somebody else, it is nobody's.
    let error = change(&origin, &admin, &admin, end).await;
    assert!(matches!(error, Err(Error::NoSuchSession)), "{error:?}");
    change(&origin, &admin, &ada, end).await.expect("one ends");
    origin
        .refresh(&second.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    let one = "SELECT count(*) FROM auth.revocations WHERE session_id IS NOT NULL";
    assert_eq!(count(&db, one).await, 1);
    assert_eq!(
        origin.get("/api/v1/auth/session", &ada.access).await.status,
        StatusCode::OK
    );
    let error = change(&origin, &admin, &ada, end).await;
    assert!(matches!(error, Err(Error::NoSuchSession)), "{error:?}");

    change(&origin, &admin, &ada, Change::SignOut)
        .await
        .expect("all end");
    origin
        .refresh(&ada.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    assert_eq!(count(&db, USERS_REVOKED).await, 1);
    let expected = ["session_ended_by_admin", "signed_out_by_admin"];
    assert_eq!(written(&db, &ada, &admin).await, expected);
    assert_eq!(
        origin
            .get("/api/v1/auth/session", &admin.access)
            .await
            .status,
        StatusCode::OK
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn people_are_found_by_id_and_by_the_beginning_of_their_address_in_pages(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    for name in ["adam", "ad_", "bea"] {
        origin.register(&format!("{name}@example.org")).await;
    }
    let find = async |search: Search| {
        let people = admin::find(&origin.app, id(&admin), &search)
            .await
            .expect("a look");
        let found: Vec<String> = people.found.into_iter().map(|one| one.email).collect();
        (found, people.next)
    };
    let (found, next) = find(Search::new(" AD", "").limit(2)).await;
    assert_eq!(found, ["ad_@example.org", "ada@example.org"]);
    let (found, next) = find(Search::new("AD", &next.expect("more")).limit(2)).await;
    assert_eq!((found, next), (vec!["adam@example.org".to_owned()], None));
    // No pattern: what is typed is what it is.
    assert!(find(Search::new("a%", "")).await.0.is_empty());
    assert_eq!(find(Search::new(&ada.id, "")).await.0, ["ada@example.org"]);
    sqlx::query("UPDATE auth.users SET status = 'deleted' WHERE id = $1::uuid")
        .bind(&ada.id)
        .execute(&db)
        .await
        .expect("gone");
    assert!(find(Search::new(&ada.id, "")).await.0.is_empty());
    assert_eq!(find(Search::new("ada", "")).await.0, ["adam@example.org"]);
    for error in [
        change(&origin, &admin, &ada, Change::Ban).await.err(),
        admin::look(&origin.app, id(&admin), id(&ada)).await.err(),
    ] {
        assert!(matches!(error, Some(Error::NoSuchUser)), "{error:?}");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_look_shows_one_account_and_no_other(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    crate::second_factor::enrol(&origin, &ada).await;
    let looked = admin::look(&origin.app, id(&admin), id(&ada))
        .await
        .expect("a look");
    assert_eq!(looked.account.email, "ada@example.org");
    assert!(looked.account.has_second_factor && looked.account.has_password);
    assert_eq!(looked.sessions.len(), 1);
    assert!(looked.events.iter().any(|event| event.r#type == "sign_in"));
    let shown = serde_json::to_string(&looked).expect("JSON");
    assert!(!shown.contains("root@example.org"), "{shown}");
    assert!(!shown.contains(&admin.id), "{shown}");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_queue_of_mail_shows_no_address_in_full(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    sqlx::query(
        "INSERT INTO auth.outbox (id, kind, user_id, email_normalised, attempts, expires_at) VALUES
             (gen_random_uuid(), 'reset', NULL, 'somebody@example.net', 4, now() + interval '1 hour'),
             (gen_random_uuid(), 'verify', $1::uuid, NULL, 2, now() + interval '1 hour'),
             (gen_random_uuid(), 'verify', $1::uuid, NULL, 0, now() + interval '1 hour')",
    )
    .bind(&ada.id)
    .execute(&db)
    .await
    .expect("mail");
    let outbox = admin::outbox(&origin.app, id(&admin))
        .await
        .expect("a look");
    let counts: Vec<_> = outbox
        .counts
        .iter()
        .map(|count| (count.kind.as_str(), count.waiting))
        .collect();
    assert_eq!(counts, [("reset", 1), ("verify", 2)]);
    let stuck: Vec<_> = outbox
        .stuck
        .iter()
        .map(|mail| (mail.masked.as_str(), mail.attempts))
        .collect();
    assert_eq!(stuck, [("s…@example.net", 4), ("a…@example.org", 2)]);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_owner_sees_what_an_admin_did_and_not_from_where(db: PgPool) {
    let (origin, ada, admin) = scene(&db).await;
    change(&origin, &admin, &ada, Change::Role(Role::Admin))
        .await
        .expect("a promotion");
    let events = origin
        .get("/api/v1/auth/security-events", &ada.access)
        .await
        .body;
    assert_eq!(events[0]["type"], "made_admin");
    assert!(
        events[0]["ipAddress"].is_null() && events[0]["userAgent"].is_null(),
        "{events}"
    );
    let export = origin
        .get("/api/v1/auth/me/export", &ada.access)
        .await
        .body
        .to_string();
    assert!(
        export.contains("made_admin") && !export.contains("192.0.2.7"),
        "{export}"
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_admin_who_is_banned_meanwhile_bans_nobody(db: PgPool) {
    let (origin, ..) = scene(&db).await;
    let one = origin.join_as_admin(&db, "one@example.org").await;
    let two = origin.join_as_admin(&db, "two@example.org").await;
    // The one is an admin still when he asks, and waits for the ban that is under way.
    let mut ban = db.begin().await.expect("a transaction");
    sqlx::query("SELECT auth.change_ban(NULL, $1::uuid, true, NULL, NULL)")
        .bind(&one.id)
        .execute(&mut *ban)
        .await
        .expect("a ban");
    let banned = async {
        let comes = timeout(Duration::from_secs(20), waiting(&db, 1));
        comes.await.expect("he waits");
        ban.commit().await.expect("a commit");
    };
    let (refused, ()) = tokio::join!(change(&origin, &one, &two, Change::Ban), banned);
    assert!(matches!(refused, Err(Error::NotAdmin)), "{refused:?}");
    let active = "SELECT count(*) FROM auth.users WHERE role = 'admin' AND status = 'active'";
    assert_eq!(count(&db, active).await, 2);
}
