//! How a policy is read, and everything that may be wrong with it.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::{api::AppId, claims::Role, credits::Credits};

use super::{
    Auth, Destination, Limit, Mistakes, Policy, Route, Serve, Upstream, is_internal,
    quotas::{RawLimit, RawShield},
    upstream::RawUpstream,
};

/// `policy.toml`, as JSON.
const SHIPPED: &str = include_str!(concat!(env!("OUT_DIR"), "/policy.json"));
/// A body that goes on to the origin is no larger than this.
const MAX_ORIGIN_BODY: u64 = 64 * 1_024;
/// A body that goes on to an app is no larger, unless its route says otherwise.
const MAX_APP_BODY: u64 = 100 * 1_024 * 1_024;
/// How long whoever answers may take, unless the route says otherwise.
const TIMEOUT_SECS: u32 = 30;
/// How long an answer that costs may take: Workers let what was begun go on for 30 s without a client, and
/// some of it is for settling. A slower one could be had for nothing by going away.
pub const MAX_PRICED_SECS: u32 = 20;

/// Among origins: those of registered apps. For an app's own routes they are meant only where its route says
/// so, since what they read there is another app's.
const APPS: &str = "apps";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    shield: Option<RawShield>,
    #[serde(default)]
    limits: BTreeMap<String, RawLimit>,
    #[serde(default)]
    upstreams: BTreeMap<String, RawUpstream>,
    /// Of routes that name none.
    #[serde(default)]
    origins: Vec<String>,
    routes: Vec<RawRoute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    path: String,
    methods: Vec<String>,
    serve: Option<Serve>,
    upstream: Option<String>,
    app: Option<String>,
    #[serde(default)]
    auth: Auth,
    role: Option<Role>,
    cost: Option<Box<RawValue>>,
    #[serde(default)]
    strict: bool,
    timeout: Option<u32>,
    max_body: Option<u64>,
    origins: Option<Vec<String>>,
    #[serde(default)]
    limits: Vec<String>,
}

/// Where a part of a policy is, and what is wrong with it. Few policies have a mistake, and every isolate
/// that starts compiles what it runs: what says so is out of the way.
pub(super) struct Part<'a> {
    pub(super) at: &'a str,
    pub(super) mistakes: &'a mut Vec<String>,
}

impl Part<'_> {
    #[cold]
    #[inline(never)]
    pub(super) fn wrong(&mut self, field: &str, why: fmt::Arguments<'_>) {
        let Self { at, mistakes } = self;
        mistakes.push(if at.is_empty() {
            format!("{field}: {why}")
        } else {
            format!("{at}.{field}: {why}")
        });
    }
}

impl Policy {
    /// `policy.toml`, and what an operator adds to it, in JSON. `scale` multiplies every quota, for tests
    /// and benches.
    pub fn shipped(added: Option<&str>, scale: u32) -> Result<Self, Mistakes> {
        let shipped = read(SHIPPED)?;
        let policy = match added {
            Some(added) => read(added)?.over(shipped),
            None => shipped,
        };
        policy.build(scale)
    }

    /// A policy by itself.
    #[cfg(test)]
    pub(crate) fn parse(json: &str, scale: u32) -> Result<Self, Mistakes> {
        read(json)?.build(scale)
    }
}

fn read(json: &str) -> Result<RawPolicy, Mistakes> {
    // An isolate that starts compiles what it runs: to keep track of paths is twice the code, and most
    // policies have no mistake to name by one.
    if let Ok(policy) = serde_json::from_str(json) {
        return Ok(policy);
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json))
        .map_err(|why| Mistakes(vec![format!("{}: {}", why.path(), why.inner())]))
}

impl RawPolicy {
    /// This and what is below it: what is said here of a name, or of a path and a method, counts. Its
    /// routes come first, so that mistakes are named by their places in it.
    fn over(mut self, mut below: Self) -> Self {
        below.limits.extend(self.limits);
        below.upstreams.extend(self.upstreams);
        for route in &mut below.routes {
            route.methods.retain(|method| {
                let mut ours = self.routes.iter().filter(|ours| ours.path == route.path);
                !ours.any(|ours| ours.methods.contains(method))
            });
        }
        below.routes.retain(|route| !route.methods.is_empty());
        self.routes.extend(below.routes);
        self.origins.extend(below.origins);
        Self {
            shield: self.shield.or(below.shield),
            limits: below.limits,
            upstreams: below.upstreams,
            origins: self.origins,
            routes: self.routes,
        }
    }

