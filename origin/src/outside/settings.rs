//! Which providers there are.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Url;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::{PublicUrl, secret};

use super::{
    provider::{Kind, Provider, Secret},
    published::{Published, is_safe},
};

const SCOPES: [&str; 3] = ["openid", "email", "profile"];
const LISTED: &str = "a JSON array such as [{\"id\": \"acme\", \"issuer\": \"https://id.acme.example\", \"clientId\": \"…\", \
     \"clientSecret\": \"…\"}], each with an id of its own (small letters, digits and hyphens; not google, apple \
     or github) and an issuer with https://, and `scopes` perhaps";

/// Other providers by which people sign in. Each calls us back at
/// `PUBLIC_URL/api/v1/auth/oauth/{provider}/callback`.
#[derive(clap::Args, Clone)]
pub struct OutsideConfig {
    /// OpenID providers: a JSON array of objects with `id`, `issuer`, `clientId`, and `clientSecret` and
    /// `scopes` perhaps.
    #[arg(long, env, hide_env_values = true, value_parser = secret(LISTED, Listed::parse))]
    pub oidc_providers: Option<Listed>,

    /// Google: the client id of the web application.
    #[arg(long, env)]
    pub google_client_id: Option<String>,
    /// Its secret.
    #[arg(long, env, hide_env_values = true, value_parser = secret("a text", text))]
    pub google_client_secret: Option<Zeroizing<String>>,
    /// Client ids of native apps whose tokens `google-signin` takes too, comma-separated.
    #[arg(long, env, value_delimiter = ',')]
    pub google_native_audiences: Vec<String>,
    /// Where Google is.
    #[arg(long, env, default_value = "https://accounts.google.com")]
    pub google_issuer: PublicUrl,

    /// Apple: the Services ID.
    #[arg(long, env)]
    pub apple_client_id: Option<String>,
    /// The developer team.
    #[arg(long, env)]
    pub apple_team_id: Option<String>,
    /// The id of the key below.
    #[arg(long, env)]
    pub apple_key_id: Option<String>,
    /// The key that signs our client secrets: the text of the .p8 file, `\n` for its line ends perhaps.
    #[arg(long, env, hide_env_values = true, value_parser = secret("a P-256 private key in PEM, as in Apple's .p8 files", AppleKey::parse))]
    pub apple_private_key: Option<AppleKey>,
    /// Bundle ids of native apps whose tokens `apple-signin` takes too, comma-separated.
    #[arg(long, env, value_delimiter = ',')]
    pub apple_native_audiences: Vec<String>,
    /// Where Apple is.
    #[arg(long, env, default_value = "https://appleid.apple.com")]
    pub apple_issuer: PublicUrl,

    /// GitHub: the client id of the OAuth app.
    #[arg(long, env)]
    pub github_client_id: Option<String>,
    /// Its secret.
    #[arg(long, env, hide_env_values = true, value_parser = secret("a text", text))]
    pub github_client_secret: Option<Zeroizing<String>>,
    /// Where GitHub is.
    #[arg(long, env, default_value = "https://github.com")]
    pub github_base: PublicUrl,
    /// Where its API is.
    #[arg(long, env, default_value = "https://api.github.com")]
    pub github_api_base: PublicUrl,
}

/// Providers of a list.
#[derive(Clone)]
pub struct Listed(Arc<[OpenId]>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OpenId {
    id: String,
    issuer: String,
    client_id: String,
    client_secret: Option<String>,
    scopes: Option<Vec<String>>,
}

impl Listed {
    fn parse(text: &str) -> Option<Self> {
        let listed: Vec<OpenId> = serde_json::from_str(text).ok()?;
        let is_good = |(place, provider): (usize, &OpenId)| {
            let is_id = (1..=64).contains(&provider.id.len())
                && provider
                    .id
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !["google", "apple", "github"].contains(&provider.id.as_str());
            let is_new = listed[..place].iter().all(|other| other.id != provider.id);
            let issuer = Url::parse(&provider.issuer);
            let is_issuer = issuer.is_ok_and(|url| is_safe(&url) && url.query().is_none());
            is_id && is_new && is_issuer && !provider.client_id.is_empty()
        };
        let all_good = listed.iter().enumerate().all(is_good);
        all_good.then(|| Self(listed.into()))
    }
}

/// Apple's kind of key.
#[derive(Clone)]
pub struct AppleKey(EncodingKey);

impl AppleKey {
    fn parse(text: &str) -> Option<Self> {
        let pem = Zeroizing::new(text.replace("\\n", "\n"));
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let key = EncodingKey::from_ec_der(der.secret_pkcs8_der());
        // Whether it is one for this is known once it has signed.
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &(), &key).ok()?;
        Some(Self(key))
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a parser of `secret`, which may refuse"
)]
fn text(text: &str) -> Option<Zeroizing<String>> {
    Some(Zeroizing::new(text.to_owned()))
}

