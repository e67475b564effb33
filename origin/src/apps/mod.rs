//! Apps: the programs that charge. An operator registers them; their back ends call with the
//! app's service key, for people who have had a session with it.

mod key;
mod origins;
mod pages;
mod store;

pub use key::{AppCaller, SERVICE_KEY, ServiceKey};
pub use origins::{Origins, internal};
pub(crate) use pages::{NO_PAGE, page};
pub use store::{App, NewApp, add, all, disable, of_origin, rotate};

/// What a service key may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Permission {
    /// Charge, and hold credits for a charge.
    Charge,
    /// See somebody's balance.
    Read,
    /// Refund the app's own charges.
    Refund,
    /// Give credits, up to the app's daily cap.
    Grant,
    /// Learn whose a Matrix id is.
    Matrix,
}

impl Permission {
    /// As the registry writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Read => "read",
            Self::Refund => "refund",
            Self::Grant => "grant",
            Self::Matrix => "matrix",
        }
    }
}

/// Why an app may not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such app, another key, or a disabled one; nobody learns which.
    #[error("the service key is not good")]
    BadKey,
    /// A service key and an access token at once.
    #[error("a service key beside an access token")]
    TwoCallers,
    /// The key lacks a permission.
    #[error("the service key may not {}", .0.as_str())]
    NotPermitted(Permission),
    /// Another app's business.
    #[error("the service key is not that app's")]
    NotItsOwn,
    /// A service key's caller must say for whom.
    #[error("no user is named")]
    NoUser,
    /// There is such an app already.
    #[error("there is an app {0:?} already")]
    Taken(String),
    /// There is no such app.
    #[error("there is no app {0:?}")]
    Unknown(String),
    /// The database failed.
    #[error("apps in the database")]
    Database(#[from] sqlx::Error),
}
