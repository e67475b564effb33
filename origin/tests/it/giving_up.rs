//! A client goes away in the middle of a request: what it has begun is done to its end, and nothing is
//! left behind that others would trip over.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use serde_json::json;
use sqlx::PgPool;
use tokio::{task::yield_now, time::timeout};

use crate::{
    line::Line,
    support::{Origin, PASSWORD, Person, count},
};

/// For hanging, not for speed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A connection takes the next one's write for good, and not as a part of a transaction that nobody ends.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_transaction_that_is_given_up_is_not_left_open(db: PgPool) {
    // No answer is there before it is waited for: what carries it has its turn only then.
    let line = Line::to(&db).await;
    let origin = line.origin_with(&["--database-pool=1"]).await;
    let ada = origin.join("ada@example.org").await;
    let user = ada.id.parse().expect("an id");
    let look = async || {
        let transaction = origin.app.db.as_user(user).await.expect("a transaction");
        transaction.commit().await.expect("its end");
    };
    let mut steps = 1;
    loop {
        // A connection is given back a little after whoever had it is done.
        let given_back = async {
            while origin.app.db.pool().num_idle() == 0 {
                yield_now().await;
            }
        };
        let waited = timeout(LONGEST_WAIT, given_back).await;
        assert!(waited.is_ok(), "it is given back");
        if given_up(steps, look()).await.is_some() {
            break;
        }
        begin_a_purchase(&origin, &ada).await;
        let there = count(&db, "SELECT count(*) FROM credits.purchases").await;
        assert_eq!(there, i64::from(steps), "after {steps} steps");
        steps += 1;
    }
    // It waits for the database: to begin, to say who acts, and to end.
    assert!(steps > 3, "given up {steps} times");
}

/// One statement, which is its own transaction.
async fn begin_a_purchase(origin: &Origin, buyer: &Person) {
    sqlx::query("SELECT FROM credits.begin_purchase($1::uuid, gen_random_uuid(), 'credits-350')")
        .bind(&buyer.id)
        .fetch_one(origin.app.db.pool())
        .await
        .expect("a purchase begins");
}

/// The right password of somebody who does not wait for the answer is no failure to guess it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sign_in_that_is_given_up_is_a_sign_in(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let sign_in = origin.post("/api/v1/auth/login", None, &body);
    assert!(given_up(1, sign_in).await.is_none(), "it takes a while");
    let sessions = "SELECT count(*) FROM auth.sessions";
    let signed_in = async { while count(&db, sessions).await == 0 {} };
    let waited = timeout(LONGEST_WAIT, signed_in).await;
    assert!(waited.is_ok(), "it goes on by itself");
    let failures = "SELECT count(*) FROM auth.failures WHERE level > 0";
    assert_eq!(count(&db, failures).await, 0);
}

/// A process that is gone without a word keeps nobody waiting for what it had locked.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_transaction_that_nobody_goes_on_with_is_ended_by_the_database(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut own = origin.app.db.connect().await.expect("a connection");
    let limit = || {
        let limit = "SELECT current_setting('idle_in_transaction_session_timeout')";
        sqlx::query_scalar::<_, String>(limit)
    };
    let shared = limit().fetch_one(origin.app.db.pool()).await;
    for limit in [shared, limit().fetch_one(&mut own).await] {
        assert_eq!(limit.expect("a setting"), "20s");
    }
}

/// What comes of it, unless it has to wait so many times.
async fn given_up<T>(waits: u32, future: impl Future<Output = T>) -> Option<T> {
    advanced(waits, pin!(future)).await
}

/// What has come of it after so many waits, if it has ended.
pub async fn advanced<F: Future>(waits: u32, mut future: Pin<&mut F>) -> Option<F::Output> {
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