    fn build(self, scale: u32) -> Result<Policy, Mistakes> {
        let mut mistakes = Vec::new();
        let shield = self.shield.unwrap_or_default();
        let shield = shield.parse(scale, &mut mistakes);
        let limits = self.limits.into_iter().enumerate();
        let limits: Vec<Limit> = limits
            .map(|(index, (name, limit))| limit.parse(index, name, scale, &mut mistakes))
            .collect();
        let upstreams = self.upstreams.into_iter();
        let upstreams: Vec<Upstream> = upstreams
            .map(|(name, upstream)| upstream.parse(name, &mut mistakes))
            .collect();
        are_origins(
            &self.origins,
            &mut Part {
                at: "",
                mistakes: &mut mistakes,
            },
        );
        let mut paths: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut routes: Vec<Route> = Vec::new();
        for (index, raw) in self.routes.into_iter().enumerate() {
            let at = format!("routes[{index}]");
            let route = raw.parse(&at, &limits, &upstreams, &self.origins, &mut mistakes);
            let siblings = paths.entry(route.path.clone()).or_default();
            for (&other, method) in siblings
                .iter()
                .flat_map(|other| route.methods.iter().map(move |m| (other, m)))
            {
                if routes[other].methods.contains(method) {
                    let path = &route.path;
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
            Ok(Policy {
                router: by_path,
                routes,
                limits,
                upstreams,
                shield,
            })
        } else {
            Err(Mistakes(mistakes))
        }
    }
}

/// RFC 6454 §6.2, as browsers send it.
fn are_origins(origins: &[String], part: &mut Part<'_>) {
    for origin in origins {
        let host = origin
            .strip_prefix("https://")
            .or(origin.strip_prefix("http://"));
        let plain = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte)
        };
        if origin != "*"
            && origin != APPS
            && !host.is_some_and(|host| !host.is_empty() && host.bytes().all(plain))
        {
            part.wrong(
                "origins",
                format_args!(
                    "`{origin}` is neither `*`, `apps`, nor scheme and host in small letters"
                ),
            );
        }
    }
}

impl RawRoute {
    /// The route, with what is wrong with it added to `mistakes`.
    fn parse(
        self,
        at: &str,
        limits: &[Limit],
        upstreams: &[Upstream],
        origins: &[String],
        mistakes: &mut Vec<String>,
    ) -> Route {
        let part = &mut Part { at, mistakes };
        if !self.path.starts_with('/') {
            part.wrong("path", format_args!("must begin with a slash"));
        }
        if is_internal(&self.path) {
            part.wrong(
                "path",
                format_args!("`/internal` is never forwarded, nor served"),
            );
        }
        if self.methods.is_empty() {
            part.wrong("methods", format_args!("must name at least one"));
        }
        for method in &self.methods {
            if !["DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"].contains(&method.as_str()) {
                part.wrong(
                    "methods",
                    format_args!("`{method}` is none of DELETE, GET, OPTIONS, PATCH, POST, PUT"),
                );
            }
        }
        let to = self.leads_to(upstreams, part);
        if self.strict && self.auth == Auth::None && to != Destination::Edge(Serve::Validate) {
            part.wrong(
                "strict",
                format_args!("needs `auth` or `serve = \"validate\"`: no token is looked at here"),
            );
        }
        if self.role.is_some() && self.auth != Auth::Required {
            part.wrong("role", format_args!("needs `auth = \"required\"`"));
        }
        let timeout_secs = self.timeout(part);
        let is_app = matches!(to, Destination::App(_));
        if self.max_body.is_some() && !is_app {
            part.wrong("max_body", format_args!("is for apps alone"));
        }
        let max_body = if is_app {
            MAX_APP_BODY
        } else {
            MAX_ORIGIN_BODY
        };
        let app = self.app.clone().and_then(AppId::parse);
        if self.app.is_some() && app.is_none() {
            part.wrong(
                "app",
                format_args!("must be the id of an app: small letters, digits and hyphens"),
            );
        }
        let costs = self.costs(is_app, part);
        let limits = self.counted_by(limits, part);
        let is_said = self.origins.is_some();
        let mut origins = self.origins.unwrap_or_else(|| origins.to_vec());
        are_origins(&origins, part);
        let is_for_apps = origins.iter().any(|origin| origin == APPS) && (is_said || !is_app);
        origins.retain(|origin| origin != APPS);
        Route {
            max_body: self.max_body.unwrap_or(max_body),
            needs_length: self.max_body.is_some(),
            methods: self.methods,
            to,
            auth: self.auth,
            role: self.role,
            strict: self.strict,
            timeout_secs,
            app,
            path: self.path,
            is_for_apps,
            origins,
            costs,
            limits,
        }
    }

