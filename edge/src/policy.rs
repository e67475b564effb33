//! Which requests pass, to whom, and how often: data that an operator writes, in `policy.toml` or
//! as JSON in the variable `POLICY`.
//!
//! A policy is parsed once, when an isolate starts. Unknown fields and impossible values are
//! refused with the path of the mistake, so that a typing error is never an open door.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use shared::{claims::Role, gcra::Quota, proof::is_internal, tokens::Verified};

use crate::limits::Key;

/// A policy that holds together.
#[derive(Debug)]
pub struct Policy {
    router: matchit::Router<Vec<usize>>,
    routes: Vec<Route>,
    limits: Vec<Limit>,
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
    limits: Vec<usize>,
}

/// Who answers a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Destination {
    /// The edge itself.
    Edge(Serve),
    /// The origin, under the edge's proof.
    Origin,
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
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The client's address; IPv6 by /64.
    Address,
    /// The token's `sub`.
    User,
    /// The token's `sid`.
    Session,
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
    /// Parses a policy from its JSON. `scale` multiplies every quota, for tests and benches.
    pub fn parse(json: &str, scale: u32) -> Result<Self, Mistakes> {
        let raw: RawPolicy =
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json))
                .map_err(|why| Mistakes(vec![format!("{}: {}", why.path(), why.inner())]))?;
        let mut mistakes = Vec::new();
        let shield =
            quota(raw.shield.quota, raw.shield.period, "shield", &mut mistakes).scaled(scale);
        let limits: Vec<Limit> = raw
            .limits
            .into_iter()
            .enumerate()
            .map(|(index, (name, limit))| Limit {
                index,
                quota: quota(
                    limit.quota,
                    limit.period,
                    &format!("limits.{name}"),
                    &mut mistakes,
                )
                .scaled(scale),
                by: limit.by,
                exact: limit.exact,
                name,
            })
            .collect();
        let mut paths: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut routes: Vec<Route> = Vec::new();
        for (index, raw) in raw.routes.into_iter().enumerate() {
            let at = format!("routes[{index}]");
            if !raw.path.starts_with('/') {
                mistakes.push(format!("{at}.path: must begin with a slash"));
            }
            let path = raw.path.clone();
            let route = raw.parse(&at, &limits, &mut mistakes);
            let siblings = paths.entry(path.clone()).or_default();
            for (&other, method) in siblings
                .iter()
                .flat_map(|other| route.methods.iter().map(move |m| (other, m)))
            {
                if routes[other].methods.contains(method) {
                    mistakes.push(format!(
                        "{at}.methods: {method} {path} is routes[{other}] already"
                    ));
                }
            }
            siblings.push(index);
            routes.push(route);
        }
        let mut by_path = matchit::Router::new();
        for (path, indices) in paths {
            let first = indices[0];
            if let Err(why) = by_path.insert(path, indices) {
                mistakes.push(format!("routes[{first}].path: {why}"));
            }
        }
        if mistakes.is_empty() {
            Ok(Self {
                router: by_path,
                routes,
                limits,
                shield,
            })
        } else {
            Err(Mistakes(mistakes))
        }
    }

    /// The route for a request. `HEAD` goes where `GET` goes. RFC 9110 §9.3.2.
    #[must_use]
    pub fn find(&self, method: &str, path: &str) -> Found<'_> {
        if is_internal(path) || path.split('/').any(is_dots) {
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

    /// The coarse shield that stands before everything.
    #[must_use]
    pub const fn shield(&self) -> Quota {
        self.shield
    }

    /// The limits of a route that count before anybody is known.
    pub fn limits_by_address(&self, route: &Route) -> impl Iterator<Item = &Limit> {
        self.limits(route).filter(|limit| limit.by == By::Address)
    }

    /// The limits of a route that count the caller, and what they count.
    pub fn limits_by_caller<'a>(
        &'a self,
        route: &Route,
        caller: Option<&Verified>,
    ) -> impl Iterator<Item = (&'a Limit, Key)> {
        let claims = caller.map(|caller| &caller.claims);
        self.limits(route).filter_map(move |limit| match limit.by {
            By::Address => None,
            By::User => claims.map(|claims| (limit, Key::user(claims.sub))),
            By::Session => claims.map(|claims| (limit, Key::session(claims.sid))),
        })
    }

    fn limits<'a>(&'a self, route: &Route) -> impl Iterator<Item = &'a Limit> {
        route.limits.iter().map(|&index| &self.limits[index])
    }
}

