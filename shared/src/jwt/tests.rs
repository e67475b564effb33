//! A good token, and one of each kind that must not pass.

use base64ct::{Base64UrlUnpadded, Encoding};
use chrono::TimeDelta;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;

mod vectors;

fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([byte; 32]))
}

fn keys() -> KeySet {
    [key(1).key().clone()].into_iter().collect()
}

fn expect() -> Expect {
    Expect {
        issuer: "https://gate.example".to_owned(),
        audience: "tollgate".to_owned(),
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
}

fn claims() -> AccessClaims {
    AccessClaims {
        iss: expect().issuer,
        aud: expect().audience,
        sub: UserId::from(Uuid::from_u128(1)),
        client_id: "first-party".to_owned(),
        sid: SessionId::from(Uuid::from_u128(2)),
        jti: TokenId::from(Uuid::from_u128(3)),
        iat: now(),
        exp: now() + TimeDelta::minutes(15),
        auth_time: now(),
        email: "ada@example.org".to_owned(),
        role: Role::User,
        amr: vec!["pwd".to_owned()],
    }
}

fn part(json: &Value) -> String {
    Base64UrlUnpadded::encode_string(json.to_string().as_bytes())
}

fn body() -> Value {
    json!({
        "iss": "https://gate.example", "aud": "tollgate", "sub": Uuid::from_u128(1), "client_id": "first-party",
        "sid": Uuid::from_u128(2), "jti": Uuid::from_u128(3), "iat": now().timestamp(),
        "exp": now().timestamp() + 900, "auth_time": now().timestamp(), "email": "ada@example.org",
        "role": "user", "amr": ["pwd"],
    })
}

/// A token with this header and body, signed by key 1 whatever they say.
fn token(header: &Value, body: &Value) -> String {
    let message = format!("{}.{}", part(header), part(body));
    let signature = key(1).sign(message.as_bytes());
    format!("{message}.{}", Base64UrlUnpadded::encode_string(&signature))
}

fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "at+jwt", "kid": key(1).kid()})
}

fn with(mut object: Value, member: &str, value: Value) -> Value {
    object[member] = value;
    object
}

fn without(mut object: Value, member: &str) -> Value {
    object.as_object_mut().expect("an object").remove(member);
    object
}

fn judged(token: &str) -> Result<AccessClaims, Rejected> {
    verify(token, &keys(), &expect(), now())
}

#[test]
fn what_is_signed_is_read_back() {
    assert_eq!(judged(&sign(&claims(), &key(1))), Ok(claims()));
}

#[test]
fn both_names_of_the_algorithm_and_both_spellings_of_the_type_are_good() {
    assert_eq!(
        judged(&token(&with(header(), "alg", json!("Ed25519")), &body())),
        Ok(claims())
    );
    assert_eq!(
        judged(&token(
            &with(header(), "typ", json!("application/AT+JWT")),
            &body()
        )),
        Ok(claims())
    );
}

#[test]
fn hostile_headers_are_refused() {
    for (name, header, why) in [
        (
            "none",
            with(header(), "alg", json!("none")),
            Rejected::Algorithm,
        ),
        ("no alg", without(header(), "alg"), Rejected::Malformed),
        (
            "ES256",
            with(header(), "alg", json!("ES256")),
            Rejected::Algorithm,
        ),
        (
            "lower case",
            with(header(), "alg", json!("eddsa")),
            Rejected::Algorithm,
        ),
        (
            "an id_token",
            with(header(), "typ", json!("JWT")),
            Rejected::Type,
        ),
        ("no typ", without(header(), "typ"), Rejected::Type),
        (
            "crit",
            with(header(), "crit", json!(["exp"])),
            Rejected::Critical,
        ),
        (
            "empty crit",
            with(header(), "crit", Value::Null),
            Rejected::Critical,
        ),
        ("no kid", without(header(), "kid"), Rejected::NoKey),
        (
            "a stranger's kid",
            with(header(), "kid", json!("x")),
            Rejected::UnknownKey,
        ),
        (
            "a kid that is no string",
            with(header(), "kid", json!(1)),
            Rejected::Malformed,
        ),
    ] {
        assert_eq!(judged(&token(&header, &body())), Err(why), "{name}");
    }
}

#[test]
fn wrong_claims_are_refused() {
    let now = now().timestamp();
    for (name, body, why) in [
        (
            "issuer",
            with(body(), "iss", json!("https://gate.example/")),
            Rejected::Issuer,
        ),
        (
            "audience",
            with(body(), "aud", json!("userinfo")),
            Rejected::Audience,
        ),
        (
            "audiences",
            with(body(), "aud", json!(["tollgate", "userinfo"])),
            Rejected::Malformed,
        ),
        (
            "expired",
            with(body(), "exp", json!(now - 30)),
            Rejected::Expired,
        ),
        (
            "not yet",
            with(body(), "nbf", json!(now + 31)),
            Rejected::NotYet,
        ),
        ("no exp", without(body(), "exp"), Rejected::Malformed),
        ("no iat", without(body(), "iat"), Rejected::Malformed),
        ("no sid", without(body(), "sid"), Rejected::Malformed),
        (
            "a subject that is none",
            with(body(), "sub", json!("ada")),
            Rejected::Malformed,
        ),
        (
            "a role that is none",
            with(body(), "role", json!("root")),
            Rejected::Malformed,
        ),
        (
            "a time that is none",
            with(body(), "exp", json!(1e300)),
            Rejected::Malformed,
        ),
    ] {
        assert_eq!(judged(&token(&header(), &body)), Err(why), "{name}");
    }
}

