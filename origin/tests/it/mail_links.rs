//! What a link of a mail is worth, and what of it is kept.

use axum::http::StatusCode;
use clap::Parser;
use futures_util::future::join_all;
use origin::cli::{Cli, Task};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    post_office::{
        Browser, FORGOT, LOGIN, MAGIC, MAGIC_VERIFY, NEW_PASSWORD, PostOffice, REGISTER, RESEND,
        RESET, VERIFY,
    },
    support::{Origin, PASSWORD, SECRET, count},
};

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_registers_verifies_in_the_same_browser_and_has_the_bonus_then(db: PgPool) {
    let office = PostOffice::open(&db).await;
    let mut browser = Browser::default();
    office.register(&mut browser, "Ada@example.org").await;
    let letter = office.letter().await;
    assert_eq!(letter.header("To"), "Ada@example.org");
    assert!(
        letter
            .raw
            .contains("http://127.0.0.1:8787/api/v1/auth/verify-email?token=")
    );

    let right = json!({"email": "ada@example.org", "password": PASSWORD});
    let early = office.origin.post(LOGIN, None, &right).await;
    early.is_problem(403, "EMAIL_NOT_VERIFIED");
    assert_eq!(count(&db, "SELECT count(*) FROM credits.grants").await, 0);

    let body = json!({"token": letter.token()});
    let answer = office.post(&mut browser, VERIFY, &body).await;
    assert_eq!(
        (answer.status, &answer.body["success"]),
        (StatusCode::OK, &json!(true))
    );
    let ada = office.origin.login("ada@example.org").await;
    assert!((office.origin.spendable(&ada).await - 155.0).abs() < f64::EPSILON);
    office
        .post(&mut browser, VERIFY, &body)
        .await
        .is_problem(400, "INVALID_LINK");
    let again = json!({"email": "ada@example.org"});
    office.origin.post(RESEND, None, &again).await;
    assert!(office.letters().await.is_empty(), "it is verified already");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn elsewhere_the_link_needs_the_password(db: PgPool) {
    let office = PostOffice::open(&db).await;
    let mut eves = Browser::default();
    office.register(&mut eves, "eve@example.org").await;
    office.letters().await;
    office
        .register(&mut Browser::default(), "ada@example.org")
        .await;
    let token = office.letter().await.token();
    let mut forged = Browser(vec![("tollgate-registered".to_owned(), "AAAA".to_owned())]);
    for browser in [&mut eves, &mut forged, &mut Browser::default()] {
        let answer = office.post(browser, VERIFY, &json!({"token": token})).await;
        answer.is_problem(403, "OTHER_BROWSER");
    }
    let wrong = json!({"token": token, "password": "wrong horse"});
    let answer = office.post(&mut eves, VERIFY, &wrong).await;
    answer.is_problem(401, "INVALID_CREDENTIALS");
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.users WHERE email_verified").await,
        0
    );
    let right = json!({"token": token, "password": PASSWORD});
    let answer = office.post(&mut Browser::default(), VERIFY, &right).await;
    assert_eq!(answer.status, StatusCode::OK);
    office.origin.login("ada@example.org").await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_address_has_its_bonus_once_however_it_is_verified(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join("ada@example.org").await;
    sqlx::query("UPDATE auth.users SET email = '', email_normalised = '', status = 'deleted'")
        .execute(&db)
        .await
        .expect("deleted");
    let ada = office.join("Ada@example.org").await;
    assert!(
        (office.origin.spendable(&ada).await - 5.0).abs() < f64::EPSILON,
        "only the day's"
    );
    crate::support::assert_ledger_adds_up(&db).await;
}

/// Every row of every table, as text.
async fn everything(db: &PgPool) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('auth', 'credits') ORDER BY 1",
    )
    .fetch_all(db)
    .await
    .expect("tables");
    let mut rows = Vec::new();
    for table in tables {
        let query = format!("SELECT t::text FROM {table} t ORDER BY 1");
        let found: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_all(db)
            .await
            .expect("rows");
        rows.extend(found);
    }
    rows
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn looking_at_a_link_changes_nothing(db: PgPool) {
    let office = PostOffice::open(&db).await;
    let mut browser = Browser::default();
    office.register(&mut browser, "ada@example.org").await;
    let verify = office.letter().await.token();
    let reset = office.link(FORGOT, "ada@example.org").await;
    let magic = office.link(MAGIC, "ada@example.org").await;
    let before = everything(&db).await;
    for (path, token) in [(VERIFY, &verify), (RESET, &reset), (MAGIC_VERIFY, &magic)] {
        for _ in 0..2 {
            let answer = office
                .look(&browser, &format!("{path}?token={token}"))
                .await;
            assert_eq!(answer.status, StatusCode::OK);
            assert!(answer.headers.get("set-cookie").is_none());
            let policy = answer.headers["content-security-policy"]
                .to_str()
                .expect("text");
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
            assert!(policy.contains("frame-ancestors 'none'"));
            assert_eq!(answer.headers["cache-control"], "no-store");
            let html = answer.body.as_str().expect("HTML");
            assert!(html.contains(token.as_str()) && !html.contains("<script"));
            assert_eq!(html.matches("<button>").count(), 1);
        }
    }
    assert_eq!(everything(&db).await, before);
    let answer = office
        .post(&mut browser, VERIFY, &json!({"token": verify}))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    for query in ["?token=none", "", "?token=a&token=b", "?token=%00"] {
        let answer = office.look(&browser, &format!("{RESET}{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(
            answer
                .body
                .as_str()
                .expect("HTML")
                .contains("not valid any more")
        );
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_link_is_good_once_for_its_purpose_and_until_the_next(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join("ada@example.org").await;
    let reset = async |token: &str| {
        let body = json!({"token": token, "newPassword": NEW_PASSWORD});
        office.origin.post(RESET, None, &body).await
    };
    let mut asker = Browser::default();
    office
        .post(&mut asker, MAGIC, &json!({"email": "ada@example.org"}))
        .await;
    let magic = office.letter().await.token();
    let older = office.link(FORGOT, "ada@example.org").await;
    let token = office.link(FORGOT, "ada@example.org").await;
    let mangled = [
        &token[1..],
        &token.to_uppercase(),
        &format!("{token}="),
        "",
        "\u{e9}",
    ];
    for bad in mangled.into_iter().chain([older.as_str(), &magic]) {
        reset(bad).await.is_problem(400, "INVALID_LINK");
    }
    for path in [VERIFY, MAGIC_VERIFY] {
        let answer = office
            .post(&mut asker, path, &json!({"token": token}))
            .await;
        answer.is_problem(400, "INVALID_LINK");
    }
    sqlx::query("UPDATE auth.links SET expires_at = now()")
        .execute(&db)
        .await
        .expect("over");
    reset(&token).await.is_problem(400, "INVALID_LINK");
    let token = office.link(FORGOT, "ada@example.org").await;
    assert_eq!(reset(&token).await.status, StatusCode::OK);
    reset(&token).await.is_problem(400, "INVALID_LINK");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn of_many_who_follow_one_link_at_once_one_does(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join("ada@example.org").await;
    let token = office.link(FORGOT, "ada@example.org").await;
    let body = json!({"token": token, "newPassword": NEW_PASSWORD});
    let answers = join_all((0..6).map(|_| office.origin.post(RESET, None, &body))).await;
    let done = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::OK);
    assert_eq!(done.count(), 1, "{answers:?}");

    let token = office.link(MAGIC, "ada@example.org").await;
    let sessions = "SELECT count(*) FROM auth.sessions WHERE revoked_at IS NULL";
    let before = count(&db, sessions).await;
    let form = format!("token={token}");
    let mut browsers = vec![Browser::default(); 6];
    let presses = browsers
        .iter_mut()
        .map(|browser| office.press(browser, MAGIC_VERIFY, crate::post_office::HOME, &form));
    let answers = join_all(presses).await;
    let done = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::OK);
    assert_eq!(done.count(), 1, "{answers:?}");
    assert_eq!(count(&db, sessions).await, before + 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn no_secret_of_a_link_is_at_rest_anywhere(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office
        .register(&mut Browser::default(), "ada@example.org")
        .await;
    let waiting = "SELECT count(*) FROM auth.outbox";
    assert_eq!(count(&db, waiting).await, 1);
    let mut tokens = vec![office.letter().await.token()];
    for path in [FORGOT, MAGIC, RESEND] {
        tokens.push(office.link(path, "ada@example.org").await);
    }
    assert_eq!(count(&db, waiting).await, 0, "what was sent is gone");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.links").await, 3);
    let rows = everything(&db).await;
    for token in tokens {
        assert_eq!(token.len(), 43);
        // As it is, and as `bytea` is shown.
        let hex = hex::encode(&token);
        assert!(
            !rows
                .iter()
                .any(|row| row.contains(&token) || row.contains(&hex))
        );
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn known_and_unknown_addresses_get_the_same_answer(db: PgPool) {
    let office = PostOffice::open(&db).await;
    office.join("ada@example.org").await;
    for path in [FORGOT, RESEND, MAGIC] {
        let mut answers = Vec::new();
        for email in ["ada@example.org", "eve@example.org"] {
            let mut answer = office
                .origin
                .post(path, None, &json!({"email": email}))
                .await;
            answer.headers.remove("tollgate-request-id");
            let cookie = answer.headers.remove("set-cookie");
            let shape = cookie.map(|cookie| {
                let cookie = cookie.to_str().expect("text").to_owned();
                (
                    cookie.len(),
                    cookie.split_once(';').expect("attributes").1.to_owned(),
                )
            });
            answers.push((answer.status, answer.headers, answer.body, shape));
        }
        assert_eq!(answers[0], answers[1], "{path}");
        assert_eq!(answers[0].2, json!({"success": true}));
    }
    let same =
        "SELECT count(DISTINCT (kind, redirect_to, user_id, due_at > created_at)) FROM auth.outbox";
    assert_eq!(count(&db, same).await, 3, "one kind of row for each call");
    let letters = office.letters().await;
    assert_eq!(letters.len(), 2, "a verified address is not verified again");
    assert!(
        letters
            .iter()
            .all(|letter| letter.header("To") == "ada@example.org")
    );
    assert_eq!(count(&db, "SELECT count(*) FROM auth.outbox").await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_writes_headers_or_markup_into_our_mail(db: PgPool) {
    let office = PostOffice::open(&db).await;
    for email in [
        "ada@example.org\r\nBcc: eve@example.org",
        "ada@example.org, eve@example.org",
    ] {
        let answer = office
            .origin
            .post(FORGOT, None, &json!({"email": email}))
            .await;
        assert_eq!(
            answer.is_problem(400, "VALIDATION_FAILED").pointers(),
            ["/email"]
        );
    }
    let name = "Ada\r\nBcc: eve@example.org\r\n\r\n<b>see</b> https://evil.test";
    let body = json!({"email": "ada@example.org", "password": PASSWORD, "name": name});
    let mut browser = Browser::default();
    office.post(&mut browser, REGISTER, &body).await;
    let letter = office.letter().await;
    assert!(
        !letter.raw.contains("evil.test"),
        "a stranger's words to a stranger"
    );
    office
        .post(&mut browser, VERIFY, &json!({"token": letter.token()}))
        .await;
    office
        .origin
        .post(FORGOT, None, &json!({"email": "ada@example.org"}))
        .await;
    let letter = office.letter().await;
    assert_eq!(letter.header("Bcc"), "");
    assert!(!letter.raw.contains("\nBcc:"), "{}", letter.raw);
    let (text, html) = letter
        .raw
        .split_once("<!doctype html>")
        .expect("both parts");
    assert!(text.contains("Hello Ada Bcc: eve@example.org <b>see</b>"));
    assert!(
        !html.contains("<b>") && html.contains("&#60;b&#62;see"),
        "{html}"
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn without_mail_the_calls_about_it_say_so(db: PgPool) {
    let origin = Origin::start(&db).await;
    for path in [FORGOT, RESEND, MAGIC] {
        let answer = origin
            .post(path, None, &json!({"email": "ada@example.org"}))
            .await;
        answer.is_problem(503, "MAIL_NOT_CONFIGURED");
    }
    assert_eq!(count(&db, "SELECT count(*) FROM auth.outbox").await, 0);
}

#[test]
fn a_start_that_could_verify_nobody_names_what_is_missing() {
    let check = |flags: &[&str]| {
        let secrets = ["key-encryption-key", "email-hash-key", "edge-proof-key"];
        let secrets = secrets.map(|name| format!("--{name}={SECRET}"));
        let refresh = format!("--refresh-token-keys=1:{SECRET}");
        let args = [
            "origin",
            "serve",
            "--database-url=postgres://x",
            "--public-url=http://127.0.0.1",
        ];
        let args = args.into_iter().chain(secrets.iter().map(String::as_str));
        let args = args.chain([refresh.as_str()]).chain(flags.iter().copied());
        match Cli::try_parse_from(args)
            .map_err(|why| why.to_string())?
            .task
        {
            Task::Serve(config) => config.check(),
            _ => unreachable!("serve was asked for"),
        }
    };
    let missing = check(&[]).expect_err("no mail");
    assert!(missing.contains("SMTP_URL") && missing.contains("REQUIRE_EMAIL_VERIFICATION"));
    let smtp = "--smtp-url=smtp://127.0.0.1:25";
    assert!(check(&[smtp]).expect_err("from whom").contains("MAIL_FROM"));
    assert_eq!(
        check(&[smtp, "--mail-from=Tollgate <a@example.org>"]),
        Ok(())
    );
    assert_eq!(check(&["--mail-dir=x"]), Ok(()));
    assert_eq!(check(&["--require-email-verification=false"]), Ok(()));
    let secret = check(&["--smtp-url=smtp://user:hunter2@mail.example.org"]);
    let secret = secret.expect_err("in the clear");
    assert!(
        secret.contains("SMTP_URL") && !secret.contains("hunter2"),
        "{secret}"
    );
}
