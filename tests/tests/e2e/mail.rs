//! Links that come by mail, through the edge: what they do and how often, in whose browser, and what
//! gets neither into a link nor into a letter.

use anyhow::Result;
use reqwest::redirect;
use serde_json::{Value, json};
use tests::{Answer, Client, operator::operate};

use crate::rig::{LOGIN, PASSWORD, Person, letters, mailed};

const RESEND: &str = "/api/v1/auth/resend-verification";
const VERIFY: &str = "/api/v1/auth/verify-email";
const MAGIC: &str = "/api/v1/auth/magic-link";
const SIGN_IN: &str = "/api/v1/auth/magic-link/verify";
const FORGOT: &str = "/api/v1/auth/forgot-password";
const RESET: &str = "/api/v1/auth/reset-password";
const REGISTER: &str = "/api/v1/auth/register";
/// What asks for a mail, and whose link it brings.
const ASKING: [(&str, &str); 3] = [(RESEND, VERIFY), (MAGIC, SIGN_IN), (FORGOT, RESET)];

async fn post(edge: &Client, path: &str, body: &Value) -> Result<Answer> {
    Answer::to(edge.post(path).json(body)).await
}

/// Asks for a mail, and gives the token of its link and the cookie of the browser that asked.
async fn ask(edge: &Client, path: &str, body: &Value) -> Result<(String, String)> {
    let answer = post(edge, path, body).await?.ok();
    let email = body["email"].as_str().unwrap_or_default();
    let mark = ASKING.iter().find(|(asking, _)| *asking == path);
    let mark = mark.map_or("", |(_, link)| link);
    let token = mailed(email, &format!("{mark}?token=")).await?;
    let cookie = answer.header("set-cookie").split(';').next();
    Ok((token, cookie.unwrap_or_default().to_owned()))
}

/// Opens a link twice, as a scanner of mail and then its reader do.
async fn look(edge: &Client, path: &str, token: &str) -> Result<()> {
    for _ in 0..2 {
        let page = edge.get(&format!("{path}?token={token}")).send().await?;
        assert_eq!(page.status(), 200);
        assert!(page.headers().get("set-cookie").is_none());
    }
    Ok(())
}

/// A link that is no good has a page that says so.
async fn is_gone(edge: &Client, path: &str, token: &str) -> Result<()> {
    let page = edge.get(&format!("{path}?token={token}")).send().await?;
    assert_eq!(page.status(), 400);
    assert!(page.text().await?.contains("This link is not valid"));
    Ok(())
}

async fn is_verified(person: &Person) -> Result<bool> {
    let session = person.get("/api/v1/auth/session").await?.ok();
    Ok(session.body["user"]["emailVerified"] == true)
}

async fn sessions(person: &Person) -> Result<usize> {
    let sessions = person.get("/api/v1/auth/sessions").await?.ok();
    Ok(sessions.body.as_array().map_or(0, Vec::len))
}

#[tokio::test]
async fn an_address_is_verified_by_its_link_and_the_password_and_once() -> Result<()> {
    let ada = Person::sign_up().await?;
    let (token, _) = ask(&ada.edge, RESEND, &json!({"email": ada.email})).await?;
    look(&ada.edge, VERIFY, &token).await?;
    assert!(!is_verified(&ada).await?, "nobody has pressed anything");

    let by = |password: &str| json!({"token": token, "password": password});
    let alone = post(&ada.edge, VERIFY, &json!({"token": token})).await?;
    alone.is_problem(403, "OTHER_BROWSER");
    let wrong = post(&ada.edge, VERIFY, &by("wrong horse battery")).await?;
    wrong.is_problem(401, "INVALID_CREDENTIALS");
    assert!(!is_verified(&ada).await?);
    let verified = post(&ada.edge, VERIFY, &by(PASSWORD)).await?.ok();
    assert_eq!(verified.body["success"], true);
    assert!(is_verified(&ada).await?);

    let again = post(&ada.edge, VERIFY, &by(PASSWORD)).await?;
    again.is_problem(400, "INVALID_LINK");
    is_gone(&ada.edge, VERIFY, &token).await
}

