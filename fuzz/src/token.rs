//! A token that a client made up, or that the key signed whatever it says.
//!
//! A seed that begins with `{` is a header, a line break and claims: both are signed as they are, so that
//! what is behind the signature is reached. Any other seed is the token itself.

use base64ct::{Base64UrlUnpadded, Encoding};
use chrono::{DateTime, Utc};
use edge::gate;
use serde_json::Value;
use shared::{
    claims::{AccessClaims, LEEWAY_SECS},
    jwks::{Key, KeySet, SigningKey},
    jwt::{self, Expect, MAX_TOKEN_BYTES, Rejected},
    tokens::Tokens,
};

use crate::{AUDIENCE, ISSUER, now, signed, signing_key};

/// What base64url is written with.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const LEEWAY: i64 = LEEWAY_SECS as i64;

/// Who judges tokens.
struct Verifier {
    key: SigningKey,
    keys: KeySet,
    expect: Expect,
}

impl Verifier {
    fn judge(&self, token: &str, now: DateTime<Utc>) -> Result<AccessClaims, Rejected> {
        jwt::verify(token, &self.keys, &self.expect, now)
    }

    /// As the edge does, which remembers.
    fn gate(
        &self,
        token: &str,
        now: DateTime<Utc>,
        memory: &mut Tokens,
    ) -> Result<AccessClaims, Rejected> {
        let verified = gate::verify(
            token,
            &self.keys,
            &self.expect,
            now,
            memory,
            Key::has_signed,
        );
        verified.map(|verified| verified.claims.clone())
    }
}

thread_local! {
    static VERIFIER: Verifier = {
        let key = signing_key();
        Verifier {
            keys: [key.key().clone()].into_iter().collect(),
            expect: Expect { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned() },
            key,
        }
    };
}

/// Judges one token, and everything near it.
pub fn run(input: &[u8]) {
    VERIFIER.with(|verifier| {
        if input.starts_with(b"{") {
            let mut parts = input.splitn(2, |byte| *byte == b'\n');
            let mut part = || parts.next().unwrap_or_default();
            let (header, claims) = (part(), part());
            check(verifier, &signed(header, claims, &verifier.key));
        } else if let Ok(token) = std::str::from_utf8(input) {
            check(verifier, token);
        }
    });
}

fn check(verifier: &Verifier, token: &str) {
    let mut memory = Tokens::new(4);
    let judged = verifier.judge(token, now());
    for _ in 0..2 {
        assert_eq!(
            verifier.gate(token, now(), &mut memory),
            judged,
            "the edge differs"
        );
    }
    let Ok(claims) = judged else {
        return;
    };
    says_what_it_must(verifier, token, &claims);
    ends_in_time(verifier, token, &claims, &mut memory);
    for other in near(token) {
        assert!(
            verifier.judge(&other, now()).is_err(),
            "{other} for {token}"
        );
        assert!(
            verifier.gate(&other, now(), &mut memory).is_err(),
            "{other} by the memory of {token}"
        );
    }
    let again = jwt::sign(&claims, &verifier.key);
    if again.len() <= MAX_TOKEN_BYTES {
        assert_eq!(
            verifier.judge(&again, now()),
            Ok(claims),
            "what is signed is read back"
        );
    }
}

