//! What a provider publishes of itself: its metadata (OpenID Connect Discovery 1.0) and its keys. Both
//! are fetched when they are first needed and kept for a while; each request fetches for itself, so
//! that none waits for another one's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Url;
use serde::Deserialize;

use super::{
    Error,
    id_token::{self, Key, Rejected},
    wire::{Away, Wire},
};

/// How long a copy serves.
const FRESH: TimeDelta = TimeDelta::hours(1);
/// How long it serves while the provider does not answer.
const LONGEST: TimeDelta = TimeDelta::hours(24);
/// How often a key that is not there is looked for again. Failures count.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(30);

/// What is known of one provider.
pub struct Published {
    /// As configured, to the letter.
    pub issuer: String,
    copies: Mutex<Copies>,
}

#[derive(Default)]
struct Copies {
    metadata: Option<Kept<Metadata>>,
    keys: Option<Kept<Vec<Key>>>,
    looked_again_at: Option<DateTime<Utc>>,
}

struct Kept<T> {
    of: Arc<T>,
    made_at: DateTime<Utc>,
}

impl<T> Kept<T> {
    fn younger_than(copy: Option<&Self>, limit: TimeDelta, now: DateTime<Utc>) -> Option<Arc<T>> {
        let copy = copy.filter(|copy| now - copy.made_at < limit)?;
        Some(copy.of.clone())
    }
}

/// As much of a provider's metadata as we use.
#[derive(Deserialize)]
pub struct Metadata {
    issuer: String,
    pub authorization_endpoint: Url,
    pub token_endpoint: Url,
    jwks_uri: Url,
    pub userinfo_endpoint: Option<Url>,
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// RFC 9207 §3.
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

impl Published {
    pub fn new(issuer: String) -> Self {
        Self {
            issuer,
            copies: Mutex::default(),
        }
    }

    /// The provider's metadata.
    pub async fn metadata(&self, wire: &Wire, now: DateTime<Utc>) -> Result<Arc<Metadata>, Away> {
        let fresh = Kept::younger_than(self.copies().metadata.as_ref(), FRESH, now);
        if let Some(fresh) = fresh {
            return Ok(fresh);
        }
        match self.fetch_metadata(wire).await {
            Ok(metadata) => {
                let of = Arc::new(metadata);
                let copy = Kept {
                    of: of.clone(),
                    made_at: now,
                };
                self.copies().metadata = Some(copy);
                Ok(of)
            }
            Err(why) => {
                let old = Kept::younger_than(self.copies().metadata.as_ref(), LONGEST, now);
                old.ok_or(why)
            }
        }
    }

    async fn fetch_metadata(&self, wire: &Wire) -> Result<Metadata, Away> {
        let base = self.issuer.trim_end_matches('/');
        let url = Url::parse(&format!("{base}/.well-known/openid-configuration"))
            .map_err(|_| Away::Unreadable("issuer"))?;
        let metadata: Metadata = wire.get(&url, None, "metadata").await?;
        if metadata.issuer != self.issuer {
            return Err(Away::OtherIssuer);
        }
        let urls = [
            Some(&metadata.authorization_endpoint),
            Some(&metadata.token_endpoint),
            Some(&metadata.jwks_uri),
            metadata.userinfo_endpoint.as_ref(),
        ];
        if !urls
            .into_iter()
            .flatten()
            .all(|named| may_name(&url, named))
        {
            return Err(Away::Unreadable("metadata with https:// URLs"));
        }
        Ok(metadata)
    }

    /// The keys by which this token might be signed. When its key is not there, it is looked for
    /// again, but not often: strangers can make up names of keys.
    pub async fn keys_for(
        &self,
        wire: &Wire,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Arc<Vec<Key>>, Error> {
        let fresh = Kept::younger_than(self.copies().keys.as_ref(), FRESH, now);
        if let Some(keys) = fresh {
            match id_token::key(token, &keys) {
                Ok(_) => return Ok(keys),
                Err(Rejected::UnknownKey) if self.may_look_again(now) => {}
                Err(why) => return Err(why.into()),
            }
        }
        match self.fetch_keys(wire, now).await {
            Ok(keys) => Ok(keys),
            Err(why) => {
                let old = Kept::younger_than(self.copies().keys.as_ref(), LONGEST, now);
                old.ok_or_else(|| why.into())
            }
        }
    }

    fn may_look_again(&self, now: DateTime<Utc>) -> bool {
        let mut copies = self.copies();
        let may = copies
            .looked_again_at
            .is_none_or(|at| now - at >= LOOK_AGAIN);
        if may {
            copies.looked_again_at = Some(now);
        }
        may
    }

    async fn fetch_keys(&self, wire: &Wire, now: DateTime<Utc>) -> Result<Arc<Vec<Key>>, Away> {
        #[derive(Deserialize)]
        struct KeySet {
            keys: Vec<serde_json::Value>,
        }

        let metadata = self.metadata(wire, now).await?;
        let set: KeySet = wire.get(&metadata.jwks_uri, None, "key set").await?;
        let of = Arc::new(set.keys.into_iter().filter_map(Key::read).collect());
        let copy = Kept {
            of: Arc::clone(&of),
            made_at: now,
        };
        self.copies().keys = Some(copy);
        Ok(of)
    }

    fn copies(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a provider may send us, or people, there. One that is elsewhere has nothing to say about
/// what listens on this machine.
fn may_name(provider: &Url, named: &Url) -> bool {
    named.scheme() == "https" || (provider.scheme() == "http" && is_safe(named))
}

/// Whether what is said there stays between us: by TLS, or on this machine.
pub fn is_safe(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_elsewhere_sends_nobody_to_this_machine_or_without_tls() {
        let may = |provider: &str, named: &str| {
            let url = |text: &str| Url::parse(text).expect("a URL");
            may_name(&url(provider), &url(named))
        };
        let (remote, local) = ("https://id.acme.example", "http://127.0.0.1:4000");
        for named in [
            "http://127.0.0.1:9000/metrics",
            "http://[::1]/keys",
            "http://localhost/keys",
            "http://id.acme.example/keys",
            "ftp://id.acme.example/keys",
        ] {
            assert!(!may(remote, named), "{named}");
        }
        assert!(may(remote, "https://keys.acme.example/"));
        assert!(may(local, "http://127.0.0.1:4000/keys"));
        assert!(!may(local, "http://id.acme.example/keys"));
    }
}
