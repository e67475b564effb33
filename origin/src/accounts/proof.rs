//! What follows when somebody has shown that the address of an account is theirs.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shared::api::User;
use sqlx::PgConnection;

use crate::{app::App, config::Key, links, outside, second_factor, sessions};

use super::store;

/// How it was shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// By who registered: with the account's password, or in the browser that registered.
    ByRegistrant,
    /// By a link in a mail or the word of a provider, and nothing else.
    ByMailAlone,
}

/// Makes the account of the acting user usable, if it was not, with its bonus.
///
/// Anybody may have registered somebody else's address. So whoever shows by mail alone that it is
/// theirs gets the account without anything that its registrant could still come in by.
///
/// A confirmed second factor stays and is asked for: reading mail gets nobody past it.
///
/// The sessions that this ends go out in the feed at the end of the transaction, which is the
/// caller's: [`crate::revocations::append_ended`], or `append_user`.
pub async fn confirm(
    app: &App,
    db: &mut PgConnection,
    user: &mut User,
    shown: Shown,
) -> sqlx::Result<()> {
    let hash = email_hash(
        &app.config.remembering.email_hash_key,
        &normalised(&user.email),
    );
    let bonus = app.config.credits.credits_signup_bonus.thousandths();
    // Where no verification is needed, the bonus came with the account.
    let bonus = app.config.require_email_verification.then_some(bonus);
    let is_first = store::confirm_email(db, user.id, &hash, bonus).await?;
    if is_first && shown == Shown::ByMailAlone {
        // The password first: a sign-in that has just compared it is over when this returns.
        store::remove_password(db).await?;
        sessions::revoke_all(db).await?;
        links::void_all(db).await?;
        second_factor::forget_begun(db).await?;
        outside::unlink_all(db).await?;
        store::forget_devices(db).await?;
        store::forget_profile(db).await?;
        user.name = None;
    }
    user.email_verified = true;
    Ok(())
}

/// Remembers an address without keeping it.
pub fn email_hash(key: &Key, normalised: &str) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
    mac.update(normalised.as_bytes());
    mac.finalize().into_bytes().into()
}

/// An address of an account, as look-ups go by it. It was an e-mail address when it registered.
pub fn normalised(email: &str) -> String {
    email.to_ascii_lowercase()
}
