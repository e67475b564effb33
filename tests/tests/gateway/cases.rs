//! The cases: what is asked, what must be answered, and whether the origin hears of it.

use crate::tokens::Token;

mod pages;

/// A route of each kind, and quotas that are used up soon.
pub const POLICY: &str = r#"{
    "limits": {
        "few": {"by": "address", "quota": 2, "exact": true},
        "each": {"by": "user", "quota": 2},
        "app": {"by": "app", "quota": 3},
        "key": {"by": "header", "header": "x-key", "quota": 2}
    },
    "routes": [
        {"path": "/health", "methods": ["GET"], "serve": "health"},
        {"path": "/jwks", "methods": ["GET"], "serve": "jwks"},
        {"path": "/validate", "methods": ["POST"], "serve": "validate"},
        {"path": "/validate", "methods": ["GET"], "serve": "validate", "auth": "required"},
        {"path": "/open", "methods": ["GET", "POST"], "upstream": "origin", "origins": []},
        {"path": "/moved", "methods": ["GET"], "upstream": "origin"},
        {"path": "/things/{id}", "methods": ["GET"], "upstream": "origin"},
        {"path": "/either", "methods": ["GET"], "upstream": "origin", "auth": "optional"},
        {"path": "/mine", "methods": ["GET", "POST", "DELETE"], "upstream": "origin", "auth": "required"},
        {"path": "/strict", "methods": ["GET"], "upstream": "origin", "auth": "required", "strict": true},
        {"path": "/admin", "methods": ["GET"], "upstream": "origin", "auth": "required", "role": "admin"},
        {"path": "/pages", "methods": ["GET", "POST"], "upstream": "origin", "auth": "required",
         "origins": ["https://app.example", "http://localhost:3000"]},
        {"path": "/for-apps", "methods": ["GET", "POST"], "upstream": "origin",
         "origins": ["apps", "https://listed.example"]},
        {"path": "/all-pages", "methods": ["GET"], "serve": "jwks", "origins": ["*"]},
        {"path": "/few", "methods": ["GET"], "upstream": "origin", "limits": ["few"]},
        {"path": "/each", "methods": ["GET"], "upstream": "origin", "auth": "required", "limits": ["each"]},
        {"path": "/apps", "methods": ["GET"], "upstream": "origin", "auth": "required", "limits": ["app"]},
        {"path": "/keys", "methods": ["GET"], "upstream": "origin", "limits": ["key"]}
    ]
}"#;

/// What the origin calls its key set.
const ETAG: &str = "\"1\"";

/// One request, and what must come of it.
pub struct Case {
    pub name: &'static str,
    pub method: &'static str,
    pub target: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
    /// Sent as a bearer.
    pub bearer: Option<Token>,
    pub body: Body,
    /// The client's address.
    pub address: &'static str,
    pub status: u16,
    /// The problem's code.
    pub code: Option<&'static str>,
    /// Headers of the answer; an empty text is a header that must not be there.
    pub answers: Vec<(&'static str, &'static str)>,
    /// What the answer's body contains.
    pub says: Vec<&'static str>,
    /// Whether the origin sees the request.
    pub forwarded: bool,
}

/// What is sent.
pub enum Body {
    /// A text.
    Text(&'static str),
    /// The question whether a token is good.
    About(Token),
    /// Valid JSON of so many bytes.
    Large(usize),
}

/// A request that must be answered with 200, without the origin.
fn case(name: &'static str, method: &'static str, target: &'static str) -> Case {
    Case {
        name,
        method,
        target,
        headers: Vec::new(),
        bearer: None,
        body: Body::Text(""),
        address: "192.0.2.1",
        status: 200,
        code: None,
        answers: Vec::new(),
        says: Vec::new(),
        forwarded: false,
    }
}

fn get(name: &'static str, target: &'static str) -> Case {
    case(name, "GET", target)
}

/// A question to `POST /validate`.
fn validate(name: &'static str, body: Body) -> Case {
    let json = case(name, "POST", "/validate").header("content-type", "application/json");
    Case { body, ..json }
}

impl Case {
    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn bearer(mut self, token: Token) -> Self {
        self.bearer = Some(token);
        self
    }