    fn leads_to(&self, upstreams: &[Upstream], part: &mut Part<'_>) -> Destination {
        match (self.serve, self.upstream.as_deref()) {
            (Some(serve), None) => Destination::Edge(serve),
            (None, Some("origin")) => Destination::Origin,
            (None, Some(name)) => {
                let Some(index) = upstreams.iter().position(|known| known.name == name) else {
                    part.wrong(
                        "upstream",
                        format_args!("`{name}` is neither `origin` nor defined under `upstreams`"),
                    );
                    return Destination::Origin;
                };
                if !upstreams[index].takes(&self.path) {
                    part.wrong(
                        "path",
                        format_args!("does not begin with what `{name}` strips"),
                    );
                }
                Destination::App(index)
            }
            _ => {
                part.wrong(
                    "upstream",
                    format_args!("there must be either `serve` or `upstream`"),
                );
                Destination::Origin
            }
        }
    }

    fn timeout(&self, part: &mut Part<'_>) -> u32 {
        let most = if self.cost.is_some() {
            MAX_PRICED_SECS
        } else {
            300
        };
        let secs = self.timeout.unwrap_or(TIMEOUT_SECS.min(most));
        if !(1..=most).contains(&secs) {
            part.wrong("timeout", format_args!("must be 1 to {most} seconds here"));
        }
        secs
    }

    /// What each method costs: all the same, or those that are named.
    fn costs(&self, is_app: bool, part: &mut Part<'_>) -> Vec<(String, Credits)> {
        let Some(cost) = &self.cost else {
            return Vec::new();
        };
        if !is_app {
            part.wrong("cost", format_args!("is for apps alone"));
        }
        if self.auth != Auth::Required {
            part.wrong(
                "cost",
                format_args!("needs `auth = \"required\"`: somebody must pay"),
            );
        }
        if self.app.is_none() {
            part.wrong("cost", format_args!("needs `app`: somebody must charge"));
        }
        let costs: Result<Vec<(String, Credits)>, String> = if cost.get().starts_with('{') {
            let by_method: Result<BTreeMap<String, Credits>, _> = serde_json::from_str(cost.get());
            by_method
                .map(|costs| costs.into_iter().collect())
                .map_err(|why| why.to_string())
        } else {
            let each = |amount: Credits| self.methods.iter().map(|m| (m.clone(), amount)).collect();
            cost.get().parse().map(each).map_err(|why| format!("{why}"))
        };
        let costs = costs.unwrap_or_else(|why: String| {
            part.wrong("cost", format_args!("{why}"));
            Vec::new()
        });
        for (method, amount) in &costs {
            if !self.methods.contains(method) {
                part.wrong(
                    "cost",
                    format_args!("`{method}` is none of the route's methods"),
                );
            }
            if *amount == Credits::ZERO {
                part.wrong(
                    "cost",
                    format_args!("must be more than 0; what is free has none"),
                );
            }
        }
        costs
    }

    /// The limits that it names.
    fn counted_by(&self, limits: &[Limit], part: &mut Part<'_>) -> Vec<usize> {
        let mut named = Vec::new();
        for name in &self.limits {
            let Some(limit) = limits.iter().find(|limit| limit.name == *name) else {
                part.wrong(
                    "limits",
                    format_args!("`{name}` is not defined under `limits`"),
                );
                continue;
            };
            if limit.by.needs_caller() && self.auth == Auth::None {
                part.wrong(
                    "limits",
                    format_args!(
                        "`{name}` counts by who signed in, and nobody does where `auth` is none"
                    ),
                );
            }
            named.push(limit.index);
        }
        named
    }
}
