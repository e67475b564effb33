//! GitHub, which speaks OAuth 2.0 and no OpenID Connect: who somebody is, its API tells.

use reqwest::Url;
use serde::Deserialize;
use shared::api::{Email, Name};

use super::{
    Identity,
    wire::{Away, Wire},
};

#[derive(Deserialize)]
struct User {
    id: u64,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    email: String,
    primary: bool,
    verified: bool,
}

/// Whose token it is. An account is known by its number: its name may be another's tomorrow.
pub async fn identify(
    wire: &Wire,
    provider: &str,
    (base, api): (&Url, &Url),
    token: &str,
) -> Result<Identity, Away> {
    let user: User = wire
        .get(&below(api, "user"), Some(token), "GitHub user")
        .await?;
    let addresses: Vec<Address> = wire
        .get(
            &below(api, "user/emails"),
            Some(token),
            "list of GitHub addresses",
        )
        .await?;
    let primary = addresses.into_iter().find(|address| address.primary);
    let email_verified = primary.as_ref().is_some_and(|address| address.verified);
    Ok(Identity {
        provider: provider.to_owned(),
        issuer: base.as_str().trim_end_matches('/').to_owned(),
        subject: user.id.to_string(),
        email: primary.and_then(|address| Email::parse(address.email)),
        email_verified,
        name: user.name.and_then(Name::parse),
    })
}

/// A path below a base that was found to be a URL when it was configured.
pub fn below(base: &Url, path: &str) -> Url {
    let base = base.as_str().trim_end_matches('/');
    Url::parse(&format!("{base}/{path}")).expect("a path below a URL is a URL")
}
