//! Credits that an admin grants or refunds are written down for whom they were moved.

use serde_json::json;
use sqlx::PgPool;

use crate::support::{Origin, assert_ledger_adds_up, count};

const EVENTS: &str =
    "SELECT count(*) FROM auth.security_events e JOIN auth.users u ON u.id = e.user_id
    JOIN auth.users a ON a.id = e.admin_id
    WHERE u.email = 'ada@example.org' AND a.email = 'root@example.org'
      AND e.type IN ('credits_granted', 'credits_refunded')";

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_an_admin_moves_is_written_down_once(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let admin = origin.join_as_admin(&db, "root@example.org").await;
    let grant = json!({"userId": ada.id, "amount": 7, "reason": "sorry", "referenceId": "r"});
    for _ in 0..2 {
        origin
            .post("/api/v1/credits/grants", Some(&admin.access), &grant)
            .await;
        assert_eq!(count(&db, EVENTS).await, 1);
    }
    // What was refused did not happen.
    let other = json!({"userId": ada.id, "amount": 8, "reason": "sorry", "referenceId": "r"});
    let grants = "/api/v1/credits/grants";
    let answer = origin.post(grants, Some(&admin.access), &other).await;
    assert!(answer.status.is_client_error(), "{answer:?}");
    assert_eq!(count(&db, EVENTS).await, 1);

    let charge = origin.spend(&ada, 3.0, None).await;
    let refund = json!({
        "userId": ada.id, "transactionId": charge.body["transaction"]["id"],
        "reason": "sorry", "referenceId": "r",
    });
    for _ in 0..2 {
        let answer = origin
            .post("/api/v1/credits/refunds", Some(&admin.access), &refund)
            .await;
        assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
        assert_eq!(count(&db, EVENTS).await, 2);
    }
    assert_ledger_adds_up(&db).await;
}
