//! A client that goes away in the middle of a request takes nothing along and leaves nothing
//! behind that others would trip over.

use std::{future::poll_fn, pin::pin, task::Poll};

use axum::http::StatusCode;
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{Origin, Person, count};

/// Whatever it was about to do, the connection that it had takes the next one's write for good, and
/// not as a part of a transaction that nobody ends.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_request_that_is_given_up_leaves_no_transaction_open(db: PgPool) {
    let origin = Origin::start_with(&db, &["--database-pool=1"]).await;
    let ada = origin.join("ada@example.org").await;
    let mut steps = 1;
    while given_up(steps, origin.get("/api/v1/credits/purchases", &ada.access))
        .await
        .is_none_or(|answer| answer.status != StatusCode::OK)
    {
        begin_a_purchase(&origin, &ada).await;
        let there = count(&db, "SELECT count(*) FROM credits.purchases").await;
        assert_eq!(there, i64::from(steps), "after {steps} steps");
        steps += 1;
    }
    // It waits for the database: to begin, to look, and to end.
    assert!(steps > 3, "given up {steps} times");
}

/// One statement, which is its own transaction.
async fn begin_a_purchase(origin: &Origin, buyer: &Person) {
    sqlx::query("SELECT FROM credits.begin_purchase($1::uuid, $2, 'credits-350')")
        .bind(&buyer.id)
        .bind(Uuid::new_v4())
        .fetch_one(origin.app.db.pool())
        .await
        .expect("a purchase begins");
}

/// What comes of it, unless it has to wait so many times.
async fn given_up<T>(waits: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = waits;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            left -= 1;
            if left == 0 {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        }
    })
    .await
}
