//! Goes through the cases on one platform: asks, and compares what was answered and what the
//! origin saw.

use std::{net::IpAddr, sync::LazyLock};

use anyhow::{Context, Result};
use axum::http::{HeaderMap, Request, Response};
use serde_json::{Value, json};
use shared::{
    problem,
    proof::{ADDRESS, EMAIL, PROOF, Parts, ProofKey, Purpose, REQUEST_ID, ROLE, SUBJECT},
};
use tests::{Issuer, PROOF_KEY, Seen, Stub, Told, Worker};
use zeroize::Zeroizing;

use crate::{
    cases::{self, Body, Case, POLICY},
    native,
    setting::Setting,
    spin,
    tokens::Tokens,
};

/// An edge, on one of its platforms.
pub enum Edge {
    Native(native::Edge),
    Worker(Box<Worker>),
    Spin(spin::Edge),
}

impl Edge {
    /// Asks it, as a client at `address` would.
    pub async fn ask(&self, address: IpAddr, request: Request<String>) -> Result<Response<String>> {
        match self {
            Self::Native(edge) => edge.ask(address, request).await,
            Self::Spin(edge) => edge.ask(address, request).await,
            Self::Worker(worker) => {
                let (mut parts, body) = request.into_parts();
                parts.uri = format!("{}{}", worker.url, parts.uri).parse()?;
                // What Cloudflare does: its own word in place of the client's.
                let address = address.to_string().parse()?;
                parts.headers.insert("cf-connecting-ip", address);
                send(Request::from_parts(parts, body)).await
            }
        }
    }
}

/// Sends a request as it is, and follows no redirect.
pub async fn send(request: Request<String>) -> Result<Response<String>> {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        // A connection belongs to the runtime of the test that opened it.
        client
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client without certificates of its own")
    });
    let answer = CLIENT.execute(request.try_into()?).await?;
    let mut response = Response::new(String::new());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    *response.body_mut() = answer.text().await?;
    Ok(response)
}

/// Runs every case on the edges that `start` starts.
pub async fn run(start: impl AsyncFn(&Setting) -> Result<Edge>) -> Result<()> {
    let issuer = "http://127.0.0.1:8787";
    let tokens = Tokens::new(Issuer::new(issuer, 7));
    let origin = Stub::start(tokens.jwks())?;
    origin.tell(Told::All(tokens.revocations()));
    let setting = Setting::new(issuer, &origin, POLICY);
    let edge = start(&setting).await?;
    let deaf = Stub::start(tokens.jwks())?;
    deaf.tell(Told::Nothing);
    let beside_deaf = Setting::new(issuer, &deaf, POLICY);
    let beside_deaf = start(&beside_deaf).await?;
    for case in cases::without_revocations() {
        check(&beside_deaf, &tokens, &case, Some(&deaf)).await?;
    }
    for case in cases::with_an_origin() {
        check(&edge, &tokens, &case, Some(&origin)).await?;
    }
    assert_eq!(
        origin.key_fetches(),
        3,
        "at first, since one was revoked, and for the unknown key"
    );
    drop(origin);
    for case in cases::without_the_origin() {
        check(&edge, &tokens, &case, None).await?;
    }
    let edge = start(&setting).await?;
    for case in cases::without_keys() {
        check(&edge, &tokens, &case, None).await?;
    }
    Ok(())
}

/// Asks, and panics with the name of the case if something is otherwise than it should be.
async fn check(edge: &Edge, tokens: &Tokens, case: &Case, origin: Option<&Stub>) -> Result<()> {
    let name = format!("{}: {} {}", case.name, case.method, case.target);
    let before = origin.map_or(0, |origin| origin.seen().len());
    let request = request(case, tokens)?;
    let sent = request.body().clone();
    let answer = edge.ask(case.address.parse()?, request).await;
    let answer = answer.with_context(|| name.clone())?;
    is_expected(&name, case, &answer);
    let seen = origin.map(Stub::seen).unwrap_or_default();
    match (case.forwarded, &seen[before..]) {
        (false, []) => {}
        (true, [seen]) => {
            is_proven(&name, case, tokens, seen);
            assert_eq!(seen.body, sent, "{name}: the body");
            let id = answer.headers().get(REQUEST_ID);
            assert!(
                id.is_none() || id == seen.headers.get(REQUEST_ID),
                "{name}: the id"
            );
        }
        (_, seen) => panic!("{name}: the origin saw {seen:?}"),
    }
    Ok(())
}

