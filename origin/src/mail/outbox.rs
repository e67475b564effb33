//! The task that empties the queue. Several of them, in one process or many, share it: each takes a
//! mail with a lease, and forgets it once it has left. A mail whose sender dies after the server took
//! it leaves again, with the same `Message-ID`: rather twice than never.

use std::time::Duration;

use metrics::{counter, gauge};
use tokio::time::{interval, sleep, timeout};

use crate::{
    app::App,
    db::{self, NotWriting},
    links::{self, Purpose, Secret},
    rim,
};

use super::{Kind, Mail, letter::Letter, store, store::Due};

/// How many letters a process sends at once.
pub const SENDERS: u32 = 4;
/// How often the queue is looked at for what other processes left there.
const POLL: Duration = Duration::from_secs(5);
/// How often the queue is measured.
const MEASURE: Duration = Duration::from_secs(15);

/// Sends what is due, for as long as the process lives.
pub async fn tend(app: App) {
    let Some(mail) = &app.mail else { return };
    loop {
        match db::turn(send_next(&app, mail)).await {
            Ok(true) => {}
            Ok(false) => {
                let _ = timeout(POLL, mail.wake.notified()).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the mail queue cannot be reached");
                sleep(POLL).await;
            }
        }
    }
}

/// Measures the queue, for as long as the process lives.
pub async fn watch(app: App) {
    let mut ticks = interval(MEASURE);
    loop {
        ticks.tick().await;
        match db::turn(store::waiting(app.db.pool())).await {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            Ok((waiting, oldest_secs)) => {
                gauge!("tollgate_mail_queue_length").set(waiting as f64);
                gauge!("tollgate_mail_queue_oldest_seconds").set(oldest_secs);
            }
            Err(error) => tracing::debug!(%error, "the mail queue is not measured"),
        }
    }
}

/// Takes the next mail and sends it, or sees that it need not be sent; says whether there was one.
pub async fn send_next(app: &App, mail: &Mail) -> sqlx::Result<bool> {
    let Some(due) = store::claim(app.db.pool()).await? else {
        return Ok(false);
    };
    let kind = due.kind.as_str();
    if due.is_over {
        counter!("tollgate_mail_given_up_total", "kind" => kind).increment(1);
        tracing::warn!(mail = %due.id, kind, attempts = due.attempts, "a mail was given up");
    } else if let Some(letter) = compose(app, mail, &due).await? {
        match mail.transport.send(due.id, &letter).await {
            Ok(()) => counter!("tollgate_mail_sent_total", "kind" => kind).increment(1),
            Err(error) => {
                let reason = std::error::Error::source(&error).map(ToString::to_string);
                counter!("tollgate_mail_failures_total", "kind" => kind).increment(1);
                tracing::warn!(%error, reason, mail = %due.id, kind, attempts = due.attempts, "a mail did not leave");
                if !error.is_final() {
                    return Ok(true);
                }
                counter!("tollgate_mail_given_up_total", "kind" => kind).increment(1);
            }
        }
    }
    store::forget(app.db.pool(), due.id).await?;
    Ok(true)
}

/// The letter, if there is somebody who should get it. Its link is made here, and takes the place
/// of one that an earlier attempt has perhaps brought.
async fn compose(app: &App, mail: &Mail, due: &Due) -> sqlx::Result<Option<Letter>> {
    let Some(to) = &due.to else { return Ok(None) };
    let purpose = match (due.kind, &due.sign_in) {
        (Kind::Link(purpose), _) => purpose,
        // Somebody else's address, perhaps, who has nothing to do with the account.
        _ if !to.email_verified => return Ok(None),
        (Kind::PasswordChanged, _) => {
            return Ok(Some(Letter::password_changed(to, due.created_at)));
        }
        (Kind::NewDevice, sign_in) => {
            return Ok(sign_in
                .as_ref()
                .map(|sign_in| Letter::new_device(to, sign_in)));
        }
    };
    if purpose == Purpose::Verify && to.email_verified {
        return Ok(None);
    }
    // Another attempt is the same letter.
    let admitted = due.attempts > 1
        || mail
            .links
            .of(purpose)
            .admit(to.user, rim::now())
            .await
            .decision
            .admitted;
    if !admitted {
        counter!("tollgate_mail_withheld_total", "kind" => due.kind.as_str()).increment(1);
        return Ok(None);
    }
    let secret = Secret::new();
    let mut transaction = match app.db.writing_as(to.user).await {
        Ok(transaction) => transaction,
        Err(NotWriting::NotActive) => return Ok(None),
        Err(NotWriting::Database(error)) => return Err(error),
    };
    let redirect_to = due.redirect_to.as_deref();
    links::keep(
        &mut transaction,
        to.user,
        purpose,
        &secret.hash(),
        redirect_to,
    )
    .await?;
    transaction.commit().await?;
    let home = app.config.public_url.as_str();
    let url = format!("{home}{}?token={}", purpose.path(), secret.reveal());
    Ok(Some(Letter::with_link(to, purpose, url)))
}
