//! Passwords that guessers try first: the 10,000 most common ones always and, where the operator
//! names a service for it, whatever was in a breach. That service learns five digits of a hash.

use std::{collections::HashSet, sync::LazyLock, time::Duration};

use reqwest::{Client, redirect};
use sha1::{Digest, Sha1};
use shared::api::Password;

/// `common_passwords.txt` says where it is from, down to the line of hyphens.
static COMMON: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    let list = include_str!("common_passwords.txt");
    let start = list.find("\n---\n").map_or(0, |at| at + 5);
    list[start..].lines().collect()
});

/// How long somebody who makes a password waits for the service.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of an answer; the service sends some 800 lines of at most 50 bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// What knows the passwords of breaches.
#[derive(Clone)]
pub struct Breaches {
    http: Client,
    base: String,
}

impl Breaches {
    /// A service with the API of Have I Been Pwned's Pwned Passwords.
    pub fn new(base: &str) -> reqwest::Result<Self> {
        Ok(Self {
            http: Client::builder()
                .redirect(redirect::Policy::none())
                .timeout(PATIENCE)
                .build()?,
            base: base.to_owned(),
        })
    }

    /// Whether a password was in one. When the service is away it is let pass: nobody's sign-up
    /// depends on a third party.
    pub async fn know(&self, password: &Password) -> bool {
        self.ask(password).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the service that knows breached passwords did not answer");
            false
        })
    }

    /// K-anonymous: by the first five of forty digits, padded so that the length tells nothing.
    async fn ask(&self, password: &Password) -> anyhow::Result<bool> {
        let digest = hex::encode_upper(Sha1::digest(password.as_bytes()));
        let (prefix, suffix) = digest.split_at(5);
        let mut answer = self
            .http
            .get(format!("{}/range/{prefix}", self.base))
            .header("Add-Padding", "true")
            .send()
            .await?
            .error_for_status()?;
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            anyhow::ensure!(
                text.len() + chunk.len() <= MAX_ANSWER_BYTES,
                "a very long answer"
            );
            text.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines().filter_map(|line| line.trim().split_once(':'));
        // Lines that pad are counted zero times.
        Ok(lines.any(|(line, count)| line.eq_ignore_ascii_case(suffix) && count != "0"))
    }
}

/// Whether everybody tries it.
pub fn is_common(password: &Password) -> bool {
    let text = String::from_utf8_lossy(password.as_bytes()).to_lowercase();
    COMMON.contains(text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_ten_thousand_that_the_door_lets_through() {
        assert_eq!(COMMON.len(), 10_000);
        assert!(COMMON.iter().all(|text| (8..=128).contains(&text.len())));
        assert!(COMMON.contains("password") && !COMMON.contains("correct horse"));
    }
}
