//! Service keys: 32 random bytes, of which the registry keeps a hash. The bytes are random, so
//! that one round of SHA-256 is enough, and hashes are compared in constant time.

use axum::{extract::FromRequestParts, http::request::Parts};
use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};
use shared::api::AppId;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{app, error::Error as Failure, rim};

use super::{Error, Permission, store};

const PREFIX: &str = "tgs_";
const APP_ID: &str = "x-app-id";
/// The header that a service key comes in.
pub const SERVICE_KEY: &str = "x-service-key";

/// A service key, in the open: shown once, and never again.
pub struct ServiceKey(Zeroizing<String>);

impl ServiceKey {
    /// A new one. The prefix lets scanners find leaked ones.
    #[must_use]
    pub fn new() -> Self {
        let secret = Zeroizing::new(Base64UrlUnpadded::encode_string(
            rim::random::<32>().as_slice(),
        ));
        Self(Zeroizing::new(format!("{PREFIX}{}", *secret)))
    }

    /// The text to hand to the app's operator.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the registry keeps.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }
}

impl Default for ServiceKey {
    fn default() -> Self {
        Self::new()
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// An app whose key is good.
#[derive(Clone, Debug)]
pub struct AppCaller {
    /// Its id.
    pub id: AppId,
    permissions: Vec<String>,
}

impl AppCaller {
    /// Insists on a permission.
    pub fn may(&self, permission: Permission) -> Result<(), Error> {
        let name = permission.as_str();
        if self.permissions.iter().any(|held| held == name) {
            return Ok(());
        }
        Err(Error::NotPermitted(permission))
    }

    /// The app of a request's service key; `None` when the request shows none.
    pub async fn of(parts: &Parts, app: &app::App) -> Result<Option<Self>, Error> {
        let text = |name: &str| {
            let value = parts.headers.get(name);
            value.map(|value| value.to_str().unwrap_or_default())
        };
        let Some(key) = text(SERVICE_KEY) else {
            return Ok(None);
        };
        if parts
            .headers
            .contains_key(axum::http::header::AUTHORIZATION)
        {
            return Err(Error::TwoCallers);
        }
        let id = text(APP_ID).and_then(|id| AppId::parse(id.to_owned()));
        let id = id.ok_or(Error::BadKey)?;
        let found = store::by_id(app.db.pool(), &id).await?;
        // Without an app there is still a comparison, which nothing passes.
        let expected = found.as_ref().map_or([0; 32], |found| found.key_hash);
        let matches = bool::from(hash(key).ct_eq(&expected));
        let active = found.filter(|found| matches && !found.is_disabled);
        let found = active.ok_or(Error::BadKey)?;
        Ok(Some(Self {
            id,
            permissions: found.permissions,
        }))
    }
}

impl FromRequestParts<app::App> for AppCaller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &app::App) -> Result<Self, Failure> {
        Ok(Self::of(parts, app).await?.ok_or(Error::BadKey)?)
    }
}
