//! Policies made of what policies are made of, right and wrong.

use arbitrary::Arbitrary;
use serde_json::{Value, json};

/// A policy and requests.
#[derive(Arbitrary, Debug)]
pub struct Made {
    shield: Option<(u16, u32)>,
    limits: [Option<Limit>; 2],
    upstreams: [Option<Upstream>; 2],
    origins: Option<Origin>,
    routes: Vec<Route>,
    requests: Vec<Request>,
}

#[derive(Arbitrary, Debug)]
struct Limit {
    by: By,
    quota: u32,
    period: Option<u32>,
    is_exact: bool,
}

#[derive(Arbitrary, Debug)]
struct Upstream {
    host: Host,
    base: Vec<Piece>,
    strip: Vec<Piece>,
    keeps_authorization: bool,
}

#[derive(Arbitrary, Debug)]
struct Route {
    path: Vec<Piece>,
    methods: Vec<Method>,
    to: To,
    auth: Option<Auth>,
    is_admin: bool,
    is_strict: bool,
    cost: Option<Cost>,
    timeout: Option<u16>,
    max_body: Option<u32>,
    origins: Option<Origin>,
    limits: [bool; 2],
}

#[derive(Arbitrary, Debug)]
struct Request {
    method: Method,
    /// A route whose path is asked for, with what stands for its parameters; or none.
    route: Option<u8>,
    path: Vec<Piece>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum To {
    Origin,
    First,
    Second,
    Jwks,
    Validate,
    Health,
}

/// An enum of words, and the word of each.
macro_rules! words {
    ($name:ident: $($variant:ident $word:literal),+ $(,)?) => {
        #[derive(Arbitrary, Clone, Copy, Debug)]
        enum $name { $($variant),+ }

        impl $name {
            const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

words!(By: Address "address", User "user", Session "session");
words!(Auth: None "none", Optional "optional", Required "required");
words!(Method: Get "GET", Head "HEAD", Post "POST", Put "PUT", Delete "DELETE", Options "OPTIONS");
words!(Origin: All "*", App "https://app.example", Port "http://localhost:3000", Null "null");
words!(Host:
    Plain "https://notes.example", Port "http://10.0.0.2:3000", V6 "http://[::1]:81", Upper "https://NOTES.example",
    Dot "https://notes.example.", Bare "http://notes", User "http://a@notes.example", Empty "http://",
    Number "http://127.1", Colon "http://notes:", Bracket "http://[", Brackets "http://a[]", NoPort "http://notes:x",
    Far "http://notes:99999",
);
words!(Piece:
    A "a", Slash "/", Internal "internal", Upper "Internal", Id "{id}", Rest "{*rest}", SlashId "/{x}", SlashA "/a",
    Dot ".", Dots "..", Dot2e "%2e", Slash2f "%2f", Slash2F "%2F", Back5c "%5c", Back "\\", Semi ";", Semi3b "%3b",
    Percent25 "%25", Letter69 "%69nternal", Open "{", Close "}", Opens "{{", Closes "}}", Star "*", At "@", Colon ":",
    Query "?", Hash "#", Nul "%00", Line "\n", Tab "\t", Space " ", Umlaut "ü", Cut "%", Cut2 "%2", High "%ff",
    SlashInternal "/internal", Host "other.example",
);
words!(Cost: One "1", Fine "0.001", Zero "0", Minus "-1", ByGet r#"{"GET":1}"#, ByPost r#"{"POST":2.5}"#, Text "\"1\"");

impl Made {
    /// As an operator would have written it.
    pub fn policy(&self) -> Value {
        let limits = self.limits.iter().enumerate();
        let limits =
            limits.filter_map(|(at, limit)| Some((format!("l{at}"), limit.as_ref()?.json())));
        let upstreams = self.upstreams.iter().enumerate();
        let upstreams = upstreams
            .filter_map(|(at, upstream)| Some((format!("u{at}"), upstream.as_ref()?.json())));
        let routes = self.routes.iter().take(8);
        let mut policy = json!({
            "limits": Value::Object(limits.collect()),
            "upstreams": Value::Object(upstreams.collect()),
            "routes": routes.map(|route| route.json(self)).collect::<Vec<_>>(),
        });
        if let Some((quota, period)) = self.shield {
            policy["shield"] = json!({"quota": quota, "period": period});
        }
        if let Some(origin) = self.origins {
            policy["origins"] = json!([origin.word()]);
        }
        policy
    }

    /// Methods and paths.
    pub fn requests(&self) -> Vec<(&'static str, String)> {
        let requests = self.requests.iter().take(8);
        requests
            .map(|request| {
                let path = joined(&request.path);
                let known = request
                    .route
                    .and_then(|at| self.routes.get(usize::from(at) % 8));
                let path = known
                    .map(|known| fill(&self.path_of(known), &path))
                    .unwrap_or(path);
                (request.method.word(), path)
            })
            .collect()
    }

    /// The path of a route: it begins with what its upstream strips.
    fn path_of(&self, route: &Route) -> String {
        let upstream = match route.to {
            To::First => self.upstreams[0].as_ref(),
            To::Second => self.upstreams[1].as_ref(),
            _ => None,
        };
        let strip = upstream.map(|upstream| prefix(&upstream.strip));
        format!("{}/{}", strip.unwrap_or_default(), joined(&route.path))
    }
}

impl Limit {
    fn json(&self) -> Value {
        let mut limit = json!({"by": self.by.word(), "quota": self.quota, "exact": self.is_exact});
        if let Some(period) = self.period {
            limit["period"] = json!(period % 90_000);
        }
        limit
    }
}

impl Upstream {
    fn json(&self) -> Value {
        json!({
            "url": format!("{}{}", self.host.word(), prefix(&self.base)),
            "strip": prefix(&self.strip),
            "keep_authorization": self.keeps_authorization,
        })
    }
}

impl Route {
    fn json(&self, made: &Made) -> Value {
        let methods = self.methods.iter().take(4).map(|method| method.word());
        let mut route = json!({"path": made.path_of(self), "methods": methods.collect::<Vec<_>>()});
        let (field, to) = match self.to {
            To::Origin => ("upstream", "origin"),
            To::First => ("upstream", "u0"),
            To::Second => ("upstream", "u1"),
            To::Jwks => ("serve", "jwks"),
            To::Validate => ("serve", "validate"),
            To::Health => ("serve", "health"),
        };
        route[field] = json!(to);
        let is_app = matches!(self.to, To::First | To::Second);
        if let Some(auth) = self.auth {
            route["auth"] = json!(auth.word());
            let needs = matches!(auth, Auth::Required);
            if needs && self.is_admin {
                route["role"] = json!("admin");
            }
            if let Some(cost) = self.cost.filter(|_| needs && is_app) {
                route["cost"] = serde_json::from_str(cost.word()).expect("a price in JSON");
                route["app"] = json!("notes");
            }
            route["strict"] = json!(self.is_strict);
        }
        if let Some(timeout) = self.timeout {
            route["timeout"] = json!(timeout);
        }
        if let Some(max_body) = self.max_body.filter(|_| is_app) {
            route["max_body"] = json!(max_body);
        }
        if let Some(origin) = self.origins {
            route["origins"] = json!([origin.word()]);
        }
        let limits = ["l0", "l1"].into_iter().zip(self.limits);
        let limits = limits.filter_map(|(name, is_named)| is_named.then_some(name));
        route["limits"] = json!(limits.collect::<Vec<_>>());
        route
    }
}

fn joined(pieces: &[Piece]) -> String {
    pieces.iter().take(8).map(|piece| piece.word()).collect()
}

/// What a path may begin with: nothing, or a slash and pieces.
fn prefix(pieces: &[Piece]) -> String {
    let prefix = joined(pieces);
    if prefix.is_empty() || prefix.starts_with('/') {
        prefix
    } else {
        format!("/{prefix}")
    }
}

/// A route's path with `text` in place of each of its parameters.
fn fill(path: &str, text: &str) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((_, after)) = after.split_once('}') else {
            break;
        };
        filled.push_str(before);
        filled.push_str(text);
        rest = after;
    }
    filled + rest
}
