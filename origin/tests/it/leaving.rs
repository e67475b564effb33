//! What is held about a person: for them to take along, and gone when they leave.

use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Request, header},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use origin::apps::Permission;

use crate::support::{
    Answer, Origin, PASSWORD, Person, Service, assert_ledger_adds_up, count, text,
};

const EXPORT: &str = "/api/v1/auth/me/export";
const ACCOUNT: &str = "/api/v1/auth/account";
const STILL_THERE: &str = "SELECT count(*) FROM auth.users WHERE status = 'active'";

async fn export(origin: &Origin, person: &Person) -> Value {
    let answer = origin.get(EXPORT, &person.access).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer.body
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_export_has_all_of_its_owners_and_nothing_of_others(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (ada, eve) = (
        origin.join("ada@example.org").await,
        origin.join("eve@example.org").await,
    );
    origin.spend(&ada, 1.5, Some("key")).await;
    origin.spend(&eve, 2.0, None).await;
    // More than a page of them, and one page to the row.
    sqlx::query(
        "INSERT INTO auth.security_events (user_id, type, outcome)
         SELECT $1::uuid, 'sign_in', 'success' FROM generate_series(1, 297)",
    )
    .bind(&ada.id)
    .execute(&db)
    .await
    .expect("events");
    let document = export(&origin, &ada).await;
    let sections: Vec<&String> = document.as_object().expect("an object").keys().collect();
    assert_eq!(
        sections,
        [
            "account",
            "appsAllowed",
            "appsSignedInTo",
            "balance",
            "devices",
            "holds",
            "linkedAccounts",
            "lots",
            "matrixIds",
            "purchases",
            "securityEvents",
            "sessions",
            "transactions"
        ]
    );
    assert_eq!(document["account"][0]["email"], "ada@example.org");
    assert_eq!(document["sessions"].as_array().map(Vec::len), Some(1));
    // Registered, signed in, and those.
    assert_eq!(
        document["securityEvents"].as_array().map(Vec::len),
        Some(300)
    );
    let spent: Vec<&Value> = document["transactions"]
        .as_array()
        .expect("an array")
        .iter()
        .filter(|transaction| transaction["type"] == "spend")
        .collect();
    assert_eq!(spent.len(), 1);
    assert_eq!(
        (&spent[0]["amount"], &spent[0]["idempotencyKey"]),
        (&1.5.into(), &"key".into())
    );
    assert_eq!(document["balance"][0]["free"], 153.5);
    let text = document.to_string();
    for foreign in ["eve@", eve.id.as_str(), "refresh_salt", "cookie", "argon2"] {
        assert!(!text.contains(foreign), "{foreign}");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_export_needs_its_owner(db: PgPool) {
    let origin = Origin::start(&db).await;
    let request = Request::get(EXPORT).body(Body::empty()).expect("a request");
    origin
        .send(request)
        .await
        .is_problem(401, "UNAUTHENTICATED");
}

/// What names Ada, wherever it may be.
const PERSONAL: [&str; 7] = [
    "ada@example.org",
    "Ada L",
    "192.0.2.77",
    "Difference Engine",
    "my brass phone",
    "a poem for Byron",
    "to my mother",
];

/// As a browser of Ada's sends it.
async fn ask(
    origin: &Origin,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "Difference Engine");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let mut request = request
        .body(Body::from(body.to_string()))
        .expect("a request");
    let peer = SocketAddr::from(([192, 0, 2, 77], 4_000));
    request.extensions_mut().insert(ConnectInfo(peer));
    origin.send(request).await
}

/// How many rows of all tables have this in them.
pub async fn rows_with(db: &PgPool, needle: &str) -> Vec<(String, i64)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname IN ('auth', 'credits') AND c.relkind IN ('r', 'p')",
    )
    .fetch_all(db)
    .await
    .expect("tables");
    let mut found = Vec::new();
    for table in tables {
        let query = format!("SELECT count(*) FROM {table} t WHERE t::text LIKE '%' || $1 || '%'");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(needle)
            .fetch_one(db)
            .await
            .expect("a count");
        if rows > 0 {
            found.push((table, rows));
        }
    }
    found
}

