//! Native apps that show the `id_token` of Google or Apple.

use axum::http::StatusCode;
use origin::rim;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::{
    provider::{ADA, NATIVE, Provider, Somebody},
    support::{Answer, Origin, count, text},
};

const GOOGLE: &str = "/api/v1/auth/google-signin";
const APPLE: &str = "/api/v1/auth/apple-signin";

async fn show(origin: &Origin, path: &str, body: &Value) -> Answer {
    origin.post(path, None, body).await
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_app_signs_in_by_the_token_that_it_got_on_the_device(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    acme.acme().claims = json!({"aud": NATIVE, "azp": "the app itself"});
    for path in [GOOGLE, APPLE] {
        let body = json!({"token": acme.id_token(Some(path)), "nonce": path,
                          "deviceInfo": {"deviceId": "phone-1", "deviceName": "Ada's", "osVersion": 7}});
        let answer = show(&origin, path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let fields: Vec<&String> = answer.body.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["appToken", "email", "refreshToken"]);
        assert_eq!(answer.body["email"], "Ada@example.org");
        let session = origin
            .get("/api/v1/auth/session", &text(&answer.body["appToken"]))
            .await;
        assert_eq!(session.body["session"]["deviceName"], "Ada's");
        let refreshed = origin.refresh(&text(&answer.body["refreshToken"])).await;
        assert_eq!(refreshed.status, StatusCode::OK);
    }
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_token_that_an_app_shows_is_good_once(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let token = acme.id_token(None);
    let body = json!({"token": token});
    let (first, second) = tokio::join!(show(&origin, GOOGLE, &body), show(&origin, GOOGLE, &body));
    let mut statuses = [first.status.as_u16(), second.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "{first:?} {second:?}");
    show(&origin, GOOGLE, &body)
        .await
        .is_problem(401, "INVALID_ID_TOKEN");
    // Nor with the other signature that ECDSA has for it: r and n - s.
    let twin = twin(&token);
    assert_ne!(twin, token);
    let answer = show(&origin, APPLE, &json!({"token": twin})).await;
    answer.is_problem(401, "INVALID_ID_TOKEN");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 1);
    // It is forgotten when it is over.
    sqlx::query("UPDATE auth.outside_tokens SET expires_at = now()")
        .execute(&db)
        .await
        .expect("time passes");
    show(
        &origin,
        GOOGLE,
        &json!({"token": acme.id_token(Some("2")), "nonce": "2"}),
    )
    .await;
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.outside_tokens").await,
        1
    );
}

/// The same token with `n - s` in place of `s`.
fn twin(token: &str) -> String {
    use base64ct::{Base64UrlUnpadded, Encoding};
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let mut bytes = Base64UrlUnpadded::decode_vec(signature).expect("base64url");
    let mut borrow = 0_i16;
    for place in (0..32).rev() {
        let difference = i16::from(N[place]) - i16::from(bytes[32 + place]) - borrow;
        borrow = i16::from(difference < 0);
        bytes[32 + place] = u8::try_from(difference.rem_euclid(256)).expect("a byte");
    }
    format!("{signed}.{}", Base64UrlUnpadded::encode_string(&bytes))
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_token_that_an_app_shows_has_the_nonce_that_it_shows(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let refused = async |token: String, nonce: Value| {
        let answer = show(&origin, APPLE, &json!({"token": token, "nonce": nonce})).await;
        answer.is_problem(401, "INVALID_ID_TOKEN");
    };
    refused(acme.id_token(Some("mine")), json!("another")).await;
    refused(acme.id_token(Some("mine")), Value::Null).await;
    refused(acme.id_token(None), json!("mine")).await;
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 0);
    // As apps for Apple's devices do: the hash is in the token.
    let hashed = hex::encode(Sha256::digest("mine"));
    let body = json!({"token": acme.id_token(Some(&hashed)), "nonce": "mine"});
    assert_eq!(show(&origin, APPLE, &body).await.status, StatusCode::OK);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_apps_token_for_another_client_or_of_another_time_is_worth_nothing(db: PgPool) {
    let acme = Provider::start().await;
    let origin = acme.origin(&db, &[]).await;
    let now = rim::now().timestamp();
    for claims in [
        json!({"aud": "another app"}),
        json!({"aud": NATIVE.to_uppercase()}),
        json!({"aud": [NATIVE, "another app"]}),
        json!({"aud": []}),
        json!({"iss": "https://accounts.google.com"}),
        json!({"exp": now - 31}),
        json!({"exp": i64::MAX}),
        json!({"iat": now + 60}),
    ] {
        acme.acme().claims = claims.clone();
        let answer = show(&origin, GOOGLE, &json!({"token": acme.id_token(None)})).await;
        assert_eq!(answer.status, 401, "{claims}: {answer:?}");
        answer.is_problem(401, "INVALID_ID_TOKEN");
    }
    for garbage in ["", "x", "a.b.c", "é", "eyJhbGciOiJub25lIn0.e30."] {
        show(&origin, GOOGLE, &json!({"token": garbage}))
            .await
            .is_problem(401, "INVALID_ID_TOKEN");
    }
    acme.acme().claims = json!({});
    acme.acme().somebody = Some(Somebody {
        email_verified: json!(false),
        ..ADA
    });
    show(&origin, GOOGLE, &json!({"token": acme.id_token(None)}))
        .await
        .is_problem(403, "PROVIDER_EMAIL_UNVERIFIED");
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 0);
    let body = json!({"token": 1, "deviceInfo": "phone"});
    let answer = show(&origin, GOOGLE, &body).await;
    assert_eq!(answer.pointers(), ["/token", "/deviceInfo"]);
    // Where no Google is configured.
    let without = Origin::start(&db).await;
    show(&without, GOOGLE, &json!({"token": "x"}))
        .await
        .is_problem(404, "NOT_FOUND");
}