#[tokio::test]
async fn a_link_signs_in_once_and_where_it_was_asked_for() -> Result<()> {
    let (ada, eve) = (Person::sign_up().await?, Person::sign_up().await?);
    let edge = &ada.edge;
    // The first proof of an address voids every link: here it is used up, and nothing else.
    let (token, _) = ask(edge, RESEND, &json!({"email": ada.email})).await?;
    let body = json!({"token": token, "password": PASSWORD});
    let _ = post(edge, VERIFY, &body).await?.ok();
    let (token, cookie) = ask(edge, MAGIC, &json!({"email": ada.email})).await?;
    let (of_eve, cookie_of_eve) = ask(edge, MAGIC, &json!({"email": eve.email})).await?;
    look(edge, SIGN_IN, &token).await?;
    assert_eq!(sessions(&ada).await?, 1, "nobody has pressed anything");

    let follow = async |token: &str, cookie: &str| {
        let request = edge.post(SIGN_IN).header("cookie", cookie);
        Answer::to(request.json(&json!({"token": token}))).await
    };
    // Eve's browser with Ada's link, Ada's with one that Eve has sent her, and one that asked nothing.
    for (token, cookie) in [
        (&token, &cookie_of_eve),
        (&of_eve, &cookie),
        (&token, &String::new()),
    ] {
        let foreign = follow(token, cookie).await?;
        foreign.is_problem(403, "OTHER_BROWSER");
    }
    let form = edge.post(SIGN_IN).header("origin", "https://evil.test");
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let form = Answer::to(form.body(format!("token={token}"))).await?;
    form.is_problem(403, "FOREIGN_PAGE");
    assert_eq!((sessions(&ada).await?, sessions(&eve).await?), (1, 1));

    let signed_in = follow(&token, &cookie).await?.ok();
    assert_eq!(signed_in.body["user"]["email"], ada.email);
    follow(&token, &cookie)
        .await?
        .is_problem(400, "INVALID_LINK");
    is_gone(edge, SIGN_IN, &token).await
}

#[tokio::test]
async fn a_link_that_is_mangled_or_for_something_else_does_nothing() -> Result<()> {
    let ada = Person::sign_up().await?;
    let edge = &ada.edge;
    let (token, _) = ask(edge, FORGOT, &json!({"email": ada.email})).await?;
    let (magic, cookie) = ask(edge, MAGIC, &json!({"email": ada.email})).await?;
    let reset = async |token: &str| {
        let body = json!({"token": token, "newPassword": "another horse battery"});
        post(edge, RESET, &body).await
    };
    let mangled = [
        &token[1..],
        &token[..token.len() - 1],
        &format!("{token}="),
        &format!("{token}%00"),
        &token.chars().rev().collect::<String>(),
        "none",
        &magic,
    ];
    for bad in mangled {
        reset(bad).await?.is_problem(400, "INVALID_LINK");
        is_gone(edge, RESET, bad).await?;
    }
    for path in [VERIFY, SIGN_IN] {
        let request = edge.post(path).header("cookie", &cookie);
        let other = Answer::to(request.json(&json!({"token": token}))).await?;
        other.is_problem(400, "INVALID_LINK");
        is_gone(edge, path, &token).await?;
    }
    let body = json!({"email": ada.email, "password": PASSWORD});
    let _ = post(edge, LOGIN, &body).await?.ok();
    let _ = reset(&token).await?.ok();
    Ok(())
}

#[tokio::test]
async fn links_lead_to_pages_of_registered_apps_alone() -> Result<()> {
    let origin = "https://app.example.com";
    let ada = Person::sign_up().await?;
    let app = ada.email.replace('@', "-");
    operate(&["apps", "add", &app, "--origin", origin]).await?;
    let wish = |page: &str| json!({"email": ada.email, "redirectTo": page});
    for (path, _) in ASKING {
        for evil in [
            "https://app.example.com.evil.test",
            "https://app.example.com@evil.test",
            "//evil.test",
            "javascript:alert(1)",
        ] {
            let refused = post(&ada.edge, path, &wish(evil)).await?;
            refused.is_problem(400, "VALIDATION_FAILED");
            assert_eq!(refused.pointers(), ["/redirectTo"], "{path} {evil}");
        }
    }
    let page = "https://app.example.com/welcome";
    let (token, _) = ask(&ada.edge, RESEND, &wish(page)).await?;
    let about_ada = letters()
        .into_iter()
        .filter(|text| text.contains(&ada.email));
    assert_eq!(about_ada.count(), 1, "what is refused brings no letter");
    let body = json!({"token": token, "password": PASSWORD});
    let browser = reqwest::Client::builder().redirect(redirect::Policy::none());
    let led = browser.build()?.post(ada.edge.url(VERIFY)).json(&body);
    let led = Answer::to(led).await?;
    assert_eq!((led.status, led.header("location")), (303, page));
    Ok(())
}

#[tokio::test]
async fn an_address_brings_no_header_of_its_own_into_a_letter() -> Result<()> {
    let ada = Person::sign_up().await?;
    for injected in [
        "a@b.test\r\nBcc: x@y.test",
        "a@b.test\nBcc: x@y.test",
        "a\r\nBcc: x@y.test",
        "a@b.test, x@y.test",
        "\"a\r\nBcc: x@y.test\"@b.test",
        "x@y.test\r\n",
    ] {
        for (path, body) in [
            (REGISTER, json!({"email": injected, "password": PASSWORD})),
            (RESEND, json!({"email": injected})),
            (MAGIC, json!({"email": injected})),
            (FORGOT, json!({"email": injected})),
        ] {
            let refused = post(&ada.edge, path, &body).await?;
            refused.is_problem(400, "VALIDATION_FAILED");
            assert_eq!(refused.pointers(), ["/email"], "{path} {injected:?}");
        }
    }
    Ok(())
}
