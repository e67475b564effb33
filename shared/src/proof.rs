//! The edge's proof: how the origin, or an app behind the edge, knows that a request came
//! through the edge, and that the identity and the client address it carries are the edge's word.
//!
//! A request carries `tollgate-proof: v1,<seconds since the epoch>,<MAC>`. The MAC is
//! HMAC-SHA-256 over every part below, each with its length before it, so that no two requests
//! have the same text, and on internal calls over the body's hash. It is good for 30 s on either
//! side of its time.

use base64ct::{Base64UrlUnpadded, Encoding};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Header of the proof itself.
pub const PROOF: &str = "tollgate-proof";
/// Header of the client's address.
pub const ADDRESS: &str = "tollgate-address";
/// Header of the caller's `sub`.
pub const SUBJECT: &str = "tollgate-subject";
/// Header of the caller's role.
pub const ROLE: &str = "tollgate-role";
/// Header of the caller's e-mail.
pub const EMAIL: &str = "tollgate-email";
/// Header of the request's id.
pub const REQUEST_ID: &str = "tollgate-request-id";

/// How far from its time a proof is good, in seconds.
pub const WINDOW_SECS: u64 = 30;

/// What a proof is for: one made for the one never passes for the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose<'a> {
    /// A client's request, handed on.
    Forward,
    /// A request of the edge's own, with its body. It opens what is [`is_internal`].
    Internal(&'a [u8]),
    /// No request: a text that the edge keeps where others might write, under its target as the
    /// name. It opens nothing.
    Copy(&'a [u8]),
}

/// Whether a path is for the edge's own requests alone: never forwarded, and opened by no proof
/// but [`Purpose::Internal`].
#[must_use]
pub fn is_internal(path: &str) -> bool {
    path.strip_prefix("/internal")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a proof vouches for. An absent identity is an empty text.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// What it is for.
    pub purpose: Purpose<'a>,
    /// The method, in capitals.
    pub method: &'a str,
    /// The host that is asked, as its `Host` header says: `origin.example` or `127.0.0.1:3001`.
    pub host: &'a str,
    /// Path with query, as sent.
    pub target: &'a str,
    /// The client's address.
    pub address: &'a str,
    /// The caller's `sub`.
    pub subject: &'a str,
    /// The caller's role.
    pub role: &'a str,
    /// The caller's e-mail.
    pub email: &'a str,
    /// The request's id.
    pub request_id: &'a str,
}

impl<'a> Parts<'a> {
    /// Those of what no client asks: all but these are empty.
    #[must_use]
    pub const fn of_the_edge(purpose: Purpose<'a>, target: &'a str) -> Self {
        Self {
            purpose,
            method: "",
            host: "",
            target,
            address: "",
            subject: "",
            role: "",
            email: "",
            request_id: "",
        }
    }
}

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoProof {
    /// There is none, where nothing else opens.
    #[error("this is for the edge, under its proof")]
    Missing,
    /// Not `v1,<seconds>,<MAC>`.
    #[error("the edge's proof is malformed")]
    Malformed,
    /// Made too long ago, or ahead of our clock.
    #[error("the edge's proof is more than {WINDOW_SECS} seconds from this clock")]
    Stale,
    /// Made with another key, or for another request.
    #[error("the edge's proof is not for this request, or the keys differ")]
    Mismatch,
}

/// The key that the edge shares with one of those behind it. Not printed; wiped when dropped.
#[derive(Clone)]
pub struct ProofKey(Zeroizing<[u8; 32]>);

impl ProofKey {
    /// A key from its 32 bytes.
    #[must_use]
    pub const fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The proof for `parts` as of `now`.
    #[must_use]
    pub fn prove(&self, parts: &Parts<'_>, now: DateTime<Utc>) -> String {
        let time = now.timestamp();
        let tag = self.mac(parts, time).finalize().into_bytes();
        format!("v1,{time},{}", Base64UrlUnpadded::encode_string(&tag))
    }

    /// Whether `proof` holds for `parts` as of `now`; compares in constant time.
    pub fn check(&self, parts: &Parts<'_>, proof: &str, now: DateTime<Utc>) -> Result<(), NoProof> {
        let (time, tag) = parse(proof)?;
        if now.timestamp().abs_diff(time) > WINDOW_SECS {
            return Err(NoProof::Stale);
        }
        self.verify(parts, time, &tag)
    }

    /// When `proof` was made for `parts`, however long ago; compares in constant time. For what is
    /// kept, and whose age is then judged: a request's proof is for [`check`](Self::check).
    pub fn proven_at(&self, parts: &Parts<'_>, proof: &str) -> Result<DateTime<Utc>, NoProof> {
        let (time, tag) = parse(proof)?;
        self.verify(parts, time, &tag)?;
        DateTime::from_timestamp(time, 0).ok_or(NoProof::Malformed)
    }

    fn verify(&self, parts: &Parts<'_>, time: i64, tag: &[u8; 32]) -> Result<(), NoProof> {
        self.mac(parts, time)
            .verify_slice(tag)
            .map_err(|_| NoProof::Mismatch)
    }

    fn mac(&self, parts: &Parts<'_>, time: i64) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes a key of any length");
        mac.update(&time.to_be_bytes());
        let (purpose, body) = match parts.purpose {
            Purpose::Forward => ("forward", None),
            Purpose::Internal(body) => ("internal", Some(body)),
            Purpose::Copy(text) => ("copy", Some(text)),
        };
        for part in [
            purpose,
            parts.method,
            parts.host,
            parts.target,
            parts.address,
            parts.subject,
            parts.role,
            parts.email,
            parts.request_id,
        ] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        if let Some(body) = body {
            mac.update(&Sha256::digest(body));
        }
        mac
    }
}

/// Time and MAC of a proof.
fn parse(proof: &str) -> Result<(i64, [u8; 32]), NoProof> {
    let (time, tag) = proof
        .strip_prefix("v1,")
        .and_then(|rest| rest.split_once(','))
        .ok_or(NoProof::Malformed)?;
    let time = time.parse().map_err(|_| NoProof::Malformed)?;
    let mut decoded = [0; 32];
    let tag = Base64UrlUnpadded::decode(tag, &mut decoded).map_err(|_| NoProof::Malformed)?;
    let tag = tag.try_into().map_err(|_| NoProof::Mismatch)?;
    Ok((time, tag))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const PARTS: Parts<'_> = Parts {
        purpose: Purpose::Forward,
        method: "POST",
        host: "origin.example",
        target: "/api/v1/credits/use?x=1",
        address: "192.0.2.7",
        subject: "0197",
        role: "user",
        email: "ada@example.org",
        request_id: "r1",
    };

    fn key(byte: u8) -> ProofKey {
        ProofKey::new(Zeroizing::new([byte; 32]))
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
    }

    #[test]
    fn a_proof_holds_for_its_request_alone() {
        let proof = key(1).prove(&PARTS, now());
        assert_eq!(key(1).check(&PARTS, &proof, now()), Ok(()));
        assert_eq!(key(2).check(&PARTS, &proof, now()), Err(NoProof::Mismatch));
        for (name, other) in [
            (
                "method",
                Parts {
                    method: "GET",
                    ..PARTS
                },
            ),
            (
                "host",
                Parts {
                    host: "origin.exampl",
                    ..PARTS
                },
            ),
            (
                "target",
                Parts {
                    target: "/api/v1/credits/use?x=2",
                    ..PARTS
                },
            ),
            (
                "address",
                Parts {
                    address: "192.0.2.8",
                    ..PARTS
                },
            ),
            (
                "subject",
                Parts {
                    subject: "0198",
                    ..PARTS
                },
            ),
            (
                "role",
                Parts {
                    role: "admin",
                    ..PARTS
                },
            ),
            (
                "e-mail",
                Parts {
                    email: "eve@example.org",
                    ..PARTS
                },
            ),
            (
                "request id",
                Parts {
                    request_id: "r2",
                    ..PARTS
                },
            ),
            (
                "purpose",
                Parts {
                    purpose: Purpose::Internal(b""),
                    ..PARTS
                },
            ),
            (
                "a border moved",
                Parts {
                    role: "userada",
                    email: "@example.org",
                    ..PARTS
                },
            ),
        ] {
            assert_eq!(
                key(1).check(&other, &proof, now()),
                Err(NoProof::Mismatch),
                "{name}"
            );
        }
    }

    #[test]
    fn an_internal_proof_holds_for_its_body_alone() {
        let of = |body| Parts {
            purpose: Purpose::Internal(body),
            ..PARTS
        };
        let proof = key(1).prove(&of(b"{}"), now());
        assert_eq!(key(1).check(&of(b"{}"), &proof, now()), Ok(()));
        for other in [of(b""), of(b"{ }"), PARTS] {
            let held = key(1).check(&other, &proof, now());
            assert_eq!(held, Err(NoProof::Mismatch), "{other:?}");
        }
    }

    #[test]
    fn a_copy_is_proven_by_name_and_text_however_old_and_is_no_request() {
        let copy = |target, text| Parts {
            purpose: Purpose::Copy(text),
            target,
            ..PARTS
        };
        let proof = key(1).prove(&copy("keys", b"{}"), now());
        let ours = copy("keys", b"{}");
        assert_eq!(key(1).proven_at(&ours, &proof), Ok(now()));
        let moved = proof.replace("v1,18", "v1,19");
        for (name, held) in [
            ("another key", key(2).proven_at(&ours, &proof)),
            ("another time", key(1).proven_at(&ours, &moved)),
            (
                "another name",
                key(1).proven_at(&copy("feed", b"{}"), &proof),
            ),
            (
                "another text",
                key(1).proven_at(&copy("keys", b"[]"), &proof),
            ),
        ] {
            assert_eq!(held, Err(NoProof::Mismatch), "{name}");
        }
        let call = Parts {
            purpose: Purpose::Internal(b"{}"),
            ..ours
        };
        assert_eq!(key(1).check(&call, &proof, now()), Err(NoProof::Mismatch));
    }

    #[test]
    fn what_is_internal_is_told_by_the_first_segment_alone() {
        for (path, internal) in [
            ("/internal", true),
            ("/internal/revocations", true),
            ("/internals", false),
            ("/api/internal/x", false),
            ("/Internal/x", false),
            ("//internal/x", false),
        ] {
            assert_eq!(is_internal(path), internal, "{path}");
        }
    }

    #[test]
    fn a_proof_is_good_for_thirty_seconds_on_either_side() {
        let proof = key(1).prove(&PARTS, now());
        for (offset, held) in [
            (-31, Err(NoProof::Stale)),
            (-30, Ok(())),
            (30, Ok(())),
            (31, Err(NoProof::Stale)),
        ] {
            assert_eq!(
                key(1).check(&PARTS, &proof, now() + TimeDelta::seconds(offset)),
                held,
                "{offset} s"
            );
        }
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let short = format!(
            "v1,{},{}",
            now().timestamp(),
            Base64UrlUnpadded::encode_string(&[0; 8])
        );
        for (text, why) in [
            ("", NoProof::Malformed),
            ("v1", NoProof::Malformed),
            ("v1,now,x", NoProof::Malformed),
            ("v2,1800000000,AAAA", NoProof::Malformed),
            (short.as_str(), NoProof::Mismatch),
        ] {
            assert_eq!(key(1).check(&PARTS, text, now()), Err(why), "{text}");
        }
    }
}