/// Ada, who has left traces everywhere.
async fn ada(origin: &Origin) -> String {
    let register = json!({"email": "ada@example.org", "password": PASSWORD, "name": "Ada L"});
    ask(origin, "POST", "/api/v1/auth/register", None, &register).await;
    let wrong = json!({"email": "ada@example.org", "password": "wrong horse"});
    ask(origin, "POST", "/api/v1/auth/login", None, &wrong).await;
    let login = json!({"email": "ada@example.org", "password": PASSWORD, "deviceId": "phone-1",
                       "deviceName": "my brass phone"});
    let signed_in = ask(origin, "POST", "/api/v1/auth/login", None, &login).await;
    let token = text(&signed_in.body["accessToken"]);
    let forgot = json!({"email": "ada@example.org"});
    ask(
        origin,
        "POST",
        "/api/v1/auth/forgot-password",
        None,
        &forgot,
    )
    .await;
    let charge = json!({"amount": 1, "appId": "verses", "description": "a poem for Byron",
                        "metadata": {"goes": "to my mother"}});
    let spent = ask(origin, "POST", "/api/v1/credits/use", Some(&token), &charge).await;
    assert_eq!(spent.status, 200, "{spent:?}");
    token
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_leaves_is_named_nowhere_and_the_ledger_adds_up(db: PgPool) {
    let origin = Origin::start(&db).await;
    let eve = origin.join("eve@example.org").await;
    let token = ada(&origin).await;
    for needle in PERSONAL {
        assert!(
            !rows_with(&db, needle).await.is_empty(),
            "{needle} is not there before"
        );
    }
    let password = json!({"password": PASSWORD});
    let left = ask(&origin, "DELETE", ACCOUNT, Some(&token), &password).await;
    assert_eq!(left.status, 200, "{left:?}");
    while clear_words(&db, 1_000).await {}
    for needle in PERSONAL {
        assert_eq!(rows_with(&db, needle).await, [], "{needle}");
    }
    assert_ledger_adds_up(&db).await;
    origin
        .get("/api/v1/auth/session", &token)
        .await
        .is_problem(401, "SESSION_REVOKED");
    let user_wide = "SELECT count(*) FROM auth.revocations WHERE session_id IS NULL";
    assert_eq!(count(&db, user_wide).await, 1);
    let login = json!({"email": "ada@example.org", "password": PASSWORD});
    ask(&origin, "POST", "/api/v1/auth/login", None, &login)
        .await
        .is_problem(401, "INVALID_CREDENTIALS");
    // The words alone were opened: the rest of a transaction is as it was, whoever asks.
    let changed = sqlx::query("UPDATE credits.transactions SET amount = 1")
        .execute(&db)
        .await;
    assert!(changed.is_err());
    // Others are where they were; and who comes back is somebody new, without another bonus.
    assert!((origin.spendable(&eve).await - 155.0).abs() < f64::EPSILON);
    let again = origin.join("ada@example.org").await;
    assert!((origin.spendable(&again).await - 5.0).abs() < f64::EPSILON);
}

/// As the task does that clears the words of those who have left.
pub async fn clear_words(db: &PgPool, rows: i32) -> bool {
    sqlx::query_scalar("SELECT auth.clear_words($1)")
        .bind(rows)
        .fetch_one(db)
        .await
        .expect("a slice")
}

pub const WORDS: &str = "SELECT count(*) FROM credits.transactions WHERE description IS NOT NULL OR metadata IS NOT NULL";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn words_go_in_slices_and_nobody_elses(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (ada, eve) = (
        origin.join("ada@example.org").await,
        origin.join("eve@example.org").await,
    );
    origin.spend(&eve, 1.0, None).await;
    for _ in 0..5 {
        origin.spend(&ada, 1.0, None).await;
    }
    let others = count(&db, WORDS).await - 5;
    let left = leave(&origin, &ada).await;
    assert_eq!(left.status, 200, "{left:?}");
    assert!(clear_words(&db, 2).await);
    assert!(count(&db, WORDS).await > others, "two at the most");
    while clear_words(&db, 2).await {}
    assert_eq!(count(&db, WORDS).await, others);
    assert!(others > 0);
    assert_ledger_adds_up(&db).await;
}

pub async fn leave(origin: &Origin, person: &Person) -> Answer {
    let body = json!({"password": PASSWORD});
    ask(origin, "DELETE", ACCOUNT, Some(&person.access), &body).await
}

/// What is said of somebody who is gone would stay.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_grants_or_refunds_to_somebody_who_has_left(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let admin = origin.join_as_admin(&db, "root@example.org").await;
    let app = Service::add(
        &db,
        "app",
        &[Permission::Grant, Permission::Refund],
        100_000,
    )
    .await;
    app.meets(&db, &ada).await;
    let charge = origin.spend(&ada, 2.0, None).await;
    assert_eq!(leave(&origin, &ada).await.status, 200);
    let grant = json!({"userId": ada.id, "amount": 1, "reason": "for Ada L", "referenceId": "r"});
    let refund = json!({"userId": ada.id, "transactionId": charge.body["transaction"]["id"],
                        "reason": "for Ada L", "referenceId": "r"});
    for (path, body) in [
        ("/api/v1/credits/grants", &grant),
        ("/api/v1/credits/refunds", &refund),
    ] {
        for answer in [
            origin.post(path, Some(&admin.access), body).await,
            origin.post_as(&app, path, body).await,
        ] {
            answer.is_problem(404, "NOT_FOUND");
        }
    }
    assert_eq!(rows_with(&db, "for Ada L").await, []);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn leaving_needs_the_password_and_a_recent_sign_in(db: PgPool) {
    let origin = Origin::start(&db).await;
    let token = ada(&origin).await;
    let leave = async |password: &str| {
        let body = json!({"password": password});
        ask(&origin, "DELETE", ACCOUNT, Some(&token), &body).await
    };
    leave("wrong horse")
        .await
        .is_problem(401, "INVALID_CREDENTIALS");
    let without = ask(&origin, "DELETE", ACCOUNT, Some(&token), &json!({})).await;
    without.is_problem(400, "VALIDATION_FAILED");
    assert_eq!(without.pointers(), ["/password"]);
    let old = signed_in_long_ago(&origin, &db).await;
    let body = json!({"password": PASSWORD});
    ask(&origin, "DELETE", ACCOUNT, Some(&old), &body)
        .await
        .is_problem(403, "RECENT_SIGN_IN_REQUIRED");
    assert_eq!(count(&db, STILL_THERE).await, 1);
}

/// Whoever came by another provider, or lost a password that somebody else had chosen, has none.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_has_no_password_leaves_by_a_recent_sign_in_alone(db: PgPool) {
    let origin = Origin::start(&db).await;
    let token = ada(&origin).await;
    let old = signed_in_long_ago(&origin, &db).await;
    sqlx::query("DELETE FROM auth.passwords")
        .execute(&db)
        .await
        .expect("none");
    let leave =
        async |token: &str, body: &Value| ask(&origin, "DELETE", ACCOUNT, Some(token), body).await;
    leave(&old, &json!({}))
        .await
        .is_problem(403, "RECENT_SIGN_IN_REQUIRED");
    leave(&token, &json!({"password": "whatever it is"}))
        .await
        .is_problem(401, "INVALID_CREDENTIALS");
    let left = leave(&token, &json!({})).await;
    assert_eq!(left.status, 200, "{left:?}");
    assert_eq!(count(&db, STILL_THERE).await, 0);
}

/// An access token by a refresh, of a sign-in that is some time ago.
async fn signed_in_long_ago(origin: &Origin, db: &PgPool) -> String {
    let person = origin.login("ada@example.org").await;
    sqlx::query("UPDATE auth.sessions SET authenticated_at = now() - interval '11 minutes'")
        .execute(db)
        .await
        .expect("time passes");
    text(&origin.refresh(&person.refresh).await.body["accessToken"])
}
