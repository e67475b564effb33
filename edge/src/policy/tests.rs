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
            r#"{"routes": [], "origins": ["https://a.example/"]}"#,
            "origins: `https://a.example/` is neither",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "serve": "jwks", "origins": ["null"]}]}"#,
            "routes[0].origins: `null`",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "upstream": "origin", "timeout": 301}]}"#,
            "routes[0].timeout: must be 1 to 300",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "upstream": "origin", "max_body": 1}]}"#,
            "routes[0].max_body: is for apps",
        ),
        (
            r#"{"routes": [{"path": "/a", "methods": ["GET"], "upstream": "origin", "app": "A b"}]}"#,
            "routes[0].app: must be",
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
fn a_limit_counts_what_there_is() {
    for (json, named) in [
        (
            r#"{"limits": {"u": {"by": "app", "quota": 1}},
                "routes": [{"path": "/a", "methods": ["GET"], "serve": "jwks", "limits": ["u"]}]}"#,
            "`u` counts by who signed in",
        ),
        (
            r#"{"routes": [], "limits": {"a": {"by": "header", "quota": 1}}}"#,
            "limits.a.header: `by = \"header\"` needs",
        ),
        (
            r#"{"routes": [], "limits": {"a": {"by": "header", "header": "X-Key", "quota": 1}}}"#,
            "in small letters",
        ),
        (
            r#"{"routes": [], "limits": {"a": {"by": "user", "header": "x-key", "quota": 1}}}"#,
            "limits.a.header: is for",
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
    for path in [
        "/internal",
        "/internal/",
        "/internal/revocations",
        "/internal%2frevocations",
        "/internal%5Crevocations",
        "/internal;x/revocations",
        "/internal%3Bx/revocations",
        "/%2Finternal/revocations",
        "/;x/internal/revocations",
    ] {
        assert_eq!(routed(&policy, "GET", path), "nothing", "{path}");
    }
    for path in [
        "/internals/x",
        "/x;internal",
        "/a%2finternal",
        "/internal%20/x",
    ] {
        assert_eq!(routed(&policy, "GET", path), "Origin", "{path}");
    }
}

#[test]
fn what_is_internal_in_disguise_is_no_route() {
    for path in ["/internal;a/x", "/internal%2fx", "/;/internal"] {
        let json =
            format!(r#"{{"routes": [{{"path": "{path}", "methods": ["GET"], "serve": "jwks"}}]}}"#);
        let named = mistakes(&json);
        assert!(named.contains("never forwarded"), "{path}: {named}");
    }
}

#[test]
fn a_limits_name_is_one_that_a_header_can_quote() {
    for name in [r#"a\"b"#, r"a\\b", r"a\nb", "ä"] {
        let json =
            format!(r#"{{"limits": {{"{name}": {{"by": "address", "quota": 1}}}}, "routes": []}}"#);
        let named = mistakes(&json);
        assert!(named.contains("name: must be printable"), "{name}: {named}");
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let two = mistakes(
        r#"{"routes": [{"path": "/a", "methods": [], "serve": "jwks", "limits": ["x"]}]}"#,
    );
    assert!(two.contains("methods") && two.contains("limits"), "{two}");
}

#[test]
fn an_app_is_at_a_plain_address_under_a_plain_name() {
    for (name, upstream, named) in [
        (
            "origin",
            r#"{"url": "http://a"}"#,
            "upstreams.origin: is the origin's",
        ),
        ("A", r#"{"url": "http://a"}"#, "upstreams.A: a name is"),
        ("a", r#"{"url": "ftp://a"}"#, "upstreams.a.url"),
        ("a", r#"{"url": "a.example"}"#, "upstreams.a.url"),
        ("a", r#"{"url": "http://"}"#, "upstreams.a.url"),
        ("a", r#"{"url": "http://u:p@a"}"#, "upstreams.a.url"),
        ("a", r#"{"url": "http://{x}.example"}"#, "upstreams.a.url"),
        ("a", r#"{"url": "https://A.example"}"#, "small letters"),
        (
            "a",
            r#"{"url": "https://a.example:443"}"#,
            "upstreams.a.url",
        ),
        ("a", r#"{"url": "http://a/b/"}"#, "upstreams.a.url"),
        ("a", r#"{"url": "http://a/b/../c"}"#, "upstreams.a.url"),
        ("a", r#"{"url": "http://a/{x}"}"#, "upstreams.a.url"),
        ("a", r#"{"url": "http://a/?x"}"#, "upstreams.a.url"),
        (
            "a",
            r#"{"url": "http://a", "strip": "b"}"#,
            "upstreams.a.strip",
        ),
        (
            "a",
            r#"{"url": "http://a", "strip": "/"}"#,
            "upstreams.a.strip",
        ),
        (
            "a",
            r#"{"url": "http://a", "key": "x"}"#,
            "unknown field `key`",
        ),
    ] {
        let json = format!(r#"{{"upstreams": {{"{name}": {upstream}}}, "routes": []}}"#);
        assert!(
            mistakes(&json).contains(named),
            "{json}: {}",
            mistakes(&json)
        );
    }
}

/// A route of the app `a` at `/x`, which strips `/x`.
fn app_route(path: &str, fields: &str) -> String {
    format!(
        r#"{{"upstreams": {{"a": {{"url": "https://a.example/v1", "strip": "/x"}}}},
            "routes": [{{"path": "{path}", "methods": ["GET", "POST"], "upstream": "a"{fields}}}]}}"#
    )
}

#[test]
fn a_path_here_is_another_one_there() {
    let policy = Policy::parse(&app_route("/x/{*rest}", ""), 1).expect("a good policy");
    let there = |path: &str| policy.upstream(0).path(path);
    assert_eq!(there("/x/a//b"), "/v1/a//b");
    assert_eq!(there("/x"), "/v1");
    let bare = r#"{"upstreams": {"a": {"url": "https://a.example", "strip": "/x"}}, "routes": []}"#;
    let bare = Policy::parse(bare, 1).expect("a good policy");
    assert_eq!(
        (bare.upstream(0).path("/x"), bare.upstream(0).host()),
        ("/".to_owned(), "a.example")
    );
    for path in ["/y/{*rest}", "/xy", "/{a}/x"] {
        let named = mistakes(&app_route(path, ""));
        assert!(
            named.contains("routes[0].path: does not begin"),
            "{path}: {named}"
        );
    }
}

#[test]
fn a_price_is_an_amount_that_somebody_pays_to_somebody() {
    let priced = |cost: &str| {
        app_route(
            "/x",
            &format!(r#", "auth": "required", "app": "a", "cost": {cost}"#),
        )
    };
    for (cost, get, post) in [
        ("5", Some("5"), Some("5")),
        ("0.02", Some("0.02"), Some("0.02")),
        (r#"{"POST": 1.5}"#, None, Some("1.5")),
        (r#"{"GET": 1, "POST": 2}"#, Some("1"), Some("2")),
    ] {
        let policy = Policy::parse(&priced(cost), 1).expect(cost);
        let of = |method: &str| match policy.find(method, "/x") {
            Found::Route(route) => route.price(method).map(|price| price.amount.to_string()),
            other => panic!("{other:?}"),
        };
        assert_eq!(of("GET").as_deref(), get, "{cost}");
        assert_eq!(of("HEAD").as_deref(), get, "{cost}");
        assert_eq!(of("POST").as_deref(), post, "{cost}");
    }
    for cost in [
        "0",
        "-1",
        "0.0001",
        "1e3",
        "\"5\"",
        "[]",
        r#"{"POST": 0}"#,
        r#"{"PUT": 1}"#,
        "true",
    ] {
        let named = mistakes(&priced(cost));
        assert!(named.contains("routes[0].cost: "), "{cost}: {named}");
    }
    for (fields, named) in [
        (
            r#", "auth": "required", "app": "a", "cost": 1, "timeout": 21"#,
            "routes[0].timeout: must be 1 to 20",
        ),
        (r#", "auth": "required", "cost": 1"#, "needs `app`"),
        (
            r#", "auth": "optional", "app": "a", "cost": 1"#,
            "needs `auth",
        ),
    ] {
        assert!(
            mistakes(&app_route("/x", fields)).contains(named),
            "{fields}"
        );
    }
    let origin = r#"{"routes": [{"path": "/a", "methods": ["GET"], "upstream": "origin", "auth": "required",
                                 "app": "a", "cost": 1}]}"#;
    assert!(mistakes(origin).contains("cost: is for apps alone"));
}

#[test]
fn a_path_that_others_read_otherwise_leads_nowhere() {
    let policy =
        r#"{"routes": [{"path": "/notes/{*rest}", "methods": ["GET"], "upstream": "origin"}]}"#;
    let policy = Policy::parse(policy, 1).expect("a good policy");
    for path in [
        "/notes/a",
        "/notes/a/",
        "/notes/a%2Fb",
        "/notes/a%20b",
        "/notes/%C3%A4",
        "/notes/a;b=c",
        "/notes/...",
        "/notes/a..b",
        "/notes/a@b:c!$&'()*+,=",
    ] {
        assert_eq!(routed(&policy, "GET", path), "Origin", "{path}");
    }
    for path in [
        "/notes//paid",
        "/notes/paid ",
        "/notes/a//b",
        "//notes/a",
        "/notes/p%61id",
        "/notes/%2e%2e/x",
        "/notes/%2E",
        "/notes/..",
        "/notes/./a",
        "/notes/a/..",
        "/notes/x\\..\\paid",
        "/notes/x/..%2fpaid",
        "/notes/x/..%5Cpaid",
        "/notes/a%2f..%2fpaid",
        "/notes/..;/paid",
        "/notes/.;x=1/paid",
        "/notes/a%00",
        "/notes/a%",
        "/notes/a%2",
        "/notes/a%zz",
        "/notes/a\u{7f}",
        "/notes/a#b",
        "/notes/%7Eada",
    ] {
        assert_eq!(routed(&policy, "GET", path), "nothing", "{path}");
    }
}

/// What a page shows is for whoever looks at it, and not for the scripts of apps in the same browser.
#[test]
fn no_page_of_another_origin_reads_our_pages() {
    let policy = Policy::shipped(None, 1).expect("policy.toml holds together");
    let is_page = |path: &str| {
        let of_programs = ["/api/", "/.well-known/", "/health", "/oauth2/rs256/"];
        let is_program = of_programs.iter().any(|prefix| path.starts_with(prefix));
        let of_clients = ["/token", "/userinfo", "/introspect", "/revoke"];
        let is_client =
            path.starts_with("/oauth2/") && of_clients.iter().any(|suffix| path.ends_with(suffix));
        let browsers = [
            "/oauth2/authorize",
            "/oidc/authorize",
            "/oauth2/logout",
            "/oidc/logout",
        ];
        browsers.iter().any(|suffix| path.ends_with(suffix)) || !is_program && !is_client
    };
    let pages = policy.routes.iter().filter(|route| is_page(&route.path));
    let mut count = 0;
    for page in pages {
        let path = &page.path;
        assert!(!page.is_for_apps && page.origins.is_empty(), "{path}");
        count += 1;
    }
    assert!(count > 50, "{count} pages");
}
