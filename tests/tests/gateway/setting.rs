//! What an edge under test is told.

use base64ct::{Base64, Encoding};
use tests::{PROOF_KEY, Stub};

/// What an edge under test is told.
pub struct Setting {
    pub issuer: String,
    pub origin: String,
    pub policy: String,
    pub redis: Option<String>,
}

impl Setting {
    /// An edge in front of this origin, by this policy.
    pub fn new(issuer: &str, origin: &Stub, policy: impl Into<String>) -> Self {
        Self {
            issuer: issuer.to_owned(),
            origin: origin.url.clone(),
            policy: policy.into(),
            redis: None,
        }
    }

    /// A variable by its name.
    pub fn var(&self, name: &str) -> Option<String> {
        match name {
            "PUBLIC_URL" => Some(self.issuer.clone()),
            "ORIGIN_URL" => Some(self.origin.clone()),
            "EDGE_PROOF_KEY" => Some(Base64::encode_string(&PROOF_KEY)),
            "UPSTREAM_PROOF_KEYS" => Some(upstream_keys()),
            "POLICY" => Some(self.policy.clone()),
            "REDIS_URL" => self.redis.clone(),
            _ => None,
        }
    }
}

/// What each app shares with the edge.
pub const APP_KEYS: [(&str, [u8; 32]); 3] =
    [("notes", [2; 32]), ("keeps", [3; 32]), ("nobody", [4; 32])];

/// The same, as the edge is told.
pub fn upstream_keys() -> String {
    let pairs = APP_KEYS.map(|(name, key)| format!("{name}:{}", Base64::encode_string(&key)));
    pairs.join(", ")
}
