//! Sign-ins that come all at once, and everybody else.

use std::time::Duration;

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream::FuturesUnordered,
};
use serde_json::json;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::time::timeout;

use crate::support::{AT_A_LOCK, Origin, PASSWORD, Person, count, waiting};

const SIGN_INS: usize = 3_000;
/// Fewer than the connections of an origin's pool.
const PLACES: usize = 4;

/// An origin with few places, whose sign-ins wait at a table until the transaction ends.
async fn held_up(
    db: &PgPool,
    lock: &'static str,
) -> (Origin, Person, Transaction<'static, Postgres>) {
    let flags = ["--password-workers=1", "--password-queue=3"];
    let origin = Origin::start_with(db, &flags).await;
    let ada = origin.join("ada@example.org").await;
    let mut holder = db.begin().await.expect("a transaction");
    sqlx::query(lock)
        .execute(&mut *holder)
        .await
        .expect("a lock");
    (origin, ada, holder)
}

/// None of them gets on, as if the database were slow: whoever has no place in the queue of hashes must
/// hold no connection.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_flood_of_sign_ins_leaves_the_database_to_others(db: PgPool) {
    let lock = "LOCK TABLE auth.failures IN EXCLUSIVE MODE";
    let (origin, ada, holder) = held_up(&db, lock).await;

    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let flood = (0..SIGN_INS).map(|_| origin.post("/api/v1/auth/login", None, &body));
    let another = async {
        timeout(Duration::from_secs(10), waiting(&db, 4))
            .await
            .expect("sign-ins at the lock");
        let balance = origin.get("/api/v1/credits/balance", &ada.access).await;
        holder.commit().await.expect("released");
        balance
    };
    let (answers, balance) = join(join_all(flood), another).await;
    assert_eq!(balance.status, 200, "{balance:?}");
    let (signed_in, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(signed_in.len(), PLACES);
    for answer in refused {
        answer.is_problem(503, "OVERLOADED");
        assert_eq!(answer.headers["retry-after"], "2");
    }
}

/// Hashing is faster than writing down that somebody signs in: they keep their places meanwhile.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn sign_ins_that_wait_to_be_written_leave_the_database_to_others(db: PgPool) {
    let lock = "LOCK TABLE auth.devices IN EXCLUSIVE MODE";
    let (origin, ada, holder) = held_up(&db, lock).await;

    let body = json!({"email": "ada@example.org", "password": PASSWORD});
    let (mut under_way, mut refused) = (FuturesUnordered::new(), 0);
    for _ in 0..3 * PLACES {
        let waited = count(&db, AT_A_LOCK).await;
        under_way.push(origin.post("/api/v1/auth/login", None, &body));
        let settled = async {
            loop {
                tokio::select! {
                    Some(answer) = under_way.next() => {
                        answer.is_problem(503, "OVERLOADED");
                        refused += 1;
                        break;
                    }
                    now = count(&db, AT_A_LOCK) => if now > waited {
                        break;
                    }
                }
            }
        };
        timeout(Duration::from_secs(10), settled)
            .await
            .expect("a sign-in at the lock, or an answer");
    }
    let balance = origin.get("/api/v1/credits/balance", &ada.access).await;
    assert_eq!(balance.status, 200, "{balance:?}");
    holder.commit().await.expect("released");
    while let Some(answer) = under_way.next().await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(refused, 2 * PLACES);
}
