//! How letters leave: by SMTP, or into a folder on a developer's machine.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::Mailbox,
    transport::smtp::{self, AsyncSmtpTransportBuilder, response::Category},
};
use tokio::{fs, time::timeout};
use url::{Host, Url};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::MailConfig;

use super::letter::Letter;

/// How long a connection may take, and all of a letter: less than the lease.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const LETTER_TIMEOUT: Duration = Duration::from_secs(40);
const DEFAULT_FROM: &str = "Tollgate <tollgate@localhost>";

/// Where the mail server is, and what it knows us by. Never printed.
#[derive(Clone)]
pub struct SmtpUrl(Zeroizing<String>);

impl SmtpUrl {
    /// A URL that the library understands, and that says whether a way past loopback is encrypted.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_local = match url.host()? {
            // The URL standard reads numbers as an address in web schemes alone.
            Host::Domain(name) => {
                let ip: Option<Ipv4Addr> = name.parse().ok();
                name == "localhost" || ip.is_some_and(|ip| ip.is_loopback())
            }
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        let says_tls = url.scheme() == "smtps" || url.query_pairs().any(|(name, _)| name == "tls");
        let url = Self(Zeroizing::new(text.to_owned()));
        ((is_local || says_tls) && url.open().is_ok()).then_some(url)
    }

    fn open(&self) -> Result<AsyncSmtpTransportBuilder, smtp::Error> {
        AsyncSmtpTransport::<Tokio1Executor>::from_url(&self.0)
    }
}

/// Who takes the letters.
pub struct Transport {
    from: Mailbox,
    way: Way,
}

enum Way {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Folder(PathBuf),
}

/// Why a letter did not leave.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// The server will not have it, now or later. Its words may name people: only its code is told.
    #[error("the mail server refuses it: {0}")]
    Refused(smtp::response::Code),
    /// The server says not now, or that we are not who we should be.
    #[error("the mail server does not take it now: {0}")]
    NotNow(smtp::response::Code),
    /// No connection, or one that broke.
    #[error("the mail server cannot be talked to")]
    Unreachable(#[source] smtp::Error),
    /// It took too long.
    #[error("the mail server takes too long")]
    TooSlow,
    /// The letter cannot be written as the standards want it.
    #[error("the letter cannot be written")]
    Unwritable(#[from] lettre::error::Error),
    /// The folder cannot be written to.
    #[error("writing the letter to MAIL_DIR")]
    Folder(#[from] std::io::Error),
}

impl Undelivered {
    /// Whether the next attempt would end as this one did.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unwritable(_))
    }
}

impl From<smtp::Error> for Undelivered {
    fn from(error: smtp::Error) -> Self {
        match error.status() {
            // x3x is about us and our password (RFC 4954): that can be mended, and is not the letter's fault.
            Some(code) if error.is_permanent() && code.category != Category::Unspecified3 => {
                Self::Refused(code)
            }
            Some(code) => Self::NotNow(code),
            None => Self::Unreachable(error),
        }
    }
}

impl Transport {
    /// As configured, if it is.
    pub fn new(config: &MailConfig) -> Option<Self> {
        let way = match (&config.smtp_url, &config.mail_dir) {
            (Some(smtp), _) => {
                let smtp = smtp.open().expect("it was opened when it was parsed");
                Way::Smtp(smtp.timeout(Some(CONNECT_TIMEOUT)).build())
            }
            (None, Some(folder)) => Way::Folder(folder.clone()),
            (None, None) => return None,
        };
        let from = config.mail_from.clone();
        Some(Self {
            from: from.unwrap_or_else(|| DEFAULT_FROM.parse().expect("a mailbox")),
            way,
        })
    }

    /// Hands a letter over.
    pub async fn send(&self, id: Uuid, letter: &Letter) -> Result<(), Undelivered> {
        let message = letter.message(&self.from, id)?;
        match &self.way {
            Way::Smtp(smtp) => {
                let sent = timeout(LETTER_TIMEOUT, smtp.send(message)).await;
                sent.map_err(|_| Undelivered::TooSlow)??;
            }
            Way::Folder(folder) => write(folder, id, &message, letter).await?,
        }
        Ok(())
    }
}

/// Ids are made in the order of time, so that a folder lists the latest letter last. A reader sees
/// a letter whole or not at all.
async fn write(
    folder: &std::path::Path,
    id: Uuid,
    message: &Message,
    letter: &Letter,
) -> std::io::Result<()> {
    fs::create_dir_all(folder).await?;
    let unfinished = folder.join(format!(".{id}"));
    fs::write(&unfinished, message.formatted()).await?;
    let path = folder.join(format!("{id}.eml"));
    fs::rename(unfinished, &path).await?;
    // Here alone a link is logged: whoever sees this log can read the folder.
    tracing::info!(file = %path.display(), subject = letter.subject, link = letter.link(), "a letter for {}", letter.to);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_past_loopback_says_whether_it_is_encrypted() {
        for good in [
            "smtps://user:pass@mail.example.org",
            "smtp://user:pass@mail.example.org:587?tls=required",
            "smtp://mailpit:1025?tls=opportunistic",
            "smtp://localhost:1025",
            "smtp://127.0.0.1:1025",
            "smtp://[::1]:1025",
        ] {
            assert!(SmtpUrl::parse(good).is_some(), "{good}");
        }
        for bad in [
            "smtp://mail.example.org",
            "smtp://localhost.example.org",
            "smtp://mail.example.org?tls=perhaps",
            "http://127.0.0.1",
            "mail.example.org",
            "",
        ] {
            assert!(SmtpUrl::parse(bad).is_none(), "{bad}");
        }
    }
}
