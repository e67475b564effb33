//! What the edge is told when an isolate starts: a handful of variables, and perhaps what an
//! operator adds to the policy that it has compiled in.
//!
//! A missing or bad value names itself; the edge then answers every request with a problem and
//! says in its log what to mend.

use base64ct::{Base64, Encoding};
use chrono::TimeDelta;
use shared::{jwt::Expect, proof::ProofKey};
use zeroize::Zeroizing;

use crate::{
    authority::is_plain,
    policy::{Mistakes, Policy},
    revocations::Ages,
};

/// The longest that a copy of the revocations may be let grow old, in seconds.
const OLDEST_SECS: i64 = 300;

/// Everything that the edge must know.
pub struct Config {
    /// Issuer and audience of the tokens that it believes.
    pub expect: Expect,
    /// Where the origin is, without a trailing slash.
    pub origin: String,
    /// The key of the proof towards the origin.
    pub proof_key: ProofKey,
    /// Those towards the apps, in the order of the policy's upstreams.
    pub upstream_keys: Vec<ProofKey>,
    /// How old the copy of the revocations may be.
    pub ages: Ages,
    /// Who may ask what.
    pub policy: Policy,
}

/// Why the edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// A variable is not set.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A variable has an impossible value.
    #[error("{0} {1}")]
    Bad(&'static str, &'static str),
    /// An app of the policy cannot be reached as it is set up.
    #[error("POLICY: upstreams.{0} {1}")]
    Upstream(String, &'static str),
    /// The policy does not hold together.
    #[error(transparent)]
    Policy(#[from] Mistakes),
}

impl Config {
    /// Reads the configuration; `var` gives a variable or a secret by its name.
    pub fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self, BadConfig> {
        let need = |name| {
            var(name)
                .filter(|value| !value.is_empty())
                .ok_or(BadConfig::Missing(name))
        };
        let issuer = url("PUBLIC_URL", need("PUBLIC_URL")?)?;
        let scale = match var("LIMIT_SCALE").as_deref() {
            None | Some("" | "1") => 1,
            Some(_) if !is_loopback(&issuer) => {
                return Err(BadConfig::Bad(
                    "LIMIT_SCALE",
                    "is for tests: PUBLIC_URL must then be on loopback",
                ));
            }
            Some(text) => text
                .parse()
                .map_err(|_| BadConfig::Bad("LIMIT_SCALE", "must be a whole number"))?,
        };
        let origin = url("ORIGIN_URL", need("ORIGIN_URL")?)?;
        let added = var("POLICY").filter(|json| !json.is_empty());
        let policy = Policy::shipped(added.as_deref(), scale)?;
        let edge_proof_key = need("EDGE_PROOF_KEY")?;
        let keys = var("UPSTREAM_PROOF_KEYS").unwrap_or_default();
        let mut taken = vec![edge_proof_key.trim()];
        let upstream_keys = policy.upstreams().iter();
        let upstream_keys = upstream_keys
            .map(|upstream| {
                let others = [authority(&issuer), authority(&origin)];
                if others.contains(&upstream.host()) {
                    return Err(BadConfig::Upstream(
                        upstream.name.clone(),
                        "is the edge itself, or the origin, which is `upstream = \"origin\"`",
                    ));
                }
                upstream_key(&keys, &upstream.name, &mut taken)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            upstream_keys,
            expect: Expect {
                issuer,
                audience: var("TOKEN_AUDIENCE").unwrap_or_else(|| "tollgate".to_owned()),
            },
            origin,
            proof_key: proof_key(&edge_proof_key)?,
            ages: Ages {
                refresh: secs("REVOCATIONS_REFRESH_SECS", 2, &var)?,
                limit: secs("REVOCATIONS_LIMIT_SECS", 5, &var)?,
            },
            policy,
        })
    }
}

impl Config {
    /// The origin as its `Host` header names it.
    #[must_use]
    pub fn origin_host(&self) -> &str {
        authority(&self.origin)
    }
}

fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    rest.split('/').next().unwrap_or_default()
}

/// The key of an app among `name:key, name:key`. Nobody else has it: an app could pass for the edge
/// towards whoever has the same.
fn upstream_key<'a>(
    keys: &'a str,
    name: &str,
    taken: &mut Vec<&'a str>,
) -> Result<ProofKey, BadConfig> {
    let mut pairs = keys
        .split(',')
        .filter_map(|pair| pair.trim().split_once(':'));
    let key = pairs.find_map(|(of, key)| (of == name).then_some(key));
    let key = key.unwrap_or_default().trim();
    if taken.contains(&key) {
        return Err(BadConfig::Upstream(
            name.to_owned(),
            "has the key of somebody else",
        ));
    }
    taken.push(key);
    proof_key(key).map_err(|_| {
        BadConfig::Upstream(
            name.to_owned(),
            "has no key: UPSTREAM_PROOF_KEYS must have `name:key`, 32 bytes in base64",
        )
    })
}

fn secs(
    name: &'static str,
    default: i64,
    var: impl Fn(&str) -> Option<String>,
) -> Result<TimeDelta, BadConfig> {
    let secs = match var(name).as_deref() {
        None | Some("") => Some(default),
        Some(text) => text.parse().ok(),
    };
    secs.filter(|secs| (1..=OLDEST_SECS).contains(secs))
        .map(TimeDelta::seconds)
        .ok_or(BadConfig::Bad(name, "must be 1 to 300 seconds"))
}

