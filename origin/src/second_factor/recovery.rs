//! Recovery codes: 80 random bits each, in base32, in four groups for people to copy. So many bits
//! need no slow hash, which would take a place in the password queue for each of ten codes. The
//! user's id is hashed with them, so that who has the table searches for each user alone.

use base32ct::{Base32Unpadded, Encoding};
use sha2::{Digest, Sha256};
use shared::ids::UserId;

use crate::rim;

const CODES: usize = 10;
const CODE_BYTES: usize = 10;

/// New codes as people read them.
pub fn make() -> Vec<String> {
    let code = |_| {
        let letters = Base32Unpadded::encode_string(rim::random::<CODE_BYTES>().as_slice());
        let groups: Vec<&str> = [0, 4, 8, 12].map(|at| &letters[at..at + 4]).into();
        groups.join("-")
    };
    (0..CODES).map(code).collect()
}

/// What is kept of a code, written without its hyphens.
pub fn hash(user: UserId, letters: &str) -> [u8; 32] {
    let hash = Sha256::new_with_prefix(user.uuid().as_bytes());
    hash.chain_update(letters).finalize().into()
}