/// What RFC 8725 and RFC 9068 §4 ask of a token that is believed, by another reading of it.
fn says_what_it_must(verifier: &Verifier, token: &str, claims: &AccessClaims) {
    assert!(token.len() <= MAX_TOKEN_BYTES);
    let parts: Vec<Vec<u8>> = token
        .split('.')
        .map(|part| Base64UrlUnpadded::decode_vec(part).expect("base64url"))
        .collect();
    let [header, payload, signature] = parts.as_slice() else {
        panic!("{} parts", parts.len());
    };
    let (Some(header), Some(payload)) = (read(header), read(payload)) else {
        return;
    };
    assert!(
        header["alg"] == "EdDSA" || header["alg"] == "Ed25519",
        "{header}"
    );
    let typ = header["typ"].as_str().expect("a typ").to_ascii_lowercase();
    assert!(typ == "at+jwt" || typ == "application/at+jwt", "{typ}");
    assert_eq!(header["kid"], verifier.key.kid());
    assert!(header.get("crit").is_none(), "{header}");
    assert_eq!(signature.len(), 64);

    let text = |name: &str| {
        payload[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {payload}"))
    };
    let time = |name: &str| {
        payload[name]
            .as_i64()
            .unwrap_or_else(|| panic!("{name}: {payload}"))
    };
    let id = |name: &str| uuid::Uuid::parse_str(text(name)).expect(name);
    assert_eq!(text("iss"), ISSUER);
    assert_eq!(text("aud"), AUDIENCE);
    assert!(
        now().timestamp() < time("exp").saturating_add(LEEWAY),
        "{payload}"
    );
    if !payload["nbf"].is_null() {
        assert!(time("nbf") <= now().timestamp() + LEEWAY, "{payload}");
    }
    assert_eq!(
        (
            claims.sub.uuid(),
            claims.sid.to_string(),
            claims.jti.to_string()
        ),
        (id("sub"), id("sid").to_string(), id("jti").to_string())
    );
    assert_eq!(
        [claims.iat, claims.exp, claims.auth_time].map(|time| time.timestamp()),
        [time("iat"), time("exp"), time("auth_time")]
    );
    assert_eq!(
        [
            claims.email.as_str(),
            claims.client_id.as_str(),
            claims.role.as_str()
        ],
        [text("email"), text("client_id"), text("role")]
    );
}

/// What was signed, as another reader has it; nothing where that one refuses what RFC 8259 §6 and §8.2 allow
/// and nobody looks at.
fn read(part: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(part).expect("UTF-8");
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(why) => {
            let why = why.to_string();
            let is_allowed = why.contains("hex escape") || why.contains("number out of range");
            assert!(is_allowed, "{why}: {text}");
            None
        }
    }
}

/// A token is good until its `exp`, a slow clock's leeway included, and no second longer.
fn ends_in_time(verifier: &Verifier, token: &str, claims: &AccessClaims, memory: &mut Tokens) {
    let end = claims.exp.timestamp() + LEEWAY;
    for (secs, is_good) in [(end - 1, true), (end, false)] {
        let Some(at) = DateTime::from_timestamp(secs, 0) else {
            continue;
        };
        for judged in [verifier.judge(token, at), verifier.gate(token, at, memory)] {
            let expected = if is_good {
                Ok(claims)
            } else {
                Err(&Rejected::Expired)
            };
            assert_eq!(judged.as_ref(), expected, "at {secs}");
        }
    }
}

/// The same text with one byte changed: its last one in every way, and some others that depend on it.
fn near(token: &str) -> Vec<String> {
    let hash = token.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let bits =
        |shift: u32, of: usize| usize::try_from((hash >> shift) & 0xffff).expect("16 bits") % of;
    let last = token.len() - 1;
    let mut changes: Vec<(usize, u8)> = ALPHABET.iter().map(|byte| (last, *byte)).collect();
    changes.extend([0, 12].map(|shift| (bits(shift, token.len()), ALPHABET[bits(shift + 20, 64)])));
    changes.extend(b"=.+/ ".map(|byte| (bits(44, token.len()), byte)));
    let others = changes
        .into_iter()
        .filter(|(at, byte)| token.as_bytes()[*at] != *byte);
    let mut near: Vec<String> = others
        .map(|(at, byte)| format!("{}{}{}", &token[..at], char::from(byte), &token[at + 1..]))
        .collect();
    near.extend([
        format!("{token}="),
        format!("{token}A"),
        format!("{token} "),
        format!(" {token}"),
    ]);
    near.push(token[..last].to_owned());
    near
}
