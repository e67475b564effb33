//! What mail needs to be told.

use std::path::PathBuf;

use lettre::message::Mailbox;

use crate::mail::SmtpUrl;

use super::secret;

/// How mail leaves. Without it nobody can verify an address, or sign in or reset a password by mail.
#[derive(clap::Args, Clone)]
pub struct MailConfig {
    /// `smtps://user:password@host`, or `smtp://…:587?tls=required`; `tls` must be said unless the
    /// host is on loopback.
    #[arg(long, env, hide_env_values = true, value_parser = secret("an smtps:// URL, or an smtp:// URL with ?tls=required or ?tls=opportunistic", SmtpUrl::parse))]
    pub smtp_url: Option<SmtpUrl>,
    /// Whom mail is from: `Tollgate <no-reply@example.org>`.
    #[arg(long, env)]
    pub mail_from: Option<Mailbox>,
    /// A folder for mail where there is no `SMTP_URL`, on a developer's machine: the links in it are
    /// logged too.
    #[arg(long, env)]
    pub mail_dir: Option<PathBuf>,
}

impl MailConfig {
    /// What no field can say alone.
    pub(super) fn check(&self, needed: bool) -> Result<(), String> {
        match (&self.smtp_url, &self.mail_dir) {
            (Some(_), _) if self.mail_from.is_none() => {
                Err("MAIL_FROM is missing: whom is mail by SMTP_URL from?".to_owned())
            }
            (None, None) if needed => Err(
                "REQUIRE_EMAIL_VERIFICATION needs mail: set SMTP_URL and MAIL_FROM (or MAIL_DIR, \
                 on a developer's machine), or set it to false"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }
}