fn request(case: &Case, tokens: &Tokens) -> Result<Request<String>> {
    let mut request = Request::builder().method(case.method).uri(case.target);
    if let Some(token) = case.bearer {
        request = request.header("authorization", format!("Bearer {}", tokens.text(token)));
    }
    for (name, value) in &case.headers {
        request = request.header(*name, *value);
    }
    let body = match case.body {
        Body::Text(text) => text.to_owned(),
        Body::About(token) => json!({ "token": tokens.text(token) }).to_string(),
        Body::Large(size) => format!("{{\"token\":\"{}\"}}", "x".repeat(size - 12)),
    };
    if !body.is_empty() {
        request = request.header("content-length", body.len());
    }
    Ok(request.body(body)?)
}

/// Status, problem, headers and body of an answer.
fn is_expected(name: &str, case: &Case, answer: &Response<String>) {
    let (headers, body) = (answer.headers(), answer.body());
    assert_eq!(answer.status(), case.status, "{name}: {body}");
    if let Some(code) = case.code {
        let problem: Value = serde_json::from_str(body).unwrap_or_default();
        assert_eq!(problem["code"], code, "{name}: {body}");
        assert_eq!(
            text(headers, "content-type"),
            problem::CONTENT_TYPE,
            "{name}"
        );
        assert_eq!(text(headers, "cache-control"), "no-store", "{name}");
        assert_eq!(
            problem["instance"],
            text(headers, REQUEST_ID),
            "{name}: the id"
        );
    }
    for (header, value) in &case.answers {
        assert_eq!(text(headers, header), *value, "{name}: {header}");
    }
    for part in &case.says {
        assert!(body.contains(part), "{name}: {body} says no {part}");
    }
}

/// The origin saw the client's request, and the edge's word for who asks.
fn is_proven(name: &str, case: &Case, tokens: &Tokens, seen: &Seen) {
    let header = |header: &str| text(&seen.headers, header);
    let claims = case.bearer.and_then(|token| tokens.claims(token));
    let subject = claims.map(|claims| claims.sub.to_string());
    let parts = Parts {
        purpose: Purpose::Forward,
        method: case.method,
        host: header("host"),
        target: case.target,
        address: case.address,
        subject: subject.as_deref().unwrap_or_default(),
        role: claims.map_or("", |claims| claims.role.as_str()),
        email: claims.map_or("", |claims| &claims.email),
        request_id: header(REQUEST_ID),
    };
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        (case.method, case.target),
        "{name}"
    );
    for (header, value) in [
        (ADDRESS, parts.address),
        (SUBJECT, parts.subject),
        (ROLE, parts.role),
        (EMAIL, parts.email),
    ] {
        assert_eq!(text(&seen.headers, header), value, "{name}: {header}");
    }
    let key = ProofKey::new(Zeroizing::new(PROOF_KEY));
    assert_eq!(
        key.check(&parts, header(PROOF), tests::now()),
        Ok(()),
        "{name}: the proof"
    );
    let authorization = case
        .bearer
        .map(|token| format!("Bearer {}", tokens.text(token)));
    assert!(
        authorization.is_none() || authorization.as_deref() == Some(header("authorization")),
        "{name}: the origin verifies the token again"
    );
    for (known, value) in &case.headers {
        let kept = !known.starts_with("tollgate");
        assert_eq!(header(known) == *value, kept, "{name}: {known}");
    }
}

/// A header that is there once, or nothing.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let mut values = headers.get_all(name).iter();
    let value = values
        .next()
        .map_or("", |value| value.to_str().unwrap_or_default());
    assert!(values.next().is_none(), "{name} twice");
    value
}
