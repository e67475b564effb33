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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn codes_are_ten_of_80_bits_in_four_groups() {
        let codes: BTreeSet<String> = make().into_iter().collect();
        assert_eq!(codes.len(), 10);
        for code in codes {
            let letters = code.replace('-', "");
            let bytes = Base32Unpadded::decode_vec(&letters).expect("base32");
            assert_eq!((bytes.len(), code.len()), (CODE_BYTES, 19), "{code}");
        }
    }

    #[test]
    fn a_code_has_another_hash_for_each_user() {
        let [ada, eve] = [1, 2].map(|id| UserId::from(Uuid::from_u128(id)));
        assert_ne!(hash(ada, "a"), hash(eve, "a"));
        assert_ne!(hash(ada, "a"), hash(ada, "b"));
    }
}