#[test]
fn the_leeway_is_thirty_seconds_and_not_one_more() {
    let late = |secs| {
        token(
            &header(),
            &with(body(), "exp", json!(now().timestamp() - secs)),
        )
    };
    assert!(judged(&late(29)).is_ok());
    assert_eq!(judged(&late(30)), Err(Rejected::Expired));
}

#[test]
fn what_is_no_utf_8_is_refused_where_nobody_looks_too() {
    let with_x = |object: Value, x: &[u8]| {
        let text = with(object, "x", json!("?")).to_string();
        let (before, after) = text.split_once('?').expect("the mark");
        Base64UrlUnpadded::encode_string(&[before.as_bytes(), x, after.as_bytes()].concat())
    };
    for (x, y, is_good) in [
        ("é".as_bytes(), "é".as_bytes(), true),
        (b"\xe9", b"e", false),
        (b"e", b"\xe9", false),
    ] {
        let message = format!("{}.{}", with_x(header(), x), with_x(body(), y));
        let signature = Base64UrlUnpadded::encode_string(&key(1).sign(message.as_bytes()));
        let expected = is_good.then(claims).ok_or(Rejected::Malformed);
        assert_eq!(
            judged(&format!("{message}.{signature}")),
            expected,
            "{x:?} {y:?}"
        );
    }
}

#[test]
fn a_token_that_ends_with_time_itself_is_judged() {
    let last = DateTime::<Utc>::MAX_UTC.timestamp();
    let ends = |secs: i64| judged(&token(&header(), &with(body(), "exp", json!(secs))));
    assert_eq!(ends(last).map(|claims| claims.exp.timestamp()), Ok(last));
    assert_eq!(ends(last + 1), Err(Rejected::Malformed));
}

#[test]
fn a_signature_of_another_key_or_over_other_words_is_refused() {
    let others = sign(&claims(), &key(2));
    assert_eq!(judged(&others), Err(Rejected::UnknownKey));
    let message = format!("{}.{}", part(&header()), part(&body()));
    let stolen = format!(
        "{message}.{}",
        Base64UrlUnpadded::encode_string(&key(2).sign(message.as_bytes()))
    );
    assert_eq!(judged(&stolen), Err(Rejected::Signature));
    let good = token(&header(), &body());
    let (_, signature) = good.rsplit_once('.').expect("three parts");
    let moved = format!(
        "{}.{}.{signature}",
        part(&header()),
        part(&with(body(), "role", json!("admin")))
    );
    assert_eq!(judged(&moved), Err(Rejected::Signature));
    for length in [0, 63, 65] {
        let cut = format!(
            "{message}.{}",
            Base64UrlUnpadded::encode_string(&vec![1; length])
        );
        assert_eq!(judged(&cut), Err(Rejected::Signature), "{length} bytes");
    }
}

#[test]
fn a_key_in_the_token_is_not_believed() {
    let theirs = key(2);
    let header = with(
        header(),
        "jwk",
        serde_json::to_value(theirs.key().jwk()).expect("JSON"),
    );
    let message = format!("{}.{}", part(&header), part(&body()));
    let token = format!(
        "{message}.{}",
        Base64UrlUnpadded::encode_string(&theirs.sign(message.as_bytes()))
    );
    assert_eq!(judged(&token), Err(Rejected::Signature));
}

#[test]
fn hs256_over_the_public_key_is_refused() {
    let message = format!(
        "{}.{}",
        part(&with(header(), "alg", json!("HS256"))),
        part(&body())
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(key(1).key().as_bytes()).expect("any length");
    mac.update(message.as_bytes());
    let token = format!(
        "{message}.{}",
        Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes())
    );
    assert_eq!(judged(&token), Err(Rejected::Algorithm));
}

#[test]
fn noise_is_refused() {
    let long = "A".repeat(16 * 1024);
    let dots = ".".repeat(MAX_TOKEN_BYTES);
    let good = token(&header(), &body());
    let padded = format!("{good}=");
    for noise in [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b.c.d",
        "\u{0}.\u{0}.\u{0}",
        "é.é.é",
        &long,
        &dots,
        &padded,
    ] {
        assert_eq!(judged(noise), Err(Rejected::Malformed), "{noise:.20}");
    }
}
