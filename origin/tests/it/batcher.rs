//! The batcher: what comes at once is written at once, and once, whatever breaks meanwhile.

use std::time::Duration;

use axum::http::StatusCode;
use futures_util::{FutureExt, future::join_all};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use tokio::time::{sleep, timeout};

use crate::{
    line::Line,
    support::{Origin, Person, assert_ledger_adds_up, count},
};

/// Holds every wallet, so that whatever is written waits.
async fn hold_up(db: &PgPool) -> Transaction<'static, Postgres> {
    let mut hold_up = db.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM credits.balances FOR UPDATE")
        .execute(&mut *hold_up)
        .await
        .expect("locks");
    hold_up
}

/// Waits until this many statements wait for a wallet.
pub async fn waiting(db: &PgPool, statements: i64) {
    let all = format!(
        "SELECT count(*) >= {statements} FROM pg_stat_activity WHERE datname = current_database()
         AND wait_event_type = 'Lock' AND query LIKE '%credits.post%'"
    );
    until_true(db, &all).await;
}

/// Waits until Postgres says so.
pub async fn until_true(db: &PgPool, condition: &str) {
    let comes = async {
        loop {
            let ask = sqlx::query_scalar(AssertSqlSafe(condition)).fetch_one(db);
            if ask.await.expect(condition) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_mins(1), comes)
        .await
        .expect(condition);
}

async fn people(origin: &Origin, number: usize) -> Vec<Person> {
    let mut people = Vec::new();
    for index in 0..number {
        people.push(origin.join(&format!("ada-{index}@example.org")).await);
    }
    people
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn charges_that_come_at_once_share_a_commit(db: PgPool) {
    let origin = Origin::start(&db).await;
    let people = people(&origin, 8).await;
    let hold_up = hold_up(&db).await;
    let spends = join_all(people.iter().flat_map(|person| {
        let spend = |_| origin.spend(person, 1.0, None);
        (0..8).map(spend)
    }));
    let (answers, ()) = tokio::join!(spends, async {
        waiting(&db, 1).await;
        hold_up.commit().await.expect("an end");
    });
    assert!(
        answers.iter().all(|answer| answer.status == StatusCode::OK),
        "{answers:?}"
    );
    let commits = count(
        &db,
        "SELECT count(DISTINCT xmin::text) FROM credits.transactions WHERE type = 'spend'",
    )
    .await;
    assert!(commits <= 4, "64 charges took {commits} commits");
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_goes_away_pays_once_and_sees_it_when_they_ask_again(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let hold_up = hold_up(&db).await;
    for _ in 0..3 {
        tokio::select! {
            answer = origin.spend(&ada, 10.0, Some("k")) => panic!("{answer:?}"),
            () = waiting(&db, 1) => {}
        }
    }
    hold_up.commit().await.expect("an end");
    let answer = origin.spend(&ada, 10.0, Some("k")).await;
    assert_eq!(answer.headers["idempotency-replayed"], "true", "{answer:?}");
    assert!((origin.spendable(&ada).await - 145.0).abs() < f64::EPSILON);
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_full_queue_says_so_and_nothing_else_is_lost(db: PgPool) {
    let origin = Origin::start_with(&db, &["--ledger-queue=4"]).await;
    let ada = origin.join("ada@example.org").await;
    let hold_up = hold_up(&db).await;
    let spends = join_all((0..32).map(|_| origin.spend(&ada, 1.0, None)));
    let (answers, ()) = tokio::join!(spends, async {
        waiting(&db, 1).await;
        hold_up.commit().await.expect("an end");
    });
    let mut charged = 0.0;
    for answer in &answers {
        if answer.status == StatusCode::OK {
            charged += 1.0;
        } else {
            answer.is_problem(503, "OVERLOADED");
            assert!(answer.headers.contains_key("retry-after"));
        }
    }
    assert!((4.0..32.0).contains(&charged), "{charged}");
    assert!((origin.spendable(&ada).await - (155.0 - charged)).abs() < f64::EPSILON);
    assert_ledger_adds_up(&db).await;
}

/// A wallet whose lots were tampered with fails its batch; nobody else does.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_batch_that_fails_is_tried_one_by_one(db: PgPool) {
    let origin = Origin::start(&db).await;
    let people = people(&origin, 6).await;
    sqlx::query("UPDATE credits.grants SET remaining = 0 WHERE user_id = $1::uuid")
        .bind(&people[3].id)
        .execute(&db)
        .await
        .expect("tampering");
    let hold_up = hold_up(&db).await;
    let spends = join_all(people.iter().map(|person| origin.spend(person, 10.0, None)));
    let (answers, ()) = tokio::join!(spends, async {
        waiting(&db, 1).await;
        hold_up.commit().await.expect("an end");
    });
    for (index, answer) in answers.iter().enumerate() {
        if index == 3 {
            answer.is_problem(500, "INTERNAL");
        } else {
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
    }
}

/// The line to Postgres breaks while the batch is being written, which it then is. Its end is
/// asked for, by the id that each charge had before its first attempt.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn an_unclear_end_is_looked_into_and_charged_once(db: PgPool) {
    let line = Line::to(&db).await;
    let origin = line.origin().await;
    let ada = origin.join("ada@example.org").await;
    assert_eq!(origin.spend(&ada, 1.0, None).await.status, StatusCode::OK);
    let hold_up = hold_up(&db).await;
    let (answer, ()) = tokio::join!(origin.spend(&ada, 10.0, None), async {
        waiting(&db, 1).await;
        line.break_off();
        waiting(&db, 2).await;
        hold_up.commit().await.expect("an end");
    });
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(!answer.headers.contains_key("idempotency-replayed"));
    assert_eq!(
        count(&db, "SELECT free FROM credits.balances").await,
        144_000
    );
    assert_ledger_adds_up(&db).await;
}

/// What was queued when the process was told to stop is carried out; nothing more is taken.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_queue_is_emptied_before_the_end(db: PgPool) {
    let origin = Origin::start(&db).await;
    let people = people(&origin, 4).await;
    let hold_up = hold_up(&db).await;
    let spends = join_all(people.iter().map(|person| origin.spend(person, 10.0, None)));
    let (answers, ()) = tokio::join!(spends, async {
        waiting(&db, 1).await;
        let mut drained = Box::pin(origin.app.ledger.drain());
        assert!(drained.as_mut().now_or_never().is_none());
        origin
            .spend(&people[0], 1.0, None)
            .await
            .is_problem(503, "OVERLOADED");
        hold_up.commit().await.expect("an end");
        drained.await;
    });
    assert!(
        answers.iter().all(|answer| answer.status == StatusCode::OK),
        "{answers:?}"
    );
}