    fn body(mut self, text: &'static str) -> Self {
        self.body = Body::Text(text);
        self
    }

    fn from(mut self, address: &'static str) -> Self {
        self.address = address;
        self
    }

    fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    fn problem(mut self, status: u16, code: &'static str) -> Self {
        (self.status, self.code) = (status, Some(code));
        self
    }

    /// The answer has this header.
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.answers.push((name, value));
        self
    }

    fn says(mut self, text: &'static str) -> Self {
        self.says.push(text);
        self
    }

    fn forwarded(mut self) -> Self {
        self.forwarded = true;
        self
    }
}

/// With an origin that answers, in this order on one edge.
pub fn with_an_origin() -> Vec<Case> {
    let all = [
        routing(),
        keys(),
        validation(),
        tokens(),
        revocations(),
        forwarding(),
        pages::all(),
        quotas(),
    ];
    all.into_iter().flatten().collect()
}

fn routing() -> Vec<Case> {
    vec![
        get("the edge is up", "/health")
            .with("content-type", "application/json")
            .says(r#""status":"ok""#),
        case("HEAD goes where GET goes", "HEAD", "/health"),
        get("an unknown path", "/nothing").problem(404, "NOT_FOUND"),
        get("a longer path than a route's", "/health/x").problem(404, "NOT_FOUND"),
        get("what is the edge's own", "/internal/revocations").problem(404, "NOT_FOUND"),
        get("a path in capitals", "/OPEN").problem(404, "NOT_FOUND"),
        case("another method", "PUT", "/validate")
            .problem(405, "METHOD_NOT_ALLOWED")
            .with("allow", "POST, GET"),
        get("an empty segment before", "//open").problem(404, "NOT_FOUND"),
        get("an empty segment behind", "/things//").problem(404, "NOT_FOUND"),
        get("a parameter that leads up", "/things/..").problem(404, "NOT_FOUND"),
        get("one that leads up in disguise", "/things/%2e%2E").problem(404, "NOT_FOUND"),
        get("one that leads up and half in disguise", "/things/.%2e").problem(404, "NOT_FOUND"),
        get("a parameter that stays", "/things/.").problem(404, "NOT_FOUND"),
        get("an encoded letter of a route", "/%6Fpen").problem(404, "NOT_FOUND"),
        get(
            "an encoded slash is part of a parameter",
            "/things/a%2Fb?c=%2F",
        )
        .forwarded(),
    ]
}

fn keys() -> Vec<Case> {
    let cached = "public, max-age=300, stale-while-revalidate=3600, stale-if-error=86400";
    vec![
        get("the keys, as the origin publishes them", "/jwks")
            .with("content-type", "application/json")
            .with("cache-control", cached)
            .with("etag", ETAG)
            .says(r#"{"keys":[{"kty":"OKP","crv":"Ed25519""#),
        get("the keys that a client has", "/jwks")
            .header("if-none-match", ETAG)
            .status(304)
            .with("etag", ETAG),
        get("older keys than ours", "/jwks").header("if-none-match", "\"older\""),
    ]
}

fn validation() -> Vec<Case> {
    let bad = |name, text| validate(name, Body::Text(text));
    vec![
        validate("a good token", Body::About(Token::Good))
            .says(r#""valid":true"#)
            .says(r#""email":"ada@example.org""#),
        validate("a token that is over", Body::About(Token::Expired))
            .says(r#""valid":false"#)
            .says("expired"),
        validate("noise", Body::About(Token::Noise)).says(r#""valid":false"#),
        get("the bearer's own token", "/validate")
            .bearer(Token::Good)
            .says(r#""valid":true"#),
        get("nobody's token", "/validate").problem(401, "UNAUTHENTICATED"),
        bad("an unknown field", r#"{"token":"x","more":1}"#)
            .problem(400, "VALIDATION_FAILED")
            .says(r#""pointer":"/more""#),
        bad("no field", "{}")
            .problem(400, "VALIDATION_FAILED")
            .says(r#""pointer":"/token""#),
        bad("a field of another type", r#"{"token":7}"#)
            .problem(400, "VALIDATION_FAILED")
            .says(r#""pointer":"/token""#),
        bad("half of a JSON", r#"{"token":"#).problem(400, "INVALID_REQUEST"),
        bad("nothing", "").problem(400, "INVALID_REQUEST"),
        case("a form", "POST", "/validate")
            .header("content-type", "application/x-www-form-urlencoded")
            .body("token=x")
            .problem(415, "UNSUPPORTED_MEDIA_TYPE"),
        validate("a body of 64 KiB", Body::Large(64 * 1_024)).says(r#""valid":false"#),
        validate("a byte more", Body::Large(64 * 1_024 + 1)).problem(413, "BODY_TOO_LARGE"),
        validate("a body of 1 MiB", Body::Large(1_024 * 1_024)).problem(413, "BODY_TOO_LARGE"),
    ]
}

fn tokens() -> Vec<Case> {
    let hostile = |name, token| {
        get(name, "/mine")
            .bearer(token)
            .problem(401, "INVALID_TOKEN")
            .with("www-authenticate", "Bearer error=\"invalid_token\"")
    };
    let unauthenticated = |name| {
        get(name, "/mine")
            .problem(401, "UNAUTHENTICATED")
            .with("www-authenticate", "Bearer")
    };
    vec![
        hostile("no algorithm", Token::NoAlgorithm),
        hostile("signed by HMAC with the public key", Token::Hs256),
        hostile("another issuer", Token::OtherIssuer),
        hostile("another audience", Token::OtherAudience),
        hostile("another type", Token::OtherType),
        hostile("another key under our key's name", Token::OtherKey),
        hostile("a key that nobody published", Token::UnknownKey),
        hostile("over", Token::Expired),
        hostile("with demands", Token::Critical),
        hostile("with a key of its own", Token::OwnKey),
        hostile("without the name of a key", Token::NoKey),
        hostile("16 KiB of noise", Token::Noise),
        unauthenticated("no credentials"),
        unauthenticated("another scheme").header("authorization", "Basic YWRhOmFkYQ=="),
        unauthenticated("a scheme alone").header("authorization", "Bearer"),
        unauthenticated("no scheme").header("authorization", "token"),
        hostile("two tokens", Token::Good).header("authorization", "Bearer x"),
        get("a bad token where none is needed", "/either")
            .bearer(Token::Expired)
            .problem(401, "INVALID_TOKEN"),
        get("another role", "/admin")
            .bearer(Token::Good)
            .problem(403, "FORBIDDEN"),
        get("the role", "/admin").bearer(Token::Admin).forwarded(),
    ]
}

fn revocations() -> Vec<Case> {
    let refused = |name, target, token, code| {
        get(name, target)
            .bearer(token)
            .problem(401, code)
            .with("www-authenticate", "Bearer error=\"invalid_token\"")
    };
    let ended = |name, target| refused(name, target, Token::Ended, "SESSION_REVOKED");
    let invalid = |name, token| refused(name, "/mine", token, "INVALID_TOKEN");
    vec![
        ended("a session that was ended", "/mine"),
        ended("and once more, from memory", "/mine"),
        ended("where none is needed", "/either"),
        ended("where it is only asked", "/validate").says("The session has ended"),
        validate("in a body", Body::About(Token::Ended))
            .says(r#""valid":false"#)
            .says("the session has ended"),
        invalid("of before somebody signed out everywhere", Token::Before).says("withdrawn"),
        validate("the same in a body", Body::About(Token::Before)).says(r#""valid":false"#),
        get("of after that", "/mine")
            .bearer(Token::After)
            .forwarded(),
        validate("the same in a body", Body::About(Token::After)).says(r#""valid":true"#),
        invalid("signed with a key that was revoked", Token::OfRevokedKey),
        get("a good one on a strict route", "/strict")
            .bearer(Token::Good)
            .forwarded(),
        ended("an ended one on a strict route", "/strict"),
        get("where no token is looked at", "/open")
            .bearer(Token::Ended)
            .forwarded(),
        get("the age of what is known", "/health").says(r#""revocationsAgeSecs":0"#),
    ]
}

fn forwarding() -> Vec<Case> {
    let good = |method, target| case("a good token", method, target).bearer(Token::Good);
    vec![
        good("GET", "/mine?a=1&b=%20x&c=a+b").forwarded(),
        good("DELETE", "/mine").forwarded(),
        good("POST", "/mine")
            .body("{\"any\": \"thing\"} \n")
            .forwarded(),
        case("a body without a token", "POST", "/open")
            .body("x=1")
            .forwarded(),
        Case {
            body: Body::Large(64 * 1_024),
            ..case("a body as large as the origin takes", "POST", "/open").forwarded()
        },
        Case {
            body: Body::Large(64 * 1_024 + 1),
            ..case("a larger one", "POST", "/open").problem(413, "BODY_TOO_LARGE")
        },
        Case {
            body: Body::Large(64 * 1_024 + 1),
            ..good("DELETE", "/mine").problem(413, "BODY_TOO_LARGE")
        },
        get("nobody, where anybody may ask", "/either").forwarded(),
        get("a body of a GET", "/either")
            .body("x=1")
            .problem(400, "INVALID_REQUEST"),
        get("somebody, where anybody may ask", "/either")
            .bearer(Token::Good)
            .forwarded(),
        get("a scheme in small letters", "/open")
            .header("authorization", "basic x")
            .forwarded(),
        get("a client that calls itself somebody", "/open")
            .header("tollgate-subject", "eve")
            .header("tollgate-role", "eve")
            .header("tollgate_role", "eve")
            .header("tollgate-address", "eve")
            .header("tollgate-proof", "eve")
            .header("tollgate-anything", "eve")
            .header("x-mine", "kept")
            .forwarded(),
        get("a client of IPv6", "/open")
            .from("2001:db8::7")
            .forwarded(),
        get("an address that is moved to another", "/moved")
            .status(302)
            .with("location", "/open")
            .forwarded(),
    ]
}

fn quotas() -> Vec<Case> {
    let few = |name, address| get(name, "/few").from(address);
    let key = |name, key| get(name, "/keys").header("x-key", key);
    let over = |case: Case, policy| {
        let refused = case.problem(429, "RATE_LIMITED").with("retry-after", "30");
        refused.with("ratelimit-policy", policy)
    };
    vec![
        few("the first of two", "192.0.2.2")
            .with("ratelimit-policy", "\"few\";q=2;w=60")
            .with("ratelimit", "\"few\";r=1;t=30")
            .with("retry-after", "")
            .forwarded(),
        few("the second of two", "192.0.2.2").forwarded(),
        over(few("a third", "192.0.2.2"), "\"few\";q=2;w=60"),
        over(
            few("a third that claims to be elsewhere", "192.0.2.2")
                .header("x-forwarded-for", "192.0.2.9")
                .header("cf-connecting-ip", "192.0.2.9")
                .header("spin-client-addr", "192.0.2.9:1"),
            "\"few\";q=2;w=60",
        ),
        few("another address", "192.0.2.3").forwarded(),
        few("a customer's first address", "2001:db8:0:1::1").forwarded(),
        few("a customer's second address", "2001:db8:0:1::2").forwarded(),
        over(
            few("a customer's third address", "2001:db8:0:1:2::"),
            "\"few\";q=2;w=60",
        ),
        get("a user's first", "/each")
            .bearer(Token::Good)
            .forwarded(),
        get("a user's second, from elsewhere", "/each")
            .bearer(Token::Good)
            .from("192.0.2.4")
            .forwarded(),
        over(
            get("a user's third", "/each").bearer(Token::Good),
            "\"each\";q=2;w=60",
        ),
        get("another user", "/each")
            .bearer(Token::Admin)
            .forwarded(),
        get("an app's first", "/apps")
            .bearer(Token::Good)
            .forwarded(),
        get("an app's second, of another user", "/apps")
            .bearer(Token::Admin)
            .forwarded(),
        get("an app's third, of another session", "/apps")
            .bearer(Token::After)
            .forwarded(),
        get("an app's fourth", "/apps")
            .bearer(Token::Good)
            .problem(429, "RATE_LIMITED")
            .with("retry-after", "20"),
        key("a key's first", "one").forwarded(),
        key("a key's second, from elsewhere", "one")
            .from("192.0.2.5")
            .forwarded(),
        over(key("a key's third", "one"), "\"key\";q=2;w=60"),
        key("another key", "two").forwarded(),
        get("no key counts by address", "/keys").forwarded(),
        get("no key a second time", "/keys").forwarded(),
        over(get("no key a third time", "/keys"), "\"key\";q=2;w=60"),
        get("no key from elsewhere", "/keys")
            .from("192.0.2.5")
            .forwarded(),
        get("a bad token counts for nobody", "/each")
            .bearer(Token::Expired)
            .problem(401, "INVALID_TOKEN")
            .with("ratelimit", ""),
    ]
}

/// On the same edge, once its origin has gone.
pub fn without_the_origin() -> Vec<Case> {
    vec![
        get("the edge is up", "/health").says(r#""status":"ok""#),
        get("the keys", "/jwks").says(r#"{"keys":[{"#),
        validate("a good token", Body::About(Token::Good)).says(r#""valid":true"#),
        validate("a token not seen before", Body::About(Token::Fresh)).says(r#""valid":true"#),
        get("a token that is over", "/mine")
            .bearer(Token::Expired)
            .problem(401, "INVALID_TOKEN"),
        get("a session that was ended", "/mine")
            .bearer(Token::Ended)
            .problem(401, "SESSION_REVOKED"),
        get("what the origin answers", "/mine")
            .bearer(Token::Good)
            .problem(502, "UPSTREAM_UNREACHABLE"),
        get("a page reads that, too", "/pages")
            .bearer(Token::Good)
            .header("origin", "https://app.example")
            .problem(502, "UPSTREAM_UNREACHABLE")
            .with("access-control-allow-origin", "https://app.example"),
    ]
}

/// On an edge whose origin publishes its keys and tells no revocations.
pub fn without_revocations() -> Vec<Case> {
    let strict = |name, token| get(name, "/strict").bearer(token);
    vec![
        get("a good token", "/mine").bearer(Token::Good).forwarded(),
        validate("what might have ended", Body::About(Token::Ended)).says(r#""valid":true"#),
        strict("a good one on a strict route", Token::Good)
            .problem(503, "REVOCATIONS_UNAVAILABLE")
            .with("www-authenticate", ""),
        strict("a bad one is no outage", Token::Expired).problem(401, "INVALID_TOKEN"),
        get("nobody is no outage", "/strict").problem(401, "UNAUTHENTICATED"),
        get("nothing is known", "/health").says(r#""revocationsAgeSecs":null"#),
    ]
}

/// On an edge that has never reached its origin.
pub fn without_keys() -> Vec<Case> {
    vec![
        get("a good token is no wrong token", "/mine")
            .bearer(Token::Good)
            .problem(503, "KEYS_UNAVAILABLE")
            .with("www-authenticate", ""),
        get("the keys", "/jwks").problem(503, "KEYS_UNAVAILABLE"),
        validate("a good token", Body::About(Token::Good)).problem(503, "KEYS_UNAVAILABLE"),
        get("no credentials", "/mine").problem(401, "UNAUTHENTICATED"),
        get("the edge is up", "/health").says(r#""keysAgeSecs":null"#),
    ]
}