fn url(name: &'static str, text: String) -> Result<String, BadConfig> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let is_web = ["http", "https"].contains(&scheme);
    if is_web && is_plain(scheme, authority(&text)) && !rest.ends_with('/') {
        return Ok(text);
    }
    Err(BadConfig::Bad(
        name,
        "must be an http or https URL without a trailing slash, its host in small letters and without a \
         port that is the scheme's own",
    ))
}

fn is_loopback(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| {
        host.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}

fn proof_key(text: &str) -> Result<ProofKey, BadConfig> {
    let mut bytes = Zeroizing::new([0; 32]);
    match Base64::decode(text, bytes.as_mut()) {
        Ok(decoded) if decoded.len() == 32 => Ok(ProofKey::new(bytes)),
        _ => Err(BadConfig::Bad(
            "EDGE_PROOF_KEY",
            "must be 32 bytes in base64",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::policy::Found;

    fn read(changes: &[(&str, &str)]) -> Result<Config, String> {
        let good = [
            ("PUBLIC_URL", "https://gate.example"),
            ("ORIGIN_URL", "http://10.0.0.1:3001"),
            (
                "EDGE_PROOF_KEY",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            ),
            ("POLICY", r#"{"routes": []}"#),
        ];
        let var = |name: &str| {
            changes
                .iter()
                .chain(&good)
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Config::read(var).map_err(|why| why.to_string())
    }

    #[test]
    fn a_missing_or_bad_value_names_itself() {
        assert!(read(&[]).is_ok());
        for (name, value) in [
            ("PUBLIC_URL", ""),
            ("PUBLIC_URL", "gate.example"),
            ("ORIGIN_URL", "http://10.0.0.1:3001/"),
            ("ORIGIN_URL", "http://ORIGIN.internal:3001"),
            ("PUBLIC_URL", "https://gate.example:443"),
            ("EDGE_PROOF_KEY", "c2hvcnQ="),
            ("POLICY", "[]"),
            ("LIMIT_SCALE", "1000"),
            ("REVOCATIONS_REFRESH_SECS", "0"),
            ("REVOCATIONS_LIMIT_SECS", "301"),
            ("REVOCATIONS_LIMIT_SECS", "5s"),
        ] {
            let why = read(&[(name, value)]).err().expect(name);
            assert!(why.contains(name), "{why}");
        }
    }

    #[test]
    fn what_an_operator_adds_comes_before_the_policy_of_the_repository() {
        let method_of = |config: &Config, method: &str, path: &str| {
            format!("{:?}", config.policy.find(method, path))
        };
        let shipped = read(&[("POLICY", "")]).expect("policy.toml holds together");
        let login = "/api/v1/auth/login";
        assert!(method_of(&shipped, "POST", login).contains("Origin"));
        let added = r#"{
            "shield": {"quota": 7},
            "limits": {"login": {"by": "address", "quota": 1}},
            "upstreams": {"notes": {"url": "http://10.0.0.2"}},
            "routes": [
                {"path": "/api/v1/auth/profile", "methods": ["GET"], "serve": "health"},
                {"path": "/notes", "methods": ["GET"], "upstream": "notes"}
            ]
        }"#;
        let keys = "notes:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";
        let config = read(&[("POLICY", added), ("UPSTREAM_PROOF_KEYS", keys)]).expect("both");
        for (method, path, leads_to) in [
            ("POST", login, "Origin"),
            ("GET", "/api/v1/auth/profile", "Edge(Health)"),
            ("PATCH", "/api/v1/auth/profile", "Origin"),
            ("GET", "/notes", "App(0)"),
        ] {
            let found = method_of(&config, method, path);
            assert!(found.contains(leads_to), "{method} {path}: {found}");
        }
        assert_eq!(config.policy.shield().limit, 7);
        let Found::Route(login) = config.policy.find("POST", login) else {
            panic!("a route");
        };
        let anywhere = IpAddr::from([192, 0, 2, 1]);
        let limits = config.policy.limits_by_request(login, anywhere, |_| None);
        assert_eq!(
            limits
                .map(|(limit, _)| limit.quota.limit)
                .collect::<Vec<_>>(),
            [1]
        );
    }

    #[test]
    fn an_app_is_somebody_else_and_has_a_key() {
        let key = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=";
        let with = |url: &str, keys: &str| {
            let policy =
                format!(r#"{{"upstreams": {{"notes": {{"url": "{url}"}}}}, "routes": []}}"#);
            read(&[("POLICY", &policy), ("UPSTREAM_PROOF_KEYS", keys)]).map(drop)
        };
        let keys = format!("other:x, notes:{key}");
        assert_eq!(with("https://notes.example", &keys), Ok(()));
        for (url, keys, why) in [
            ("https://gate.example/x", keys.as_str(), "the edge itself"),
            ("http://10.0.0.1:3001", keys.as_str(), "the origin"),
            (
                "https://notes.example",
                "notes:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "somebody else",
            ),
            ("https://notes.example", "", "has no key"),
            ("https://notes.example", "notes:c2hvcnQ=", "has no key"),
            (
                "https://notes.example",
                &format!("note:{key}"),
                "has no key",
            ),
        ] {
            let refused = with(url, keys).expect_err(url);
            assert!(
                refused.contains("upstreams.notes") && refused.contains(why),
                "{refused}"
            );
        }
    }

    #[test]
    fn quotas_scale_on_loopback_alone() {
        assert!(
            read(&[
                ("LIMIT_SCALE", "1000"),
                ("PUBLIC_URL", "http://127.0.0.1:8787")
            ])
            .is_ok()
        );
        assert!(
            read(&[
                ("LIMIT_SCALE", "1000"),
                ("PUBLIC_URL", "http://127.0.0.1.gate.example")
            ])
            .is_err()
        );
    }
}
