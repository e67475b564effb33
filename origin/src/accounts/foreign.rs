//! Hashes that other services made of passwords: bcrypt, scrypt as Better Auth has it, PBKDF2,
//! and argon2id with other parameters. Each is good for one sign-in, which replaces it.

use argon2::{
    Argon2, Params, PasswordVerifier,
    password_hash::{
        Error,
        phc::{Ident, Output, ParamsString, PasswordHash, Salt},
    },
};
use base64ct::{Base64, Encoding};
use bcrypt::HashParts;
use pbkdf2::Pbkdf2;
use scrypt::Scrypt;
use unicode_normalization::UnicodeNormalization;

/// What one comparison may cost at the most, since whoever signs in makes us pay it.
const MAX_BCRYPT_COST: u32 = 14;
const MAX_PBKDF2_ROUNDS: u32 = 2_000_000;
const MAX_ARGON2_KIB: u32 = 64 * 1024;
const MAX_ARGON2_PASSES: u32 = 10;

const SCRYPT: Ident = Ident::new_unwrap("scrypt");
const PBKDF2_SHA256: Ident = Ident::new_unwrap("pbkdf2-sha256");
const PBKDF2_SHA512: Ident = Ident::new_unwrap("pbkdf2-sha512");

/// A hash as another service kept it, in the form in which it is kept here.
#[derive(Debug, Eq, PartialEq)]
pub struct Adopted(String);

impl Adopted {
    /// Reads `$2b$…`, `<salt>:<key>` of Better Auth, `pbkdf2_sha256$…` of Django, or a PHC string
    /// of PBKDF2 or argon2id.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("$2") {
            return adopt_bcrypt(text);
        }
        let phc = better_auth(text)
            .or_else(|| django(text))
            .or_else(|| PasswordHash::new(text).ok())
            .filter(|phc| phc.salt.is_some() && phc.hash.is_some())
            .ok_or(
                "must be a hash by bcrypt, scrypt (as Better Auth has it), PBKDF2 or argon2id",
            )?;
        let may_compare = match phc.algorithm {
            SCRYPT => text.contains(':'),
            PBKDF2_SHA256 | PBKDF2_SHA512 => pbkdf2::Params::try_from(&phc)
                .is_ok_and(|params| params.rounds() <= MAX_PBKDF2_ROUNDS),
            argon2::ARGON2ID_IDENT => Params::try_from(&phc).is_ok_and(|params| {
                params.m_cost() <= MAX_ARGON2_KIB && params.t_cost() <= MAX_ARGON2_PASSES
            }),
            _ => false,
        };
        may_compare
            .then(|| Self(phc.to_string()))
            .ok_or("is by another algorithm, or takes too long to compare with")
    }

    /// What is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a stored hash is of this password.
pub fn matches(argon2: &Argon2<'_>, password: &[u8], stored: &str) -> Result<bool, Error> {
    if stored.starts_with("$2") {
        // It looks at 72 bytes, as those did who made the hash.
        return bcrypt::verify(password, stored).map_err(|_| Error::EncodingInvalid);
    }
    let phc = PasswordHash::new(stored)?;
    let compared = match phc.algorithm {
        SCRYPT => {
            let text = std::str::from_utf8(password).map_err(|_| Error::EncodingInvalid)?;
            let normalised = zeroize::Zeroizing::new(text.nfkc().collect::<String>());
            Scrypt::default().verify_password(normalised.as_bytes(), &phc)
        }
        PBKDF2_SHA256 | PBKDF2_SHA512 => Pbkdf2::default().verify_password(password, &phc),
        _ => argon2.verify_password(password, &phc),
    };
    match compared {
        Ok(()) => Ok(true),
        Err(Error::PasswordInvalid) => Ok(false),
        Err(why) => Err(why),
    }
}

fn adopt_bcrypt(text: &str) -> Result<Adopted, &'static str> {
    let parts: HashParts = text
        .parse()
        .map_err(|_| "starts as a bcrypt hash and is none")?;
    if parts.get_cost() > MAX_BCRYPT_COST {
        return Err("is by bcrypt with a cost that takes too long to compare with");
    }
    Ok(Adopted(text.to_owned()))
}

/// `<salt>:<key>` in hexadecimal, where the salt is used as its text, N = 16,384, r = 16, p = 1
/// and the key has 64 bytes (`better-auth`, `crypto/password.ts`).
fn better_auth(text: &str) -> Option<PasswordHash> {
    let (salt, key) = text.split_once(':')?;
    let key = hex::decode(key).ok().filter(|key| key.len() == 64)?;
    let mut params = ParamsString::new();
    for (name, value) in [("ln", 14), ("r", 16), ("p", 1)] {
        params.add_decimal(name, value).ok()?;
    }
    Some(PasswordHash {
        algorithm: SCRYPT,
        version: None,
        params,
        salt: Some(Salt::new(salt.as_bytes()).ok()?),
        hash: Some(Output::new(&key).ok()?),
    })
}

/// `pbkdf2_sha256$<rounds>$<salt>$<key in base64>`.
fn django(text: &str) -> Option<PasswordHash> {
    let mut parts = text.strip_prefix("pbkdf2_sha256$")?.split('$');
    let (rounds, salt, key) = (parts.next()?, parts.next()?, parts.next()?);
    let key = Base64::decode_vec(key).ok().filter(|key| key.len() == 32)?;
    let mut params = ParamsString::new();
    params.add_decimal("i", rounds.parse().ok()?).ok()?;
    Some(PasswordHash {
        algorithm: PBKDF2_SHA256,
        version: None,
        params,
        salt: Some(Salt::new(salt.as_bytes()).ok()?),
        hash: Some(Output::new(&key).ok()?),
    })
}
