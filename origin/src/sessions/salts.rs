//! Whose sessions are, and the salts of their refresh tokens, as far as they were asked for lately.
//! Neither ever changes, so nothing here is too old: whether a session lives is asked every time.

use std::sync::{Mutex, PoisonError};

use hashlink::LruCache;
use shared::ids::{SessionId, UserId};

/// 2 MB when full.
const KEPT: usize = 16_384;

/// What a refresh token of a session is compared with.
#[derive(Clone, Copy)]
pub struct Salt {
    /// Whose session it is.
    pub user: UserId,
    /// What the MAC of its tokens covers.
    pub salt: [u8; 16],
}

/// The salts that were asked for lately.
pub struct Salts(Mutex<LruCache<SessionId, Salt>>);

impl Default for Salts {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl Salts {
    /// A salt that was kept.
    pub fn find(&self, session: SessionId) -> Option<Salt> {
        self.lock(|salts| salts.get(&session).copied())
    }

    /// Keeps a salt. One that a good token came with, or a stranger could crowd out the others.
    pub fn keep(&self, session: SessionId, salt: Salt) {
        self.lock(|salts| salts.insert(session, salt));
    }

    fn lock<T>(&self, work: impl FnOnce(&mut LruCache<SessionId, Salt>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
