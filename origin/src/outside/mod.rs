//! Outside accounts: people sign in by the word of another provider (any that speaks OpenID Connect,
//! and GitHub, which speaks OAuth alone), and link such accounts to theirs. [`provider`] is what a
//! provider is asked and how its word is checked; [`flow`] is how a browser goes there and comes back;
//! [`arrival`] is the rule of whose account it is. Nothing of a provider's tokens is kept.

mod arrival;
mod flow;
mod github;
pub mod id_token;
mod native;
mod provider;
mod published;
mod routes;
mod settings;
mod store;
pub mod wire;

pub use routes::{callback, depart, router, unlink};
pub use settings::OutsideConfig;
pub use store::{list, unlink_all, use_token};

use provider::Provider;
use wire::Wire;

/// What somebody is at a provider, by its word.
pub struct Identity {
    /// The provider's name in paths.
    pub provider: String,
    /// Its name for itself: a subject is somebody's among those of its issuer.
    pub issuer: String,
    /// Whom it means, for ever.
    pub subject: String,
    /// Their address, if it says one.
    pub email: Option<shared::api::Email>,
    /// Whether it has seen that the address is theirs.
    pub email_verified: bool,
    /// What to call them.
    pub name: Option<shared::api::Name>,
}

/// Every provider that is configured, and the way there.
pub struct Outside {
    /// The way to them.
    pub wire: Wire,
    providers: Vec<Provider>,
}

impl Outside {
    /// As configured; nobody is asked yet.
    pub fn new(config: &OutsideConfig) -> anyhow::Result<Self> {
        Ok(Self {
            wire: Wire::new()?,
            providers: config.providers(),
        })
    }

    /// The providers, as people call them.
    pub fn named(&self) -> impl Iterator<Item = Named> {
        self.providers.iter().map(|provider| Named {
            name: match provider.id.as_str() {
                "google" => "Google",
                "apple" => "Apple",
                "github" => "GitHub",
                id => id,
            }
            .to_owned(),
            id: provider.id.clone(),
        })
    }

    fn find(&self, id: &str) -> Result<&Provider, Error> {
        let mut providers = self.providers.iter();
        let found = providers.find(|provider| provider.id == id);
        found.ok_or(Error::UnknownProvider)
    }
}

/// A provider on a page.
pub struct Named {
    /// Its name in paths.
    pub id: String,
    /// What people call it.
    pub name: String,
}

/// Why nobody was signed in or linked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not one that is configured.
    #[error("no such provider")]
    UnknownProvider,
    /// None of the caller's.
    #[error("no such linked account")]
    NoSuchAccount,
    /// Unknown, used, over, or another browser's; nobody learns which.
    #[error("nobody was sent there with that state")]
    BadState,
    /// The provider, or the person there, said no.
    #[error("the provider did not sign anybody in")]
    Refused,
    /// The provider's word does not hold.
    #[error(transparent)]
    BadIdToken(#[from] id_token::Rejected),
    /// Its word says nothing about an account here.
    #[error("the provider has not verified the address")]
    EmailUnverified,
    /// It is somebody else's already.
    #[error("that account is linked to another one")]
    LinkedElsewhere,
    /// Without it nobody could sign in.
    #[error("there is no other way to sign in")]
    LastWay,
    /// The provider does not answer, or nothing that can be read.
    #[error(transparent)]
    Away(#[from] wire::Away),
    /// Somebody else made or changed the account meanwhile.
    #[error("the account changed meanwhile")]
    Raced,
    /// The database failed.
    #[error("outside accounts in the database")]
    Database(#[from] sqlx::Error),
}