impl OutsideConfig {
    /// What no field can say alone.
    pub fn check(&self) -> Result<(), String> {
        let together = [
            (
                "GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET",
                &[
                    self.google_client_id.is_some(),
                    self.google_client_secret.is_some(),
                ][..],
            ),
            (
                "APPLE_CLIENT_ID, APPLE_TEAM_ID, APPLE_KEY_ID and APPLE_PRIVATE_KEY",
                &[
                    self.apple_client_id.is_some(),
                    self.apple_team_id.is_some(),
                    self.apple_key_id.is_some(),
                    self.apple_private_key.is_some(),
                ],
            ),
            (
                "GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET",
                &[
                    self.github_client_id.is_some(),
                    self.github_client_secret.is_some(),
                ],
            ),
        ];
        for (names, are_set) in together {
            if are_set.contains(&true) && are_set.contains(&false) {
                return Err(format!("{names} go together"));
            }
        }
        for (names, audiences, client) in [
            (
                "GOOGLE_NATIVE_AUDIENCES needs GOOGLE_CLIENT_ID",
                &self.google_native_audiences,
                &self.google_client_id,
            ),
            (
                "APPLE_NATIVE_AUDIENCES needs APPLE_CLIENT_ID",
                &self.apple_native_audiences,
                &self.apple_client_id,
            ),
        ] {
            if !audiences.is_empty() && client.is_none() {
                return Err(names.to_owned());
            }
        }
        for (name, url) in [
            ("GOOGLE_ISSUER", &self.google_issuer),
            ("APPLE_ISSUER", &self.apple_issuer),
            ("GITHUB_BASE", &self.github_base),
            ("GITHUB_API_BASE", &self.github_api_base),
        ] {
            if !Url::parse(url.as_str()).is_ok_and(|url| is_safe(&url)) {
                return Err(format!("{name} must be https://, unless it is on loopback"));
            }
        }
        Ok(())
    }

    /// Every provider that there is.
    pub(super) fn providers(&self) -> Vec<Provider> {
        let listed = self.oidc_providers.iter().flat_map(|listed| &*listed.0);
        listed
            .map(OpenId::provider)
            .chain(self.google())
            .chain(self.apple())
            .chain(self.github())
            .collect()
    }

    fn google(&self) -> Option<Provider> {
        Some(Provider {
            id: "google".to_owned(),
            client_id: self.google_client_id.clone()?,
            secret: Secret::Fixed(self.google_client_secret.clone()?),
            scopes: SCOPES.map(str::to_owned).to_vec(),
            native_audiences: self.google_native_audiences.clone(),
            kind: Kind::OpenId {
                published: Published::new(self.google_issuer.as_str().to_owned()),
                by_form: false,
            },
        })
    }

    fn apple(&self) -> Option<Provider> {
        Some(Provider {
            id: "apple".to_owned(),
            client_id: self.apple_client_id.clone()?,
            secret: Secret::Signed {
                team_id: self.apple_team_id.clone()?,
                key_id: self.apple_key_id.clone()?,
                key: self.apple_private_key.clone()?.0,
            },
            scopes: ["openid", "email", "name"].map(str::to_owned).to_vec(),
            native_audiences: self.apple_native_audiences.clone(),
            kind: Kind::OpenId {
                published: Published::new(self.apple_issuer.as_str().to_owned()),
                by_form: true,
            },
        })
    }

    fn github(&self) -> Option<Provider> {
        let url = |url: &PublicUrl| Url::parse(url.as_str()).ok();
        Some(Provider {
            id: "github".to_owned(),
            client_id: self.github_client_id.clone()?,
            secret: Secret::Fixed(self.github_client_secret.clone()?),
            scopes: ["read:user", "user:email"].map(str::to_owned).to_vec(),
            native_audiences: Vec::new(),
            kind: Kind::GitHub {
                base: url(&self.github_base)?,
                api: url(&self.github_api_base)?,
            },
        })
    }
}

impl OpenId {
    fn provider(&self) -> Provider {
        let scopes = self.scopes.clone();
        Provider {
            id: self.id.clone(),
            client_id: self.client_id.clone(),
            secret: match &self.client_secret {
                Some(secret) => Secret::Fixed(Zeroizing::new(secret.clone())),
                None => Secret::None,
            },
            scopes: scopes.unwrap_or_else(|| SCOPES.map(str::to_owned).to_vec()),
            native_audiences: Vec::new(),
            kind: Kind::OpenId {
                published: Published::new(self.issuer.clone()),
                by_form: false,
            },
        }
    }
}
