//! Which requests pass, to whom, and how often: data that an operator writes, in `policy.toml` and,
//! for what is behind the edge, as JSON in the variable `POLICY`.
//!
//! A policy is parsed once, when an isolate starts. Unknown fields and impossible values are
//! refused with the path of the mistake, so that a typing error is never an open door.

use std::{borrow::Cow, fmt, net::IpAddr};

use serde::Deserialize;
use shared::{api::AppId, claims::Role, credits::Credits, gcra::Quota, tokens::Verified};

mod parse;
mod quotas;
mod upstream;

use crate::limits::Key;
pub use parse::MAX_PRICED_SECS;
pub use upstream::Upstream;

/// A policy that holds together.
#[derive(Debug)]
pub struct Policy {
    router: matchit::Router<Vec<usize>>,
    routes: Vec<Route>,
    limits: Vec<Limit>,
    upstreams: Vec<Upstream>,
    shield: Quota,
}

/// One route: what may be asked, by whom, and who answers.
#[derive(Debug)]
pub struct Route {
    methods: Vec<String>,
    /// Who answers.
    pub to: Destination,
    /// Whether a token is wanted.
    pub auth: Auth,
    /// The role that the token must have.
    pub role: Option<Role>,
    /// Whether it would rather refuse than believe a token without knowing that its session lives.
    pub strict: bool,
    /// How long whoever answers may take until the answer begins, in seconds.
    pub timeout_secs: u32,
    /// The largest body, in bytes.
    pub max_body: u64,
    /// Whether a request must say how long its body is.
    pub needs_length: bool,
    /// Who charges, and for what: this and the path as it is written in the policy.
    app: Option<AppId>,
    path: String,
    /// Whether pages of registered apps may ask.
    pub is_for_apps: bool,
    /// The other origins whose pages may ask; `*` for all.
    origins: Vec<String>,
    /// What a call costs, by its method.
    costs: Vec<(String, Credits)>,
    limits: Vec<usize>,
}

/// What a call costs.
#[derive(Clone, Copy, Debug)]
pub struct Price<'a> {
    /// How much at the most.
    pub amount: Credits,
    /// Which app charges it.
    pub app: &'a AppId,
    /// The path, as it is written in the policy.
    pub path: &'a str,
}

impl Route {
    /// Whose pages may read its answers, as a page of this origin is told; nothing, where it may not. Fetch
    /// Standard §3.3. No cookie is meant: who asks from elsewhere shows a token.
    #[must_use]
    pub fn readable_by<'a>(&'a self, origin: &'a str) -> Option<&'a str> {
        let mut known = self.origins.iter().map(String::as_str);
        known.find(|known| *known == "*" || *known == origin)
    }

    /// What a call by this method costs. `HEAD` costs what `GET` costs.
    #[must_use]
    pub fn price(&self, method: &str) -> Option<Price<'_>> {
        let method = if method == "HEAD" { "GET" } else { method };
        let (_, amount) = self.costs.iter().find(|(priced, _)| priced == method)?;
        Some(Price {
            amount: *amount,
            app: self.app.as_ref()?,
            path: &self.path,
        })
    }
}

/// Who answers a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Destination {
    /// The edge itself.
    Edge(Serve),
    /// The origin, under the edge's proof.
    Origin,
    /// An app: the policy's upstream of this index, under that one's proof.
    App(usize),
}

/// What the edge answers itself.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Serve {
    /// The key set, from memory.
    Jwks,
    /// Whether a token is good: one in the body of a POST, or the bearer's own.
    Validate,
    /// That the edge is up, and how old its copies are.
    Health,
}

/// Whether a route wants a token.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// None is looked at.
    #[default]
    None,
    /// One that is sent must be good.
    Optional,
    /// There must be a good one.
    Required,
}

/// A named quota.
#[derive(Debug)]
pub struct Limit {
    /// Its place among the policy's limits.
    pub index: usize,
    /// Its name, as `RateLimit-Policy` tells it.
    pub name: String,
    /// What is counted apart.
    pub by: By,
    /// How many, how often.
    pub quota: Quota,
    /// Whether it is counted exactly, in one place for all isolates.
    pub exact: bool,
}

/// What a quota counts apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum By {
    /// The client's address; IPv6 by /64.
    Address,
    /// The value of a request's header of this name, in lower case; who sends none is counted by address.
    Header(String),
    /// The token's `sub`.
    User,
    /// The token's `sid`.
    Session,
    /// The token's `client_id`: all users of an app together.
    App,
}

impl By {
    /// Whether it counts who signed in, and not whoever asks.
    const fn needs_caller(&self) -> bool {
        matches!(self, Self::User | Self::Session | Self::App)
    }
}

/// What a path and a method lead to.
#[derive(Debug)]
pub enum Found<'a> {
    /// A route.
    Route(&'a Route),
    /// The path is known, for these methods only.
    OtherMethods(String),
    /// Nothing.
    Nothing,
}

