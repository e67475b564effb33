//! What is said of the calls is what is checked in, and of all of them.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use shared::problem::Code;

/// Routes of policy.toml that the document says nothing of, by how they begin.
const NOT_DESCRIBED: &[(&str, &str)] = &[
    ("GET /account", "pages"),
    ("POST /account", "forms of pages"),
    ("GET /admin", "pages"),
    ("POST /admin", "forms of pages"),
    ("GET /sign-", "pages"),
    ("POST /sign-", "forms of pages"),
    ("GET /register", "a page"),
    ("POST /register", "a form of a page"),
    ("GET /check-your-mail", "a page"),
    ("GET /docs", "what is described is not what describes"),
    (
        "GET /api/v1/auth/reset-password",
        "a page that a mail leads to",
    ),
    (
        "GET /api/v1/auth/verify-email",
        "a page that a mail leads to",
    ),
    (
        "GET /api/v1/auth/magic-link/verify",
        "a page that a mail leads to",
    ),
    (
        "GET /api/v1/auth/oauth/{provider}/callback",
        "for browsers that a provider sends back",
    ),
    (
        "POST /api/v1/auth/oauth/{provider}/callback",
        "for browsers that a provider sends back",
    ),
    ("POST /oauth2/consent", "a form of a page"),
    ("POST /oauth2/logout/confirm", "a form of a page"),
    ("POST /oauth2/authorize", "the same as by GET"),
    ("POST /oauth2/logout", "the same as by GET"),
    (
        "GET /.well-known/oauth-authorization-server",
        "another place of the discovery document",
    ),
    ("GET /.well-known/jwks.json", "another place of the key set"),
    ("GET /api/auth/jwks", "another place of the key set"),
    ("GET /api/auth/oauth2/", "another place of /oauth2/"),
    ("POST /api/auth/oauth2/", "another place of /oauth2/"),
    ("GET /api/oidc/", "another place of /oauth2/"),
    ("POST /api/oidc/", "another place of /oauth2/"),
];
/// What is described and not for the edge to let through.
const PRIVATE: &[&str] = &["GET /health/live", "GET /health/ready"];

fn repository(path: &str) -> String {
    let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_default()
}

fn document() -> Value {
    serde_json::from_str(&origin::openapi::text()).expect("JSON")
}

/// `GET /health`, of each call that is described.
fn described() -> BTreeSet<String> {
    let document = document();
    let paths = document["paths"].as_object().expect("paths");
    let calls = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("an item").keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    calls.collect()
}

/// The same of each route of policy.toml.
fn routes() -> BTreeSet<String> {
    let policy: toml::Table = repository("policy.toml").parse().expect("TOML");
    let routes = policy["routes"].as_array().expect("routes").iter();
    let routes = routes.flat_map(|route| {
        let (path, methods) = (route["path"].as_str(), route["methods"].as_array());
        let path = path.expect("a path");
        let methods = methods.expect("methods").iter();
        methods.map(move |method| format!("{} {path}", method.as_str().expect("a method")))
    });
    routes.collect()
}

#[test]
fn the_document_is_checked_in() {
    assert!(
        repository("docs/openapi.json") == origin::openapi::text(),
        "docs/openapi.json is old; write it anew: cargo run -p origin -- openapi > docs/openapi.json"
    );
}

#[test]
fn every_route_is_described_or_known_not_to_be() {
    let (described, routes) = (described(), routes());
    let is_known = |route: &&String| {
        !NOT_DESCRIBED
            .iter()
            .any(|(known, _)| route.starts_with(known))
    };
    let forgotten: Vec<&String> = routes.difference(&described).filter(is_known).collect();
    assert!(forgotten.is_empty(), "nothing is said of {forgotten:?}");
    let idle: Vec<_> = NOT_DESCRIBED
        .iter()
        .filter(|(known, _)| !routes.iter().any(|route| route.starts_with(known)))
        .collect();
    assert!(idle.is_empty(), "there is nothing like {idle:?}");
}

#[test]
fn whatever_is_described_is_let_through() {
    let (described, routes) = (described(), routes());
    let lost: Vec<&String> = described
        .difference(&routes)
        .filter(|call| !PRIVATE.contains(&call.as_str()))
        .collect();
    assert!(lost.is_empty(), "policy.toml has no {lost:?}");
}

#[test]
fn every_reference_and_tag_and_scheme_is_there() {
    let document = document();
    let mut missing = Vec::new();
    look(&document, &mut |value| {
        if let Some(place) = value["$ref"].as_str()
            && document.pointer(&place[1..]).is_none()
        {
            missing.push(place.to_owned());
        }
        for scheme in value["security"].as_array().into_iter().flatten() {
            for name in scheme.as_object().expect("a requirement").keys() {
                if document["components"]["securitySchemes"][name].is_null() {
                    missing.push(name.clone());
                }
            }
        }
        for tag in value["tags"].as_array().into_iter().flatten() {
            let tags = document["tags"].as_array().expect("tags");
            if tag.is_string() && !tags.iter().any(|known| known["name"] == *tag) {
                missing.push(tag.to_string());
            }
        }
    });
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_code_of_a_problem_is_named_as_answers_name_it() {
    let document = document();
    let named = &document["components"]["schemas"]["Code"]["enum"];
    let all: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(*named, serde_json::json!(all));
}

fn look(value: &Value, see: &mut impl FnMut(&Value)) {
    see(value);
    match value {
        Value::Array(values) => values.iter().for_each(|value| look(value, see)),
        Value::Object(fields) => fields.values().for_each(|value| look(value, see)),
        _ => {}
    }
}
