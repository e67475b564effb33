use serde_json::{Value, json};

use super::*;

const PURCHASE: &str = "01987a3e-5f7a-7cc0-8000-000000000001";
const USER: &str = "01987a3e-5f7a-7cc0-8000-000000000002";
/// Made with another implementation: `openssl dgst -sha256 -hmac whsec_test` of `1700000000.{}`.
const SIGNATURE: &str = "35495024f4ef3f94e5a93e22221544c4b75e9a42300cd965ab81cb85cd994e91";

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_secs(seconds).expect("a time")
}

fn check(header: &str, body: &str, now: i64) -> Result<(), BadSignature> {
    let secrets = WebhookSecrets::parse("whsec_old, whsec_test").expect("secrets");
    secrets.check(header, body.as_bytes(), at(now))
}

#[test]
fn a_signature_is_good_for_five_minutes_around_its_time() {
    let header = format!("t=1700000000,v1={SIGNATURE}");
    for (now, verdict) in [
        (1_700_000_000, Ok(())),
        (1_700_000_300, Ok(())),
        (1_699_999_700, Ok(())),
        (1_700_000_301, Err(BadSignature::Stale)),
        (1_699_999_699, Err(BadSignature::Stale)),
    ] {
        assert_eq!(check(&header, "{}", now), verdict, "{now}");
    }
}

#[test]
fn one_good_signature_of_several_is_enough() {
    let header = format!("t=1700000000,v1=00,v1={SIGNATURE},v0=11");
    assert_eq!(check(&header, "{}", 1_700_000_000), Ok(()));
}

#[test]
fn nothing_else_is_a_signature() {
    let upside_down: String = SIGNATURE.chars().rev().collect();
    for (header, body, why) in [
        (String::new(), "{}", BadSignature::Missing),
        (format!("v1={SIGNATURE}"), "{}", BadSignature::Missing),
        ("t=1700000000".to_owned(), "{}", BadSignature::Wrong),
        (
            format!("t=1700000000,v0={SIGNATURE}"),
            "{}",
            BadSignature::Wrong,
        ),
        (
            format!("t=1700000000,v1={upside_down}"),
            "{}",
            BadSignature::Wrong,
        ),
        (
            format!("t=1700000000,v1={}", &SIGNATURE[..62]),
            "{}",
            BadSignature::Wrong,
        ),
        (
            format!("t=1700000001,v1={SIGNATURE}"),
            "{}",
            BadSignature::Wrong,
        ),
        (
            format!("t=1700000000,v1={SIGNATURE}"),
            "{ }",
            BadSignature::Wrong,
        ),
    ] {
        assert_eq!(check(&header, body, 1_700_000_000), Err(why), "{header}");
    }
}

#[test]
fn an_empty_secret_is_none() {
    for text in ["", "whsec_1,", ",whsec_1", " "] {
        assert!(WebhookSecrets::parse(text).is_none(), "{text:?}");
    }
}

fn news_of(r#type: &str, object: &Value) -> News {
    news_in(&json!({
        "id": "evt_1", "type": r#type, "created": 1, "livemode": false, "data": {"object": object},
    }))
}

fn news_in(event: &Value) -> News {
    read(event.to_string().as_bytes(), false)
        .unwrap_or_else(|why| panic!("{event}: {why}"))
        .news
}

fn session() -> Value {
    json!({
        "id": "cs_1", "payment_status": "paid", "payment_intent": "pi_1", "amount_total": 350,
        "currency": "eur", "metadata": {"purchaseId": PURCHASE, "userId": USER},
    })
}

#[test]
fn a_session_is_paid_only_when_it_says_so() {
    let state = |r#type: &str, payment_status: &str| {
        let mut session = session();
        session["payment_status"] = payment_status.into();
        match news_of(r#type, &session) {
            News::Checkout { state, .. } => state,
            other => panic!("{other:?}"),
        }
    };
    for (r#type, payment_status, expected) in [
        ("completed", "paid", "paid"),
        ("completed", "unpaid", "pending"),
        ("completed", "no_payment_required", "pending"),
        ("async_payment_succeeded", "paid", "paid"),
        ("async_payment_failed", "unpaid", "failed"),
        ("expired", "unpaid", "expired"),
    ] {
        let r#type = format!("checkout.session.{type}");
        assert_eq!(state(&r#type, payment_status), expected, "{type}");
    }
}

#[test]
fn what_is_of_no_concern_says_why() {
    let mut foreign = session();
    foreign["metadata"] = json!({"order": "7"});
    let mut bare = session();
    bare["metadata"] = Value::Null;
    let completed = "checkout.session.completed";
    let charge = json!({"payment_intent": null, "amount_refunded": 1});
    let dispute = json!({"id": "du_1", "payment_intent": "pi_1", "status": "brand_new"});
    for (r#type, object, why) in [
        (completed, foreign, Unconcerned::NotOurs),
        (completed, bare, Unconcerned::NotOurs),
        ("charge.refunded", charge, Unconcerned::NotOurs),
        (
            "charge.dispute.updated",
            dispute,
            Unconcerned::UnknownStatus,
        ),
        ("payout.paid", json!({}), Unconcerned::UnknownType),
    ] {
        assert_eq!(news_of(r#type, &object), News::Nothing(why), "{type}");
    }
    let event = |livemode: bool, account: Value| {
        news_in(&json!({
            "id": "evt_1", "type": completed, "created": 1, "livemode": livemode, "account": account,
            "data": {"object": session()},
        }))
    };
    assert_eq!(
        event(true, Value::Null),
        News::Nothing(Unconcerned::AnotherMode)
    );
    assert_eq!(
        event(false, json!("acct_1")),
        News::Nothing(Unconcerned::AnotherAccount)
    );
    assert!(matches!(event(false, Value::Null), News::Checkout { .. }));
}

#[test]
fn a_dispute_stands_as_its_status_says() {
    for (status, standing) in [
        ("warning_needs_response", "inquiry"),
        ("warning_closed", "inquiry"),
        ("needs_response", "open"),
        ("appeal_under_review", "open"),
        ("won", "won"),
        ("lost", "lost"),
        ("prevented", "lost"),
    ] {
        let dispute = json!({"id": "du_1", "payment_intent": "pi_1", "status": status});
        let expected = News::Dispute {
            payment: "pi_1".to_owned(),
            id: "du_1".to_owned(),
            standing,
        };
        assert_eq!(news_of("charge.dispute.closed", &dispute), expected);
    }
}

#[test]
fn what_is_no_event_is_an_error() {
    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"id":"evt_1","type":"charge.refunded","created":1,"livemode":false,"data":{"object":{"amount_refunded":"1"}}}"#,
    ] {
        assert!(read(body.as_bytes(), false).is_err(), "{body}");
    }
}