/// Everything that is wrong with a policy.
#[derive(Debug, thiserror::Error)]
pub struct Mistakes(Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "POLICY: {}", self.0.join("; POLICY: "))
    }
}

impl Policy {
    /// The route for a request. `HEAD` goes where `GET` goes. RFC 9110 §9.3.2.
    #[must_use]
    pub fn find(&self, method: &str, path: &str) -> Found<'_> {
        if is_internal(path) || !is_plain(path) {
            return Found::Nothing;
        }
        let Ok(matched) = self.router.at(path) else {
            return Found::Nothing;
        };
        let wanted = if method == "HEAD" { "GET" } else { method };
        let routes = || matched.value.iter().map(|&index| &self.routes[index]);
        match routes().find(|route| route.methods.iter().any(|allowed| allowed == wanted)) {
            Some(route) => Found::Route(route),
            None => Found::OtherMethods(
                routes()
                    .flat_map(|route| &route.methods)
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
        }
    }

    /// An app behind the edge.
    #[must_use]
    pub fn upstream(&self, index: usize) -> &Upstream {
        &self.upstreams[index]
    }

    /// All apps behind the edge.
    #[must_use]
    pub fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// The coarse shield that stands before everything.
    #[must_use]
    pub const fn shield(&self) -> Quota {
        self.shield
    }

    /// The limits of a route that count before anybody is known, and what they count of a request from
    /// this address with these headers.
    pub fn limits_by_request<'a>(
        &'a self,
        route: &Route,
        address: IpAddr,
        header: impl Fn(&str) -> Option<String>,
    ) -> impl Iterator<Item = (&'a Limit, Key)> {
        self.limits(route).filter_map(move |limit| match &limit.by {
            By::Address => Some((limit, Key::address(address))),
            By::Header(name) => {
                let value = header(name).map(|value| Key::header(&value));
                Some((limit, value.unwrap_or_else(|| Key::address(address))))
            }
            By::User | By::Session | By::App => None,
        })
    }

    /// The limits of a route that count the caller, and what they count.
    pub fn limits_by_caller<'a>(
        &'a self,
        route: &Route,
        caller: Option<&Verified>,
    ) -> impl Iterator<Item = (&'a Limit, Key)> {
        let claims = caller.map(|caller| &caller.claims);
        self.limits(route).filter_map(move |limit| match limit.by {
            By::Address | By::Header(_) => None,
            By::User => claims.map(|claims| (limit, Key::user(claims.sub))),
            By::Session => claims.map(|claims| (limit, Key::session(claims.sid))),
            By::App => claims.map(|claims| (limit, Key::app(&claims.client_id))),
        })
    }

    fn limits<'a>(&'a self, route: &Route) -> impl Iterator<Item = &'a Limit> {
        route.limits.iter().map(|&index| &self.limits[index])
    }
}

/// Whether everybody behind the edge reads a path as we match it. What some would change before they look
/// (an empty segment, `..` in any disguise, an encoded letter, a backslash) leads nowhere here, or a call
/// could be had by another route than its own. RFC 3986 §5.2.4, §6.2.2.
fn is_plain(path: &str) -> bool {
    let segments = path.strip_prefix('/').unwrap_or(path);
    let has_empty = segments.contains("//") || segments.starts_with('/');
    !has_empty
        && !path
            .bytes()
            .any(|byte| matches!(byte, b'\\' | b'#' | b' ') || byte.is_ascii_control())
        && escapes_only_what_must_be(path)
        && !parts(&separated(path)).any(|part| part == "." || part == "..")
}

/// Whether each `%` begins the two digits of a byte that a path cannot have as it is.
fn escapes_only_what_must_be(path: &str) -> bool {
    let mut parts = path.split('%');
    parts.next();
    parts.all(|part| {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // RFC 3986 §2.3.
        byte.is_some_and(|byte| {
            byte != 0 && !byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte)
        })
    })
}

/// Whether a path is for the edge's own calls alone (`shared::proof::is_internal`), to anybody behind it.
fn is_internal(path: &str) -> bool {
    parts(&separated(path)).find(|part| !part.is_empty()) == Some("internal")
}

/// A path as who decodes it first finds its separators. Encoded dots and letters are none that must be.
fn separated(path: &str) -> Cow<'_, str> {
    const ENCODED: [(&str, &str); 6] = [
        ("%2f", "/"),
        ("%2F", "/"),
        ("%5c", "/"),
        ("%5C", "/"),
        ("%3b", ";"),
        ("%3B", ";"),
    ];
    if !path.contains('%') {
        return path.into();
    }
    let replace = |path: String, (encoded, plain): (&str, &str)| path.replace(encoded, plain);
    ENCODED.into_iter().fold(path.to_owned(), replace).into()
}

/// The segments of a path, to who takes what is behind a semicolon for a parameter.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    let segments = path.split('/');
    segments.map(|segment| segment.split(';').next().unwrap_or_default())
}

#[cfg(test)]
mod tests;
