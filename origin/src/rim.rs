//! The rim: the only place that reads the clock, draws randomness and makes ids. Rules get
//! what they need of these as values.

use chrono::{DateTime, Utc};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the rim")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A new id (UUID of version 7), as any of the typed ids.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the rim")]
pub fn new_id<T: From<Uuid>>() -> T {
    Uuid::now_v7().into()
}

/// Random bytes, wiped when dropped.
///
/// # Panics
/// When the operating system has no randomness to give, without which nothing here is safe.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the rim")]
pub fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut()).expect("the operating system gives randomness");
    bytes
}