/// Whether a segment is `.` or `..`, however it is written: what is behind the edge may read the
/// path as another one than we match. RFC 3986 §5.2.4, §6.2.2.2.
fn is_dots(segment: &str) -> bool {
    let (mut rest, mut dots) = (segment, 0);
    while let Some(dot) = [".", "%2e", "%2E"]
        .iter()
        .find(|dot| rest.starts_with(**dot))
    {
        rest = &rest[dot.len()..];
        dots += 1;
    }
    rest.is_empty() && (dots == 1 || dots == 2)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    #[serde(default)]
    shield: RawShield,
    #[serde(default)]
    limits: BTreeMap<String, RawLimit>,
    routes: Vec<RawRoute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawShield {
    quota: u32,
    period: u32,
}

impl Default for RawShield {
    fn default() -> Self {
        Self {
            quota: 3_000,
            period: a_minute(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimit {
    by: By,
    quota: u32,
    #[serde(default = "a_minute")]
    period: u32,
    #[serde(default)]
    exact: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    path: String,
    methods: Vec<String>,
    serve: Option<Serve>,
    upstream: Option<String>,
    #[serde(default)]
    auth: Auth,
    role: Option<Role>,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    limits: Vec<String>,
}

const fn a_minute() -> u32 {
    60
}

fn quota(limit: u32, period_secs: u32, at: &str, mistakes: &mut Vec<String>) -> Quota {
    if limit == 0 {
        mistakes.push(format!("{at}.quota: must be at least 1"));
    }
    if !(1..=86_400).contains(&period_secs) {
        mistakes.push(format!("{at}.period: must be 1 to 86400 seconds"));
    }
    Quota { limit, period_secs }
}

impl RawRoute {
    /// The route, with what is wrong with it added to `mistakes`.
    fn parse(self, at: &str, limits: &[Limit], mistakes: &mut Vec<String>) -> Route {
        let mut wrong = |field: &str, why: &str| mistakes.push(format!("{at}.{field}: {why}"));
        if self.methods.is_empty() {
            wrong("methods", "must name at least one");
        }
        for method in &self.methods {
            if !["DELETE", "GET", "PATCH", "POST", "PUT"].contains(&method.as_str()) {
                wrong(
                    "methods",
                    &format!("`{method}` is none of DELETE, GET, PATCH, POST, PUT"),
                );
            }
        }
        let to = match (self.serve, self.upstream.as_deref()) {
            (Some(serve), None) => Destination::Edge(serve),
            (None, Some("origin")) => Destination::Origin,
            (None, Some(other)) => {
                wrong(
                    "upstream",
                    &format!("`{other}` is unknown; there is `origin`"),
                );
                Destination::Origin
            }
            _ => {
                wrong("upstream", "there must be either `serve` or `upstream`");
                Destination::Origin
            }
        };
        if is_internal(&self.path) {
            wrong("path", "`/internal` is never forwarded, nor served");
        }
        if self.strict && self.auth == Auth::None && to != Destination::Edge(Serve::Validate) {
            wrong(
                "strict",
                "needs `auth` or `serve = \"validate\"`: no token is looked at here",
            );
        }
        if self.role.is_some() && self.auth != Auth::Required {
            wrong("role", "needs `auth = \"required\"`");
        }
        let mut named = Vec::new();
        for name in &self.limits {
            match limits.iter().position(|limit| limit.name == *name) {
                None => wrong("limits", &format!("`{name}` is not defined under `limits`")),
                Some(index) if limits[index].by != By::Address && self.auth == Auth::None => {
                    wrong(
                        "limits",
                        &format!(
                            "`{name}` counts by who signed in, and nobody does where `auth` is none"
                        ),
                    );
                    named.push(index);
                }
                Some(index) => named.push(index),
            }
        }
        Route {
            methods: self.methods,
            to,
            auth: self.auth,
            role: self.role,
            strict: self.strict,
            limits: named,
        }
    }
}

#[cfg(test)]
mod tests;
