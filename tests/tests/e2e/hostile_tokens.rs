//! Tokens that must not pass: 401, and the origin never hears of them.

use anyhow::Result;
use base64ct::{Base64UrlUnpadded, Encoding};
use chrono::TimeDelta;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use shared::{claims::AccessClaims, jwks::SigningKey, jwt};
use tests::Issuer;

use crate::rig::Rig;

#[tokio::test]
async fn no_hostile_token_passes_and_the_origin_never_hears_of_them() -> Result<()> {
    let rig = Rig::start().await?;
    for (what, token) in hostile(&rig.issuer) {
        for path in ["/api/v1/auth/validate", "/api/v1/credits/balance"] {
            let answer = rig.get(path, &token).await?;
            assert_eq!(answer.status, 401, "{what}: {answer:?}");
            answer.is_problem(401, "INVALID_TOKEN");
        }
    }
    let bare = tests::Answer::to(rig.edge.get("/api/v1/credits/balance")).await?;
    bare.is_problem(401, "UNAUTHENTICATED");
    assert_eq!(bare.header("www-authenticate"), "Bearer");
    assert!(rig.origin.seen().is_empty(), "{:?}", rig.origin.seen());
    Ok(())
}

fn hostile(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let key = issuer.key();
    let claims = issuer.claims();
    let kid = key.kid();
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid});
    let with = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        header
    };
    let payload = payload(&claims);
    let stranger = Issuer::new(issuer.url(), 2);
    let past = claims.iat - TimeDelta::hours(1);
    let resigned = |change: fn(&mut AccessClaims)| {
        let mut claims = claims.clone();
        change(&mut claims);
        jwt::sign(&claims, key)
    };
    let expired = AccessClaims {
        exp: past,
        ..claims.clone()
    };
    let jwk = serde_json::to_value(stranger.key().key().jwk()).unwrap_or_default();
    vec![
        (
            "alg none",
            signed(&with("alg", json!("none")), &payload, |_| Vec::new()),
        ),
        (
            "HS256 with the public key",
            signed(&with("alg", json!("HS256")), &payload, |text| {
                let mac = Hmac::<Sha256>::new_from_slice(key.key().as_bytes());
                mac.map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
                    .unwrap_or_default()
            }),
        ),
        (
            "another issuer",
            resigned(|claims| "https://eve.example".clone_into(&mut claims.iss)),
        ),
        (
            "another audience",
            resigned(|claims| "userinfo".clone_into(&mut claims.aud)),
        ),
        (
            "another type",
            signed(&with("typ", json!("JWT")), &payload, by(key)),
        ),
        ("another key", stranger.token()),
        (
            "another key under our name",
            signed(&header, &payload, by(stranger.key())),
        ),
        ("expired", jwt::sign(&expired, key)),
        (
            "crit",
            signed(&with("crit", json!(["exp"])), &payload, by(key)),
        ),
        (
            "an embedded key",
            signed(&with("jwk", jwk), &payload, by(stranger.key())),
        ),
        (
            "no kid",
            signed(&json!({"alg": "EdDSA", "typ": "at+jwt"}), &payload, by(key)),
        ),
        ("noise", "x".repeat(16 * 1024)),
    ]
}

fn payload(claims: &AccessClaims) -> Value {
    json!({
        "iss": claims.iss, "aud": claims.aud, "sub": claims.sub, "client_id": claims.client_id,
        "sid": claims.sid, "jti": claims.jti, "iat": claims.iat.timestamp(),
        "exp": claims.exp.timestamp(), "auth_time": claims.auth_time.timestamp(),
        "email": claims.email, "role": claims.role, "amr": claims.amr,
    })
}

fn by(key: &SigningKey) -> impl Fn(&[u8]) -> Vec<u8> {
    |text| key.sign(text).to_vec()
}

fn signed(header: &Value, payload: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let text = format!("{}.{}", part(header), part(payload));
    let signature = Base64UrlUnpadded::encode_string(&sign(text.as_bytes()));
    format!("{text}.{signature}")
}
