//! The head of a request, and what the edge makes of it.
//!
//! A seed is a request as HTTP/1.1 writes it, its lines ended by `\n`. `$user`, `$admin` and `$gone` in
//! headers stand for access tokens: of somebody whose e-mail address is the body, of an administrator, and of
//! a session that has ended. The body is also what `validate` reads and what an app says that it cost.

use std::net::{IpAddr, Ipv4Addr};

use edge::{
    gateway::Answered,
    host::{Forward, Head, Headers, Outcome},
};
use shared::proof::{ADDRESS, EMAIL, PROOF, Parts, Purpose, REQUEST_ID, ROLE, SUBJECT};
use url::Url;

use crate::{lenient, now};

mod world;

use world::{APPS, Behind, ORIGIN, PAGE, Request, World, answered};

/// What concerns one connection alone, and what a client may not say of its way: nothing of it reaches an
/// app. RFC 9110 §7.6.1.
const NOT_FOR_APPS: [&str; 15] = [
    "cf-connecting-ip",
    "connection",
    "forwarded",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "x-http-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// Passes one request through an edge.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (lines, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let world = World::new(body);
    let Some((head, headers)) = read(lines, &world) else {
        return;
    };
    let request = Request::new(headers, body);
    let outcome = answered(world.gateway.pass(&request, &head));
    match outcome {
        Outcome::Answer(answer) => {
            assert!((200..600).contains(&answer.status), "{}", answer.status);
            are_headers(&answer.headers);
        }
        Outcome::Forward(forward) => {
            is_forwarded_well(&head, &request, &forward);
            if let Some(settlement) = forward.settlement {
                let cost = Some(body.to_owned());
                let answer = Answered { status: 200, cost };
                answered(world.gateway.settle(&request, settlement, answer));
            }
        }
    }
    request.do_later();
}

/// The head and the headers, in so far as HTTP allows them.
fn read(lines: &str, world: &World) -> Option<(Head, Vec<(String, String)>)> {
    let mut lines = lines.split('\n');
    let (method, target) = lines.next()?.split_once(' ')?;
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
    if !is_token(method) || query.chars().any(|c| c.is_control() || c == ' ') {
        return None;
    }
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim_matches([' ', '\t'])))
        .filter(|(name, value)| {
            is_token(name) && !value.chars().any(|c| c.is_control() && c != '\t')
        })
        .map(|(name, value)| (name.to_ascii_lowercase(), world.with_tokens(value)))
        .collect();
    let address = joined(&headers, "cf-connecting-ip").and_then(|address| address.parse().ok());
    let head = Head {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        origin: joined(&headers, "origin"),
    };
    Some((head, headers))
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Several of one name are one list. RFC 9110 §5.3.
fn joined(headers: &[(String, String)], name: &str) -> Option<String> {
    let values = headers.iter().filter(|(known, _)| known == name);
    let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
    let between = if name == "cookie" { "; " } else { ", " };
    (!values.is_empty()).then(|| values.join(between))
}

fn are_headers(headers: &Headers) {
    for (name, value) in headers {
        assert!(lenient::is_header_value(value), "{name}: {value:?}");
        if *name == "access-control-allow-origin" {
            assert!([PAGE, "*"].contains(&value.as_ref()), "{value} may read");
        }
    }
}

