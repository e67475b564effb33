//! Mail. What is to be told is a row in a queue, written by the transaction that it tells of; a task
//! beside the requests turns rows into letters and sends them, as often as it takes. A link is made
//! when its letter is about to leave, so that no secret ever waits in the queue.

mod letter;
mod outbox;
mod store;
mod transport;

use shared::{gcra::Quota, ids::UserId};
use tokio::sync::Notify;

use crate::{config::MailConfig, limits::Limit, links::Purpose};

use transport::Transport;

pub use outbox::{SENDERS, send_next, tend, watch};
pub use store::{ask, enqueue};
pub use transport::SmtpUrl;

/// The most letters with links of one purpose for one account in an hour, whoever asks and from
/// wherever.
const LINKS_AN_HOUR: u32 = 20;

/// Why there is no mail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator has not set it up.
    #[error("mail is not configured")]
    NotConfigured,
    /// The database failed.
    #[error("mail in the database")]
    Database(#[from] sqlx::Error),
}

/// What a mail is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A link.
    Link(Purpose),
    /// The password is another one.
    PasswordChanged,
    /// Somebody signed in with a device that had not been seen before.
    NewDevice,
}

impl Kind {
    /// As the database writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link(purpose) => purpose.as_str(),
            Self::PasswordChanged => "password_changed",
            Self::NewDevice => "new_device",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Link(Purpose::Verify),
            Self::Link(Purpose::Reset),
            Self::Link(Purpose::Magic),
            Self::PasswordChanged,
            Self::NewDevice,
        ];
        all.into_iter().find(|kind| kind.as_str() == text)
    }

    /// For how long it is worth sending: somebody waits for a link, and asks again.
    const fn patience_secs(self) -> i32 {
        match self {
            Self::Link(purpose) => purpose.lifetime_secs(),
            Self::PasswordChanged | Self::NewDevice => 24 * 60 * 60,
        }
    }
}

/// Who sends mail, and how much of it.
pub struct Mail {
    transport: Transport,
    /// Something was put into the queue by this process.
    wake: Notify,
    links: Quotas,
}

/// A quota for each purpose: whoever asks for links to sign in by uses up nobody's links to reset a
/// password.
struct Quotas {
    verify: Limit<UserId>,
    reset: Limit<UserId>,
    magic: Limit<UserId>,
}

impl Quotas {
    const fn of(&self, purpose: Purpose) -> &Limit<UserId> {
        match purpose {
            Purpose::Verify => &self.verify,
            Purpose::Reset => &self.reset,
            Purpose::Magic => &self.magic,
        }
    }
}

impl Mail {
    /// As configured, if it is.
    #[must_use]
    pub fn new(
        config: &MailConfig,
        redis: Option<redis::aio::ConnectionManager>,
        limit_scale: u32,
    ) -> Option<Self> {
        let quota = Quota {
            limit: LINKS_AN_HOUR,
            period_secs: 60 * 60,
        }
        .scaled(limit_scale);
        let limit = move |name| Limit::new(name, quota, redis.clone());
        Some(Self {
            transport: Transport::new(config)?,
            wake: Notify::new(),
            links: Quotas {
                verify: limit("mail-verify"),
                reset: limit("mail-reset"),
                magic: limit("mail-magic"),
            },
        })
    }

    /// Tells the task that there is something to send, once that is committed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}
