//! A policy that an operator adds, and where requests lead by it.
//!
//! A seed that begins with `{` is the policy as it is written; behind its first empty line are requests, a
//! method and a path each. Any other seed is the bytes that [`made::Made`] is made from: a policy that is
//! likelier to hold together.

use std::net::{IpAddr, Ipv4Addr};

use arbitrary::{Arbitrary, Unstructured};
use edge::{
    limits::Counts,
    policy::{Auth, Destination, Found, Policy, Route},
};
use shared::credits::Credits;
use url::{ParseError, Url};

use crate::{lenient, now};

mod made;

/// What is tried on every policy that holds together.
const ALWAYS: [&str; 12] = [
    "/internal",
    "/internal/holds",
    "/internal%2fholds",
    "/internal;a/holds",
    "/internal%5Cholds",
    "/%2finternal/holds",
    "/a/..;/internal/holds",
    "/;/internal",
    "/%69nternal/holds",
    "//internal/holds",
    "/a%2f..%2finternal",
    "/@other.example/x",
];

/// Reads one policy, and asks where requests lead by it.
pub fn run(input: &[u8]) {
    if input.starts_with(b"{") {
        if let Ok(text) = std::str::from_utf8(input) {
            let (policy, requests) = text.split_once("\n\n").unwrap_or((text, ""));
            let requests = requests.lines().filter_map(|line| line.split_once(' '));
            check(policy, requests);
        }
    } else if let Ok(made) = made::Made::arbitrary_take_rest(Unstructured::new(input)) {
        let requests = made.requests();
        let requests = requests
            .iter()
            .map(|(method, path)| (*method, path.as_str()));
        check(&made.policy().to_string(), requests);
    }
}

fn check<'a>(json: &str, requests: impl Iterator<Item = (&'a str, &'a str)>) {
    match Policy::shipped(Some(json), 1) {
        Ok(policy) => {
            for (method, path) in requests.chain(ALWAYS.map(|path| ("GET", path))) {
                leads_where_it_may(&policy, method, path);
            }
        }
        Err(mistakes) => assert!(mistakes.to_string().starts_with("POLICY: ")),
    }
}

fn leads_where_it_may(policy: &Policy, method: &str, path: &str) {
    let route = match policy.find(method, path) {
        Found::Nothing => return,
        Found::OtherMethods(methods) => {
            assert!(!lenient::is_internal(path), "{path} is known");
            assert!(!methods.is_empty());
            return;
        }
        Found::Route(route) => route,
    };
    assert!(path.starts_with('/'), "{path}");
    assert!(
        !lenient::is_internal(path),
        "{path} leads to {:?}",
        route.to
    );
    is_read_as_sent("http://origin.example", path);
    if let Destination::App(index) = route.to {
        let upstream = policy.upstream(index);
        let there = upstream.path(path);
        assert!(
            there.starts_with('/'),
            "{path} is {there} at {}",
            upstream.at
        );
        assert_eq!(
            upstream.at.split_once("://").map(|(_, host)| host),
            Some(upstream.host())
        );
        is_read_as_sent(&upstream.at, &there);
    }
    holds_together(policy, route, method);
}

/// A client of HTTP asks the one who is meant, for the path that is meant.
fn is_read_as_sent(at: &str, path: &str) {
    let known = match Url::parse(at) {
        Ok(known) => known,
        // What looks like a number or like Punycode, and is none: nobody is asked.
        Err(ParseError::InvalidIpv4Address | ParseError::IdnaError) => return,
        Err(why) => panic!("{at}: {why}"),
    };
    let text = format!("{at}{path}");
    let read = Url::parse(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
    assert_eq!(read.origin(), known.origin(), "{text}");
    assert_eq!((read.username(), read.password()), ("", None), "{text}");
    let (sent, _) = path.split_once('?').unwrap_or((path, ""));
    assert_eq!(
        lenient::decoded(read.path()),
        lenient::decoded(sent),
        "{text}"
    );
}

/// What a route says of itself can be done.
fn holds_together(policy: &Policy, route: &Route, method: &str) {
    assert!(route.role.is_none() || route.auth == Auth::Required);
    assert!((1..=300).contains(&route.timeout_secs));
    if let Some(price) = route.price(method) {
        assert!(price.amount > Credits::ZERO && route.auth == Auth::Required);
        assert!(matches!(route.to, Destination::App(_)) && route.timeout_secs <= 20);
    }
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut counts = Counts::default();
    for (limit, key) in policy.limits_by_request(route, here, |_| None) {
        assert!(counts.admit(limit.index, key, limit.quota, now()).admitted);
        let decision = counts.admit(limit.index, key, limit.quota, now());
        for field in [
            limit.quota.policy_field(&limit.name),
            decision.field(&limit.name),
        ] {
            // RFC 9651 §3.3.3, and two quotes of our own.
            let is_plain = field
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\');
            assert!(is_plain && field.matches('"').count() == 2, "{field}");
        }
    }
}
