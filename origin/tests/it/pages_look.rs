//! How our pages look to a browser: their language, their headers, their size, and what people see when
//! something is wrong.

use axum::{
    body::Body,
    http::{Request, header},
};
use sqlx::PgPool;

use crate::{
    post_office::HOME,
    support::{Origin, Service},
    surfer::Surfer,
};

const OPEN: [&str; 8] = [
    "/sign-in",
    "/sign-in?again=1&returnUrl=/account",
    "/sign-in/mail",
    "/sign-in/forgot",
    "/sign-in/resend",
    "/register",
    "/check-your-mail?for=reset",
    "/sign-out",
];

const OF_MEMBERS: [&str; 16] = [
    "/account",
    "/account/security",
    "/account/devices",
    "/account/linked",
    "/account/access",
    "/account/credits",
    "/account/events",
    "/account/data",
    "/admin",
    "/admin?q=nobody",
    "/admin/apps",
    "/admin/clients",
    "/admin/keys",
    "/admin/mail",
    "/admin/health",
    "/admin/users/",
];

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn every_page_is_whole_by_itself_in_either_language(db: PgPool) {
    let origin = Origin::start(&db).await;
    let id = origin.join_as_admin(&db, "ada@example.org").await.id;
    let mut ada = Surfer::signed_in(&origin, "ada@example.org").await;
    let mut nobody = Surfer::at(&origin);
    for (language, lang, skip) in [
        ("en-GB,en;q=0.9,de;q=0.8", "en", "Skip to content"),
        (
            "fr;q=0.9, de-AT;q=0.8, en;q=0.7",
            "de",
            "Zum Inhalt springen",
        ),
    ] {
        for path in OPEN.into_iter().chain(OF_MEMBERS) {
            let surfer = if OF_MEMBERS.contains(&path) {
                &mut ada
            } else {
                &mut nobody
            };
            surfer.language = language;
            let path = path.replace("/users/", &format!("/users/{id}"));
            let page = surfer.look(&path).await;
            page.is(200)
                .says(&format!("<html lang=\"{lang}\">"))
                .says(skip);
            assert!(page.html.len() <= 40 * 1024, "{path}: {}", page.html.len());
            for (text, count) in [("<h1>", 1), ("<main", 1), ("<title>", 1)] {
                assert_eq!(page.html.matches(text).count(), count, "{text} of {path}");
            }
            for text in ["<script", " src=\"http", "<link", " on", "javascript:"] {
                let found = page.html.matches(text).count();
                assert!(
                    found == 0 || text == " on" && !page.html.contains(" onclick"),
                    "{text} of {path}"
                );
            }
            for label in page.html.split("<label for=\"").skip(1) {
                let id = label.split('"').next().unwrap_or_default();
                assert_eq!(
                    page.html.matches(&format!(" id=\"{id}\"")).count(),
                    1,
                    "{id} of {path}"
                );
            }
            let said = |name| page.headers.get(name).and_then(|value| value.to_str().ok());
            assert_eq!(said(header::CONTENT_LANGUAGE), Some(lang));
            assert_eq!(said(header::VARY), Some("Accept-Language"));
            assert_eq!(said(header::CACHE_CONTROL), Some("no-store"));
            assert_eq!(said(header::X_FRAME_OPTIONS), Some("DENY"));
            let policy = said(header::CONTENT_SECURITY_POLICY).expect("a policy");
            for part in [
                "default-src 'none'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
                "form-action 'self';",
            ] {
                assert!(policy.contains(part), "{policy}");
            }
            assert!(
                !policy.contains("unsafe") && !policy.contains("script-src"),
                "{policy}"
            );
        }
    }
}

/// A registered app's script, with the browser's cookie.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_script_of_another_origin_reads_no_page(db: PgPool) {
    let origin = Origin::start(&db).await;
    Service::with_pages(&db, "notes", &["https://notes.example"]).await;
    origin.join_as_admin(&db, "ada@example.org").await;
    let ada = Surfer::signed_in(&origin, "ada@example.org").await;
    for path in OPEN
        .into_iter()
        .chain(OF_MEMBERS)
        .chain(["/account/data/export"])
    {
        // Somebody's page, which is shown like the others.
        let path = if path == "/admin/users/" {
            "/admin/mail"
        } else {
            path
        };
        for (from, is_ours) in [
            ("https://notes.example", false),
            ("null", false),
            (HOME, true),
        ] {
            let request = Request::get(path)
                .header(header::COOKIE, ada.browser.cookies())
                .header(header::ORIGIN, from);
            let answer = origin
                .send(request.body(Body::empty()).expect("a request"))
                .await;
            let is_refused = answer.status == 403;
            // A page of nobody's has nothing to read.
            let is_public = path.starts_with("/check-your-mail");
            assert!(
                is_refused != is_ours || is_public,
                "{path} from {from}: {answer:?}"
            );
        }
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn people_see_a_page_where_programs_read_a_problem(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut nobody = Surfer::at(&origin);
    let page = nobody.look("/no-such-page").await;
    page.is(404)
        .says("There is no such page")
        .says("Reference: ");
    assert_eq!(page.headers[header::X_FRAME_OPTIONS], "DENY");
    nobody.language = "de";
    nobody
        .look("/no-such-page")
        .await
        .is(404)
        .says("Diese Seite gibt es nicht");
    for (path, accept) in [
        ("/no-such-page", "*/*"),
        ("/api/v1/no-such-call", "text/html"),
    ] {
        let request = Request::get(path).header(header::ACCEPT, accept);
        let answer = origin
            .send(request.body(Body::empty()).expect("a request"))
            .await;
        answer.is_problem(404, "NOT_FOUND");
    }
}
