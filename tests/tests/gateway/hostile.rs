//! What an attacker sends: tokens and requests that get the same refusal on every platform, reach nobody,
//! and leave an edge that answers the next one.

use anyhow::Result;
use axum::http::{HeaderMap, HeaderName, Request, Response};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};
use tests::{Issuer, Stub};

use crate::{setting::Setting, suite::Edge};

const POLICY: &str = r#"{
    "upstreams": {"notes": {"url": "APP", "strip": "/app"}},
    "routes": [
        {"path": "/health", "methods": ["GET"], "serve": "health"},
        {"path": "/validate", "methods": ["POST"], "serve": "validate"},
        {"path": "/mine", "methods": ["GET", "POST"], "upstream": "origin", "auth": "required"},
        {"path": "/things/{id}", "methods": ["GET"], "upstream": "origin", "auth": "required"},
        {"path": "/admin", "methods": ["GET"], "upstream": "origin", "auth": "required", "role": "admin"},
        {"path": "/app/{*rest}", "methods": ["GET", "POST"], "upstream": "notes", "auth": "required", "max_body": 1000}
    ]
}"#;

/// The order of Ed25519's group, little endian. RFC 8032 §5.1.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Sends all of it to the edge that `start` starts.
pub async fn run(start: impl AsyncFn(&Setting) -> Result<Edge>) -> Result<()> {
    let issuer = Issuer::new("http://127.0.0.1:8787", 7);
    let (origin, app) = (Stub::start(issuer.jwks())?, Stub::start(issuer.jwks())?);
    let setting = Setting::new(issuer.url(), &origin, POLICY.replace("APP", &app.url));
    let edge = start(&setting).await?;
    let tokens = tokens(&issuer);
    let requests = requests(&issuer.token());
    assert!(tokens.len() + requests.len() >= 60);
    for (name, token) in &tokens {
        let bearer = Request::get("/mine").header("authorization", format!("Bearer {token}"));
        let answer = ask(&edge, bearer.body(String::new())?).await?;
        is_refused(name, &answer, 401, "INVALID_TOKEN");
        let body = json!({ "token": token }).to_string();
        let question = Request::post("/validate")
            .header("content-type", "application/json")
            .header("content-length", body.len());
        let answer = ask(&edge, question.body(body)?).await?;
        assert_eq!(answer.status(), 200, "{name}: {answer:?}");
        assert!(
            answer.body().starts_with(r#"{"error":"#),
            "{name}: {answer:?}"
        );
        assert!(
            answer.body().ends_with(r#""valid":false}"#),
            "{name}: {answer:?}"
        );
    }
    for (name, (status, code), request) in requests {
        let answer = ask(&edge, request).await?;
        is_refused(name, &answer, status, code);
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    assert!(app.seen().is_empty(), "{:?}", app.seen());
    let good = Request::get("/mine").header("authorization", format!("Bearer {}", issuer.token()));
    let answer = ask(&edge, good.body(String::new())?).await?;
    assert_eq!(answer.status(), 200, "it lives on: {answer:?}");
    is_told_by_the_edge_alone(&edge, &issuer, &app).await
}

async fn ask(edge: &Edge, request: Request<String>) -> Result<Response<String>> {
    edge.ask([192, 0, 2, 1].into(), request).await
}

fn is_refused(name: &str, answer: &Response<String>, status: u16, code: &str) {
    let problem: Value = serde_json::from_str(answer.body()).unwrap_or_default();
    let told = (answer.status().as_u16(), problem["code"].as_str());
    assert_eq!(told, (status, Some(code)), "{name}: {answer:?}");
}

/// What a client says of itself reaches no app: neither another's name nor another host's.
async fn is_told_by_the_edge_alone(edge: &Edge, issuer: &Issuer, app: &Stub) -> Result<()> {
    let claims = issuer.claims();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "bank.example"),
        ("x-forwarded-host", "bank.example"),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1;host=bank.example"),
        ("x-real-ip", "10.0.0.1"),
        ("true-client-ip", "10.0.0.1"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("tollgate-subject", "eve"),
        ("tollgate_subject", "eve"),
        ("tollgate-cost", "0"),
        ("tollgate-proof", "v1,1,AAAA"),
        ("proxy-authorization", "Basic ZXZlOmV2ZQ=="),
        ("te", "trailers"),
    ] {
        headers.append(HeaderName::from_static(name), value.parse()?);
    }
    let token = shared::jwt::sign(&claims, issuer.key());
    headers.insert("authorization", format!("Bearer {token}").parse()?);
    let mut request = Request::get("/app/x").body(String::new())?;
    *request.headers_mut() = headers;
    let answer = ask(edge, request).await?;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let seen = app.seen();
    let [seen] = seen.as_slice() else {
        panic!("the app saw {seen:?}");
    };
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/x"));
    let sub = claims.sub.to_string();
    for (name, value) in &seen.headers {
        let value = value.to_str()?;
        let hostile = [
            "bank.example",
            "10.0.0.1",
            "/admin",
            "DELETE",
            "eve",
            "AAAA",
            "ZXZl",
        ];
        assert!(
            !hostile.iter().any(|part| value.contains(part)),
            "{name}: {value}"
        );
    }
    assert_eq!(seen.headers["tollgate-subject"], sub.as_str());
    assert_eq!(seen.headers["x-forwarded-for"], "192.0.2.1");
    Ok(())
}

fn encoded(text: &str) -> String {
    Base64UrlUnpadded::encode_string(text.as_bytes())
}

/// A token of these texts, signed as good ones are. RFC 7515 §3.1.
fn signed(header: &str, payload: &str, by: &Issuer) -> String {
    let message = format!("{}.{}", encoded(header), encoded(payload));
    let signature = Base64UrlUnpadded::encode_string(&by.key().sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn tokens(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let mut all = forms(issuer);
    all.extend(headers(issuer));
    all.extend(claims(issuer));
    all
}

/// Tokens that have another form, or a signature that is another text.
fn forms(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let good = issuer.token();
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let mut bytes = Base64UrlUnpadded::decode_vec(signature).expect("base64url");
    let mut carry = 0;
    // S + L is the same number to who does not reduce it. RFC 8032 §8.4.
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    let malleable = Base64UrlUnpadded::encode_string(&bytes);
    let zeros = Base64UrlUnpadded::encode_string(&[0; 64]);
    let (header, payload) = message.split_once('.').expect("two parts");
    let standard = signature.replace('-', "+").replace('_', "/");
    vec![
        ("a dot", ".".to_owned()),
        ("two dots", "..".to_owned()),
        ("one part", header.to_owned()),
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.{signature}")),
        ("five parts, as of JWE", format!("{good}.a.b")),
        ("no signature", format!("{message}.")),
        (
            "half a signature",
            format!("{message}.{}", &signature[..43]),
        ),
        ("a longer signature", format!("{good}AAAA")),
        ("a signature of zeros", format!("{message}.{zeros}")),
        (
            "another S for the same signature",
            format!("{message}.{malleable}"),
        ),
        ("padding", format!("{good}==")),
        ("a percent sign", format!("{message}.%{}", &signature[1..])),
        ("the other alphabet", format!("{message}.{standard}+/")),
        (
            "header and claims in each other's place",
            format!("{payload}.{header}.{signature}"),
        ),
        (
            "one letter of the claims in capitals",
            good.replacen("eyJpc3M", "EyJpc3M", 1),
        ),
        ("16 KiB of dots", ".".repeat(16 * 1_024)),
        ("a megabyte's beginning", "a".repeat(60 * 1_024)),
    ]
}

/// Tokens whose header demands what is not given. RFC 8725 §2, §3.
fn headers(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let stranger = Issuer::new(issuer.url(), 0xEE);
    let kid = issuer.key().kid();
    let good = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid});
    let payload = payload(issuer).to_string();
    let with = |name: &str, value: Value| {
        let mut header = good.clone();
        header[name] = value;
        header.to_string()
    };
    let ours = |header: &str| signed(header, &payload, issuer);
    let theirs = |header: &str| signed(header, &payload, &stranger);
    let twice = |first: &str| format!(r#"{{{first},"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#);
    vec![
        ("alg None", ours(&with("alg", json!("None")))),
        ("alg NONE", ours(&with("alg", json!("NONE")))),
        ("alg HS384", ours(&with("alg", json!("HS384")))),
        ("alg RS256", ours(&with("alg", json!("RS256")))),
        ("alg ES256", ours(&with("alg", json!("ES256")))),
        ("alg PS256", ours(&with("alg", json!("PS256")))),
        ("alg Ed448", ours(&with("alg", json!("Ed448")))),
        ("alg in small letters", ours(&with("alg", json!("eddsa")))),
        ("alg a number", ours(&with("alg", json!(7)))),
        ("alg a list", ours(&with("alg", json!(["EdDSA"])))),
        ("alg twice", ours(&twice(r#""alg":"none""#))),
        ("kid twice", theirs(&twice(r#""kid":"eve""#))),
        ("typ JWS", ours(&with("typ", json!("JWS")))),
        ("typ with a space", ours(&with("typ", json!("at+jwt ")))),
        ("kid nothing", ours(&with("kid", json!("")))),
        ("kid a number", ours(&with("kid", json!(7)))),
        ("kid a path", ours(&with("kid", json!("../../dev/null")))),
        ("kid a query", ours(&with("kid", json!("' OR 1=1 --")))),
        (
            "kid of 8,000 characters",
            ours(&with("kid", json!("k".repeat(8_000)))),
        ),
        ("crit of nothing", ours(&with("crit", json!([])))),
        ("crit null", ours(&with("crit", Value::Null))),
        ("crit b64", ours(&with("crit", json!(["b64"])))),
        (
            "a URL of keys",
            theirs(&with("jku", json!("https://eve.example/jwks"))),
        ),
        (
            "a URL of certificates",
            theirs(&with("x5u", json!("https://eve.example/x5u"))),
        ),
        ("a certificate", theirs(&with("x5c", json!(["MIIB"])))),
        ("a header that is a list", ours("[]")),
        ("a header that is nothing", ours("null")),
        ("a header that is no JSON", ours("alg=EdDSA")),
        ("a header and more", ours(&format!("{good} {{}}"))),
        ("a header of 10,000 brackets", ours(&"[".repeat(10_000))),
    ]
}

/// Tokens of our own key that are not access tokens of ours. RFC 9068 §4.
fn claims(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let good = payload(issuer);
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": issuer.key().kid()}).to_string();
    let ours = |payload: &str| signed(&header, payload, issuer);
    let with = |name: &str, value: Value| {
        let mut payload = good.clone();
        payload[name] = value;
        ours(&payload.to_string())
    };
    let without = |name: &str| {
        let mut payload = good.clone();
        payload.as_object_mut().expect("an object").remove(name);
        ours(&payload.to_string())
    };
    let text = good.to_string();
    vec![
        ("no iss", without("iss")),
        (
            "iss with a slash",
            with("iss", json!("http://127.0.0.1:8787/")),
        ),
        ("iss a list", with("iss", json!(["http://127.0.0.1:8787"]))),
        ("no aud", without("aud")),
        ("aud of userinfo", with("aud", json!("userinfo"))),
        ("no sub", without("sub")),
        ("sub no id", with("sub", json!("admin"))),
        (
            "sub twice",
            ours(&text.replacen('{', r#"{"sub":"eve","#, 1)),
        ),
        ("no sid", without("sid")),
        ("no exp", without("exp")),
        ("exp a text", with("exp", json!("9999999999"))),
        (
            "exp past all time",
            ours(&text.replacen(&good["exp"].to_string(), "1e300", 1)),
        ),
        ("exp before all time", with("exp", json!(-1))),
        ("over", with("exp", json!(tests::now().timestamp() - 31))),
        (
            "yet to come",
            with("nbf", json!(tests::now().timestamp() + 3_600)),
        ),
        ("no role", without("role")),
        ("an unknown role", with("role", json!("root"))),
        ("several roles", with("role", json!(["user", "admin"]))),
        ("no jti", without("jti")),
        ("amr a text", with("amr", json!("pwd"))),
        ("claims that are a list", ours("[]")),
        ("claims that are no JSON", ours("sub=admin")),
        ("claims of 10,000 brackets", ours(&"[".repeat(10_000))),
    ]
}

fn payload(issuer: &Issuer) -> Value {
    let token = issuer.token();
    let part = token.split('.').nth(1).expect("three parts");
    let json = Base64UrlUnpadded::decode_vec(part).expect("base64url");
    serde_json::from_slice(&json).expect("JSON")
}

type Asked = (&'static str, (u16, &'static str), Request<String>);

/// Requests under a good token that ask for what is not theirs, or too much.
fn requests(token: &str) -> Vec<Asked> {
    let bearer = format!("Bearer {token}");
    let mut all = paths(&bearer);
    all.extend(heads(token, &bearer));
    all
}

fn built(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Request<String> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if !body.is_empty() {
        request = request.header("content-length", body.len());
    }
    request.body(body.to_owned()).expect("a request")
}

fn paths(bearer: &str) -> Vec<Asked> {
    let get = |target: &str| built("GET", target, &[("authorization", bearer)], "");
    let nothing = (404, "NOT_FOUND");
    let mut all = Vec::new();
    for (name, target) in [
        ("what is internal", "/internal/revocations"),
        ("what is internal, behind an app", "/app/../internal/x"),
        ("what is internal, in disguise", "/%69nternal/revocations"),
        ("up and out of an app", "/app/%2e%2e/nothing"),
        ("up in half a disguise", "/app/.%2E/nothing"),
        ("up behind an encoded slash", "/app/a%2f..%2f..%2fadmin"),
        ("up behind a backslash", "/app/..%5cadmin"),
        ("up behind a parameter", "/app/..;x/admin"),
        ("an empty segment", "/app//admin"),
        ("an empty first segment", "//bank.example/app/x"),
        ("NUL", "/app/a%00b"),
        ("half an escape", "/app/a%2"),
        ("no escape", "/app/a%zz"),
        ("an encoded letter", "/%61pp/x"),
        ("another case", "/ADMIN"),
        ("a route and a slash", "/mine/"),
        (
            "16,000 characters",
            &format!("/nothing/{}", "a".repeat(16_000)),
        ),
    ] {
        all.push((name, nothing, get(target)));
    }
    all
}

/// Methods, headers and bodies.
fn heads(token: &str, bearer: &str) -> Vec<Asked> {
    let mut all = Vec::new();
    let get = |target: &str| built("GET", target, &[("authorization", bearer)], "");
    let long = "a".repeat(64 * 1_024);
    let big = "x".repeat(1_001);
    for (name, refused, request) in [
        ("another role", (403, "FORBIDDEN"), get("/admin")),
        (
            "a method that no route takes",
            (405, "METHOD_NOT_ALLOWED"),
            built("PROPFIND", "/mine", &[], ""),
        ),
        (
            "a method by another header",
            (405, "METHOD_NOT_ALLOWED"),
            built("PUT", "/mine", &[("x-http-method-override", "GET")], ""),
        ),
        (
            "no token, and a cookie",
            (401, "UNAUTHENTICATED"),
            built("GET", "/mine", &[("cookie", "tollgate=x")], ""),
        ),
        (
            "a header of 64 KiB for a token",
            (401, "INVALID_TOKEN"),
            built(
                "GET",
                "/mine",
                &[("authorization", &format!("Bearer {}", &long[..60 * 1_024]))],
                "",
            ),
        ),
        (
            "a token in the URL",
            (401, "UNAUTHENTICATED"),
            built("GET", &format!("/mine?access_token={token}"), &[], ""),
        ),
        (
            "a subject of its own",
            (401, "UNAUTHENTICATED"),
            built("GET", "/mine", &[("tollgate-subject", "admin")], ""),
        ),
        (
            "more than an app takes",
            (413, "BODY_TOO_LARGE"),
            built("POST", "/app/x", &[("authorization", bearer)], &big),
        ),
        (
            "a page that is nobody",
            (403, "FORBIDDEN"),
            built(
                "OPTIONS",
                "/mine",
                &[("origin", "null"), ("access-control-request-method", "GET")],
                "",
            ),
        ),
        (
            "a page that asks for a method of nobody",
            (405, "METHOD_NOT_ALLOWED"),
            built(
                "OPTIONS",
                "/mine",
                &[
                    ("origin", "https://a.example"),
                    ("access-control-request-method", "a b"),
                ],
                "",
            ),
        ),
        (
            "JSON of 10,000 brackets",
            (400, "VALIDATION_FAILED"),
            built(
                "POST",
                "/validate",
                &[("content-type", "application/json")],
                &"[".repeat(10_000),
            ),
        ),
        (
            "a text that calls itself a form",
            (415, "UNSUPPORTED_MEDIA_TYPE"),
            built(
                "POST",
                "/validate",
                &[("content-type", "text/plain")],
                r#"{"token":"x"}"#,
            ),
        ),
    ] {
        all.push((name, refused, request));
    }
    all
}