fn is_forwarded_well(head: &Head, request: &Request, forward: &Forward) {
    are_headers(&forward.headers);
    are_headers(&forward.answer_headers);
    let app = APPS.iter().find(|app| {
        forward
            .url
            .strip_prefix(app.at)
            .is_some_and(|rest| rest.starts_with('/'))
    });
    let at = app.map_or(ORIGIN, |app| app.at);
    let target = forward
        .url
        .strip_prefix(at)
        .unwrap_or_else(|| panic!("{} is nobody's", forward.url));
    assert!(target.starts_with('/'), "{}", forward.url);
    let read = Url::parse(&forward.url).unwrap_or_else(|why| panic!("{}: {why}", forward.url));
    assert_eq!(
        read.origin(),
        Url::parse(at).expect("our own").origin(),
        "{}",
        forward.url
    );
    let path = target.split('?').next().unwrap_or_default();
    assert_eq!(
        lenient::decoded(read.path()),
        lenient::decoded(path),
        "{}",
        forward.url
    );
    assert!(!lenient::is_internal(&head.path), "{} went on", head.path);

    // As every platform does: what is dropped goes, and then what is set is set.
    let left: Vec<&(String, String)> = request
        .headers()
        .iter()
        .filter(|(name, _)| !forward.dropped.contains(name))
        .collect();
    for (name, _) in &left {
        // CGI and its heirs read the one for the other. RFC 3875 §4.1.18.
        let name = name.replace('_', "-");
        assert!(!name.starts_with("tollgate-"), "{name} is the client's own");
    }
    if let Some(app) = app {
        concerns_the_app(app, request, &left, forward);
    }
    is_proven(head, forward, app, target);
}

/// Nothing of the connection to us, of our own, or of the way a client says that it took.
fn concerns_the_app(
    app: &Behind,
    request: &Request,
    left: &[&(String, String)],
    forward: &Forward,
) {
    let connection = joined(request.headers(), "connection")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let hops: Vec<&str> = connection
        .split(',')
        .map(|name| name.trim_matches([' ', '\t']))
        .collect();
    for (name, value) in left {
        let read_as = name.replace('_', "-");
        let is_of_the_way =
            NOT_FOR_APPS.contains(&read_as.as_str()) || read_as.starts_with("x-forwarded");
        assert!(!is_of_the_way, "{name}: {value} reached {}", app.at);
        assert!(
            name == "upgrade" || !hops.contains(&name.as_str()),
            "{name} is of the connection"
        );
        assert!(
            !["cookie", "via"].contains(&name.as_str()),
            "{name} went on as it was"
        );
        assert!(
            app.keeps_authorization || name != "authorization",
            "the token reached {}",
            app.at
        );
    }
    let cookies = forward.headers.iter().filter(|(name, _)| *name == "cookie");
    for cookie in cookies.flat_map(|(_, cookies)| cookies.split(';')) {
        let name = cookie.split('=').next().unwrap_or_default().trim();
        let bare = name.strip_prefix("__Host-").unwrap_or(name);
        assert!(
            !bare.starts_with("tollgate"),
            "{name} is ours and reached {}",
            app.at
        );
    }
}

/// Whoever is behind believes it: the proof holds for what goes on, and for who asks.
fn is_proven(head: &Head, forward: &Forward, app: Option<&Behind>, target: &str) {
    let set = |name: &str| -> &str {
        let mut values = forward.headers.iter().filter(|(known, _)| *known == name);
        let value = values.next().map_or("", |(_, value)| value);
        assert!(values.next().is_none(), "{name} is set twice");
        value
    };
    let at = app.map_or(ORIGIN, |app| app.at);
    let parts = Parts {
        purpose: Purpose::Forward,
        method: &head.method,
        host: at.split_once("://").map_or("", |(_, host)| host),
        target,
        address: &head.address.to_string(),
        subject: set(SUBJECT),
        role: set(ROLE),
        email: set(EMAIL),
        request_id: set(REQUEST_ID),
    };
    let key = world::proof_key(app);
    assert_eq!(
        key.check(&parts, set(PROOF), now()),
        Ok(()),
        "{}",
        forward.url
    );
    assert_eq!(set(ADDRESS), parts.address);
    assert!(!parts.request_id.is_empty());
    if app.is_some_and(|app| app.keeps_authorization) || head.path == "/mine" {
        assert!(!parts.subject.is_empty(), "nobody asks for {}", head.path);
    }
    assert!(head.path != "/admin" || parts.role == "admin");
    assert!(!head.path.starts_with("/open/") || parts.subject.is_empty());
}
