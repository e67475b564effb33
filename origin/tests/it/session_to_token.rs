//! What an app's page gets by the cookie of the browser that shows it.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    forgery::{APP, HOME, STRANGERS},
    revocations::claims,
    support::{Answer, Origin, PASSWORD, Person, Service, count, text},
};

pub const ADA: &str = "ada@example.org";
pub const TWO: &str = "https://two.example";
const SESSION_TO_TOKEN: &str = "/api/v1/auth/session-to-token";
const SESSIONS: &str = "/api/v1/auth/sessions";
pub const CHILDREN: &str = "SELECT count(*) FROM auth.sessions WHERE parent_id IS NOT NULL";

/// A browser that is signed in.
pub struct Tab {
    pub cookie: String,
    pub person: Person,
}

impl Tab {
    pub async fn sign_in(origin: &Origin, email: &str) -> Self {
        let body = json!({"email": email, "password": PASSWORD});
        let answer = origin.post("/api/v1/auth/login", None, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let cookies = answer.headers.get_all(header::SET_COOKIE).iter();
        let mut pairs = cookies.map(|cookie| {
            let pair = cookie.to_str().expect("text").split(';').next();
            pair.expect("a pair").to_owned()
        });
        Self {
            cookie: pairs
                .find(|pair| pair.starts_with("tollgate="))
                .expect("the session's"),
            person: person(&answer),
        }
    }

    /// An app's page at this origin asks.
    pub async fn ask(&self, origin: &Origin, page: &str) -> Answer {
        ask(origin, &[("cookie", &self.cookie), ("origin", page)]).await
    }

    /// An app's page asks, and is answered.
    pub async fn at(&self, origin: &Origin, page: &str) -> Person {
        let answer = self.ask(origin, page).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        person(&answer)
    }
}

async fn ask(origin: &Origin, headers: &[(&str, &str)]) -> Answer {
    let request = headers
        .iter()
        .fold(Request::post(SESSION_TO_TOKEN), |request, (name, value)| {
            request.header(*name, *value)
        });
    origin
        .send(request.body(Body::empty()).expect("a request"))
        .await
}

pub fn person(answer: &Answer) -> Person {
    Person {
        id: text(&answer.body["user"]["id"]),
        access: text(&answer.body["accessToken"]),
        refresh: text(&answer.body["refreshToken"]),
    }
}

pub fn session_of(person: &Person) -> String {
    text(&claims(&person.access)["sid"])
}

/// An origin with two apps, and somebody who is signed in.
pub async fn scene(db: &PgPool, flags: &[&str]) -> (Origin, Tab) {
    Service::with_pages(db, "one", &[APP]).await;
    Service::with_pages(db, "two", &[TWO]).await;
    let origin = Origin::start_with(db, flags).await;
    origin.register(ADA).await;
    let tab = Tab::sign_in(&origin, ADA).await;
    (origin, tab)
}

pub async fn run(db: &PgPool, statement: &'static str) {
    let done = sqlx::query(statement).execute(db).await;
    assert!(done.expect(statement).rows_affected() > 0, "{statement}");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_app_gets_tokens_of_a_session_of_its_own(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let answer = tab.ask(&origin, APP).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(!answer.headers.contains_key(header::SET_COOKIE));
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(
        (&answer.body["expiresIn"], &answer.body["tokenType"]),
        (&json!(900), &json!("Bearer"))
    );
    assert_eq!(answer.body["user"]["email"], ADA);
    let app = person(&answer);
    let (above, below) = (claims(&tab.person.access), claims(&app.access));
    assert_eq!(below["client_id"], "one");
    for same in ["sub", "auth_time", "amr", "aud", "iss"] {
        assert_eq!(below[same], above[same], "{same}");
    }
    assert_ne!(below["sid"], above["sid"]);
    let refreshed = origin.refresh(&app.refresh).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{refreshed:?}");
    let refreshed = claims(&person(&refreshed).access);
    assert_eq!(
        (&refreshed["sid"], &refreshed["client_id"]),
        (&below["sid"], &json!("one"))
    );
    // It was not the app that somebody has shown who they are.
    let enrol = origin
        .post("/api/v1/auth/mfa/totp", Some(&app.access), &json!({}))
        .await;
    enrol.is_problem(403, "RECENT_SIGN_IN_REQUIRED");
    let events = origin
        .get("/api/v1/auth/security-events", &tab.person.access)
        .await;
    assert!(
        events.body.to_string().contains("app_sign_in"),
        "{events:?}"
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_admin_is_a_user_at_an_app(db: PgPool) {
    let (origin, _) = scene(&db, &[]).await;
    run(&db, "UPDATE auth.users SET role = 'admin'").await;
    let tab = Tab::sign_in(&origin, ADA).await;
    let answer = tab.ask(&origin, APP).await;
    let app = person(&answer);
    let refreshed = origin.refresh(&app.refresh).await;
    let session = origin.get("/api/v1/auth/session", &app.access).await;
    let profile = origin.get("/api/v1/auth/profile", &app.access).await;
    for role in [
        &answer.body["user"]["role"],
        &claims(&app.access)["role"],
        &refreshed.body["user"]["role"],
        &claims(&person(&refreshed).access)["role"],
        &session.body["user"]["role"],
        &profile.body["role"],
    ] {
        assert_eq!(role, "user");
    }
    let grant = json!({"userId": app.id, "amount": 1, "reason": "r", "referenceId": "g"});
    let path = "/api/v1/credits/grants";
    let by_app = origin.post(path, Some(&app.access), &grant).await;
    by_app.is_problem(403, "FORBIDDEN");
    let by_admin = origin.post(path, Some(&tab.person.access), &grant).await;
    assert_eq!(by_admin.status, StatusCode::OK, "{by_admin:?}");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_apps_key_charges_whom_its_page_got_tokens_for(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let service = Service::with_pages(&db, "shop", &["https://shop.example"]).await;
    let charge = json!({"userId": tab.person.id, "amount": 1, "appId": "shop", "description": "d"});
    let path = "/api/v1/credits/use";
    let before = origin.post_as(&service, path, &charge).await;
    before.is_problem(404, "NOT_FOUND");
    tab.at(&origin, "https://shop.example").await;
    let after = origin.post_as(&service, path, &charge).await;
    assert_eq!(after.status, StatusCode::OK, "{after:?}");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_list_of_sessions_says_whose_they_are(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let app = tab.at(&origin, APP).await;
    for (who, current) in [(&tab.person, &tab.person), (&app, &app)] {
        let list = origin.get(SESSIONS, &who.access).await.body;
        let find = |id: &str| {
            let mut list = list.as_array().expect("a list").iter();
            list.find(|session| session["id"] == id)
                .expect("listed")
                .clone()
        };
        let (above, below) = (find(&session_of(&tab.person)), find(&session_of(&app)));
        assert_eq!(
            (&above["app"], &above["parentId"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(below["app"], json!({"id": "one", "name": "one"}));
        assert_eq!(below["parentId"], above["id"]);
        assert_eq!(find(&session_of(current))["current"], true);
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn tabs_that_ask_at_once_share_a_session_and_each_app_has_its_own(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let (a, b, c, d, e, f) = tokio::join!(
        tab.at(&origin, APP),
        tab.at(&origin, APP),
        tab.at(&origin, TWO),
        tab.at(&origin, APP),
        tab.at(&origin, TWO),
        tab.at(&origin, APP),
    );
    for same in [&b, &d, &f] {
        assert_eq!(
            (session_of(same), &same.refresh),
            (session_of(&a), &a.refresh)
        );
    }
    assert_eq!((session_of(&c), &c.refresh), (session_of(&e), &e.refresh));
    assert_ne!(session_of(&a), session_of(&c));
    assert_eq!(count(&db, CHILDREN).await, 2);

    // Both keep working: they refresh at once, one asks again, and all have the latest token.
    let (one, two) = tokio::join!(origin.refresh(&a.refresh), origin.refresh(&b.refresh));
    let again = tab.at(&origin, APP).await;
    assert_eq!(person(&one).refresh, person(&two).refresh);
    assert_eq!(person(&one).refresh, again.refresh);
    for tab in [&a, &b, &person(&one), &person(&two), &again] {
        let answer = origin.get("/api/v1/auth/session", &tab.access).await;
        assert_eq!(answer.body["session"]["app"]["id"], "one", "{answer:?}");
    }
    for (token, client) in [(&again.refresh, "one"), (&c.refresh, "two")] {
        let answer = origin.refresh(token).await;
        assert_eq!(claims(&person(&answer).access)["client_id"], client);
    }
    let own = origin.refresh(&tab.person.refresh).await;
    assert_eq!(claims(&person(&own).access)["client_id"], "first-party");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn no_other_page_gets_any(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    for page in STRANGERS.iter().chain(&[HOME]) {
        let answer = tab.ask(&origin, page).await;
        answer.is_problem(403, "FOREIGN_PAGE");
    }
    let cookie = ("cookie", tab.cookie.as_str());
    for headers in [
        &[cookie][..],
        &[cookie, ("sec-fetch-site", "same-origin")],
        &[cookie, ("origin", APP), ("origin", APP)],
        &[cookie, ("origin", APP), ("origin", TWO)],
        // What excuses others from the look at the page does not here.
        &[
            cookie,
            ("origin", "https://evil.test"),
            ("authorization", "Bearer x"),
        ],
        &[
            cookie,
            ("origin", "https://evil.test"),
            ("x-service-key", "x"),
        ],
        &[cookie, ("authorization", "Bearer x")],
    ] {
        let answer = ask(&origin, headers).await;
        answer.is_problem(403, "FOREIGN_PAGE");
    }
    run(
        &db,
        "UPDATE auth.apps SET disabled_at = now() WHERE id = 'one'",
    )
    .await;
    let answer = tab.ask(&origin, APP).await;
    answer.is_problem(403, "FOREIGN_PAGE");
    assert_eq!(count(&db, CHILDREN).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn without_a_live_session_there_are_none(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let app = tab.at(&origin, APP).await;
    let is_nobody = async |cookie: &str| {
        let answer = ask(&origin, &[("cookie", cookie), ("origin", APP)]).await;
        answer.is_problem(401, "UNAUTHENTICATED");
        assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
    };
    ask(&origin, &[("origin", APP)])
        .await
        .is_problem(401, "UNAUTHENTICATED");
    for cookie in ["", "tollgate=", "tollgate=x", "other=y"] {
        is_nobody(cookie).await;
    }
    for token in [&app.refresh, &app.access, &tab.person.refresh] {
        is_nobody(&format!("tollgate={token}")).await;
    }
    run(
        &db,
        "UPDATE auth.sessions SET expires_at = now() WHERE parent_id IS NULL",
    )
    .await;
    is_nobody(&tab.cookie).await;
    let tab = Tab::sign_in(&origin, ADA).await;
    let token = Some(tab.person.access.as_str());
    origin.post("/api/v1/auth/logout", token, &json!({})).await;
    is_nobody(&tab.cookie).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_body_is_nothing_or_an_empty_object(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    for (kind, body, status) in [
        (Some("application/json"), "{}", 200),
        (Some("application/json"), "", 200),
        (Some("application/json"), r#"{"client_id":"two"}"#, 400),
        (None, "{}", 415),
        (Some("text/plain"), "", 415),
        (Some("application/x-www-form-urlencoded"), "", 415),
    ] {
        let mut request = Request::post(SESSION_TO_TOKEN)
            .header(header::COOKIE, &tab.cookie)
            .header(header::ORIGIN, APP);
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let answer = origin
            .send(request.body(body.into()).expect("a request"))
            .await;
        assert_eq!(answer.status, status, "{kind:?} {body}: {answer:?}");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn of_two_apps_at_one_origin_the_older_is_meant(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    Service::with_pages(&db, "a-newer-one", &[APP]).await;
    let app = tab.at(&origin, APP).await;
    assert_eq!(claims(&app.access)["client_id"], "one");
}

/// The function looks by itself, since row security does not.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_opens_one_below_somebody_elses(db: PgPool) {
    let (origin, tab) = scene(&db, &[]).await;
    let eve = origin.join("eve@example.org").await;
    let app = tab.at(&origin, APP).await;
    let open = async |who: &str, parent: &str| {
        let user = who.parse().expect("an id");
        let mut acting = origin.app.db.as_user(user).await.expect("a transaction");
        let opened = sqlx::query(
            "SELECT FROM auth.open_below($1::uuid, 'two', gen_random_uuid(), 'sixteen bytes ok', NULL, NULL)",
        )
        .bind(parent)
        .fetch_all(&mut *acting)
        .await;
        opened.expect("an answer").len()
    };
    let (above, below) = (session_of(&tab.person), session_of(&app));
    assert_eq!(open(&eve.id, &above).await, 0);
    // Nor below an app's.
    assert_eq!(open(&tab.person.id, &below).await, 0);
    assert_eq!(open(&tab.person.id, &above).await, 1);
}
