//! Where requests lead, and each mistake with its path.

use super::*;

fn mistakes(json: &str) -> String {
    Policy::parse(json, 1).expect_err(json).to_string()
}

fn routed(policy: &Policy, method: &str, path: &str) -> String {
    match policy.find(method, path) {
        Found::Route(route) => format!("{:?}", route.to),
        Found::OtherMethods(methods) => methods,
        Found::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn a_request_finds_its_route_by_method_and_path() {
    let policy = Policy::parse(
        r#"{"routes": [
            {"path": "/keys", "methods": ["GET"], "serve": "jwks"},
            {"path": "/sessions/{id}", "methods": ["DELETE"], "upstream": "origin"},
            {"path": "/sessions/{id}", "methods": ["GET"], "serve": "health"}
        ]}"#,
        1,
    )
    .expect("a good policy");
    for (method, path, leads_to) in [
        ("GET", "/keys", "Edge(Jwks)"),
        ("HEAD", "/keys", "Edge(Jwks)"),
        ("POST", "/keys", "GET"),
        ("GET", "/keys/", "nothing"),
        ("GET", "/Keys", "nothing"),
        ("GET", "/%6beys", "nothing"),
        ("DELETE", "/sessions/1", "Origin"),
        ("GET", "/sessions/1", "Edge(Health)"),
        ("PUT", "/sessions/1", "DELETE, GET"),
        ("GET", "/sessions/1/2", "nothing"),
        ("GET", "", "nothing"),
    ] {
        assert_eq!(routed(&policy, method, path), leads_to, "{method} {path}");
    }
}

#[test]
fn a_mistake_is_named_with_its_path() {
    for (json, named) in [
        ("{}", "missing field `routes`"),
        (r#"{"routes": [], "x": 1}"#, "unknown field `x`"),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "serve": "tea"}]}"#,
            "routes[0].serve: unknown variant",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "serve": "jwks", "auht": 1}]}"#,
            "unknown field `auht`",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": [], "serve": "jwks"}]}"#,
            "routes[0].methods: must name",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GETS"], "serve": "jwks"}]}"#,
            "routes[0].methods: `GETS`",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"]}]}"#,
            "routes[0].upstream: there must be",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "upstream": "x"}]}"#,
            "routes[0].upstream: `x`",
        ),
        (
            r#"{"routes": [{"path": "a", "methods": ["GET"], "serve": "jwks"}]}"#,
            "routes[0].path: must begin",
        ),
        (
            r#"{"routes": [{"path": "/{a}{b}", "methods": ["GET"], "serve": "jwks"}]}"#,
            "routes[0].path: ",
        ),
        (
            r#"{"routes": [{"path": "/internal/x", "methods": ["GET"], "upstream": "origin"}]}"#,
            "never forwarded",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "upstream": "origin", "strict": true}]}"#,
            "routes[0].strict: needs `auth`",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "serve": "jwks", "strict": true}]}"#,
            "routes[0].strict: needs `auth`",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "serve": "jwks", "role": "admin"}]}"#,
            "routes[0].role",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "serve": "jwks", "limits": ["x"]}]}"#,
            "`x` is not defined",
        ),
        (
            r#"{"routes": [], "limits": {"a": {"by": "address", "quota": 0}}}"#,
            "limits.a.quota: must be at least 1",
        ),
        (
            r#"{"routes": [], "shield": {"period": 0}}"#,
            "shield.period: must be 1 to",
        ),
        (
            r#"{"limits": {"u": {"by": "user", "quota": 1}},
                "routes": [{"path": "/a", "methods": ["GET"], "serve": "jwks", "limits": ["u"]}]}"#,
            "`u` counts by who signed in",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "serve": "jwks"},
                           {"path": "/a", "methods": ["GET"], "serve": "health"}]}"#,
            "routes[1].methods: GET /a is routes[0] already",
        ),
    ] {
        assert!(mistakes(json).contains(named), "{json}: {}", mistakes(json));
    }
}

#[test]
fn a_route_is_strict_where_a_token_is_looked_at() {
    let policy = Policy::parse(
        r#"{"routes": [
            {"path": "/a", "methods": ["GET"], "upstream": "origin", "auth": "optional", "strict": true},
            {"path": "/a", "methods": ["POST"], "serve": "validate", "strict": true},
            {"path": "/a", "methods": ["PUT"], "upstream": "origin", "auth": "required"}
        ]}"#,
        1,
    )
    .expect("a good policy");
    let strict = |method| match policy.find(method, "/a") {
        Found::Route(route) => route.strict,
        other => panic!("{other:?}"),
    };
    assert!(strict("GET") && strict("POST") && !strict("PUT"));
}

#[test]
fn no_pattern_reaches_what_is_internal() {
    let policy = Policy::parse(
        r#"{"routes": [
            {"path": "/{a}/{*rest}", "methods": ["GET"], "upstream": "origin"},
            {"path": "/{a}", "methods": ["GET"], "upstream": "origin"}
        ]}"#,
        1,
    )
    .expect("a good policy");
    for path in ["/internal", "/internal/", "/internal/revocations"] {
        assert_eq!(routed(&policy, "GET", path), "nothing", "{path}");
    }
    assert_eq!(routed(&policy, "GET", "/internals/x"), "Origin");
}

#[test]
fn all_mistakes_are_named_at_once() {
    let two = mistakes(
        r#"{"routes": [{"path": "/a", "methods": [], "serve": "jwks", "limits": ["x"]}]}"#,
    );
    assert!(two.contains("methods") && two.contains("limits"), "{two}");
}
