//! Accounts: registering, signing in with a password or by mail, verifying the address, setting
//! another password. What a sign-in opens is a session.

mod asking;
mod browser;
mod common;
mod device;
mod following;
mod foreign;
mod guessing;
mod import;
mod leaving;
mod magic;
mod passwords;
mod profile;
mod proof;
mod recovery;
mod routes;
mod sign_in;
mod store;
mod verification;

pub use asking::{ask, has_asked};
pub use device::DeviceId;
pub use import::{Imported, import_users};
pub use leaving::{clear_words, leave};
pub use passwords::{NotHashed, Passwords};
pub use profile::change as change_profile;
pub use proof::{Shown, confirm, email_hash, normalised};
pub use recovery::change as change_password;
pub use routes::{by_password, register, router};
pub use sign_in::{Arrival, Entry, enter};
pub use store::{MOST_DEVICES, has_password, own, profile, role, sweep_failures as sweep};

/// Why an account could not be made or signed in to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody has the address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// No such account, or not its password; nobody learns which.
    #[error("e-mail or password is wrong")]
    InvalidCredentials,
    /// The account has a password, and the request none.
    #[error("the password is missing")]
    NoPassword,
    /// The password was right.
    #[error("the e-mail address is not verified")]
    EmailNotVerified,
    /// The password was right.
    #[error("the account is disabled")]
    Disabled,
    /// Too many wrong passwords lately, for this account or from there.
    #[error("too many failures; the next attempt is in {wait_secs} s")]
    TooManyFailures {
        /// When again.
        wait_secs: u32,
    },
    /// The link of a mail is unknown, used, replaced or over; nobody learns which.
    #[error("the link is not valid")]
    InvalidLink,
    /// A link, and nothing that shows whose browser it is followed in.
    #[error("another browser asked for the link")]
    OtherBrowser,
    /// The password could not be hashed.
    #[error(transparent)]
    Password(#[from] NotHashed),
    /// The database failed.
    #[error("accounts in the database")]
    Database(#[from] sqlx::Error),
}
