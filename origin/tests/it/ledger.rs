//! What Postgres itself refuses, whoever asks, and what one spend of a batch does to the others.

use sqlx::PgPool;

use crate::support::{Origin, assert_ledger_adds_up, count};

/// The SQLSTATE and the constraint with which a statement is refused.
async fn refusal(db: &PgPool, statement: &'static str) -> (String, Option<String>) {
    let error = sqlx::query(statement)
        .execute(db)
        .await
        .expect_err(statement);
    let error = error
        .as_database_error()
        .expect("Postgres refuses")
        .to_owned();
    (
        error.code().expect("a code").into_owned(),
        error.constraint().map(str::to_owned),
    )
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_transaction_that_does_not_sum_to_zero_is_refused(db: PgPool) {
    Origin::start(&db).await.register("ada@example.org").await;
    let unbalanced = "INSERT INTO credits.entries (user_id, version, account, amount, balance_after)
        SELECT user_id, 9, account, amount, after FROM credits.balances,
            (VALUES ('free', 5, 5::bigint), ('issuance', -4, NULL)) AS entry (account, amount, after)";
    assert_eq!(
        refusal(&db, unbalanced).await,
        ("23514".to_owned(), Some("entries_sum_to_zero".to_owned()))
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_past_cannot_be_changed(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    origin.spend(&ada, 1.0, None).await;
    for statement in [
        "UPDATE credits.entries SET amount = 1",
        "DELETE FROM credits.entries",
        "TRUNCATE credits.entries",
        "UPDATE credits.transactions SET amount = 1",
        "DELETE FROM credits.transactions",
        "TRUNCATE credits.transactions",
        "UPDATE credits.allocations SET amount = 1",
        "DELETE FROM credits.allocations",
        "TRUNCATE credits.allocations",
    ] {
        assert_eq!(refusal(&db, statement).await.0, "23001", "{statement}");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nothing_goes_below_zero(db: PgPool) {
    Origin::start(&db).await.register("ada@example.org").await;
    for (statement, constraint) in [
        (
            "UPDATE credits.balances SET free = -1",
            "balances_free_not_negative",
        ),
        (
            "UPDATE credits.balances SET paid = -1",
            "balances_paid_not_negative",
        ),
        (
            "UPDATE credits.balances SET held = -1",
            "balances_held_not_negative",
        ),
        (
            "UPDATE credits.balances SET debt = -1",
            "balances_debt_not_negative",
        ),
        (
            "UPDATE credits.grants SET remaining = -1",
            "grants_remaining_within",
        ),
        (
            "UPDATE credits.grants SET remaining = amount + 1",
            "grants_remaining_within",
        ),
        (
            "INSERT INTO credits.entries (user_id, version, account, amount, balance_after)
             SELECT user_id, 9, 'free', -1, -1 FROM credits.balances",
            "entries_never_overdrawn",
        ),
    ] {
        assert_eq!(
            refusal(&db, statement).await.1.as_deref(),
            Some(constraint),
            "{statement}"
        );
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_day_is_granted_once_even_when_the_wallet_forgets(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    origin.spendable(&ada).await;
    sqlx::query("UPDATE credits.balances SET daily_on = NULL")
        .execute(&db)
        .await
        .expect("it forgets");
    origin
        .get("/api/v1/credits/balance", &ada.access)
        .await
        .is_problem(500, "INTERNAL");
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM credits.grants WHERE source = 'daily'"
        )
        .await,
        1
    );
}

/// Two users, an unknown one, an overdraft, a key used twice and one used for something else:
/// one batch, and each spend gets what it would have got alone.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_refused_spend_does_not_spoil_its_neighbours(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.register("ada@example.org").await;
    origin.register("eve@example.org").await;
    let outcomes: Vec<String> = sqlx::query_scalar(
        r"WITH someone AS (
              SELECT (SELECT id FROM auth.users WHERE email LIKE 'ada%') AS ada,
                     (SELECT id FROM auth.users WHERE email LIKE 'eve%') AS eve,
                     array_fill(NULL::uuid, ARRAY[7]) AS no_session
          )
          SELECT outcome FROM someone, credits.spend(
              ARRAY(SELECT gen_random_uuid() FROM generate_series(1, 7)),
              ARRAY[eve, ada, gen_random_uuid(), ada, ada, ada, eve], no_session,
              ARRAY[1000, 150000, 1, 9999, 1000, 1001, 155000],
              array_fill('app'::text, ARRAY[7]), array_fill('d'::text, ARRAY[7]), array_fill(NULL::jsonb, ARRAY[7]),
              ARRAY[NULL, NULL, NULL, NULL, 'k', 'k', NULL],
              ARRAY['1', '2', '3', '4', '5', '6', '7']::bytea[], 5000, false)",
    )
    .fetch_all(&db)
    .await
    .expect("a batch");
    assert_eq!(
        outcomes,
        [
            "spent",
            "spent",
            "unknown_user",
            "insufficient",
            "spent",
            "mismatch",
            "insufficient"
        ]
    );
    assert_ledger_adds_up(&db).await;
}

/// A retry after a lost connection carries the id of its first attempt.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_spend_without_a_key_is_found_by_its_id(db: PgPool) {
    Origin::start(&db).await.register("ada@example.org").await;
    for outcome in ["spent", "replayed"] {
        let said: String = sqlx::query_scalar(
            "SELECT outcome FROM auth.users, credits.spend(
                 ARRAY['00000000-0000-7000-8000-000000000001'::uuid], ARRAY[id], ARRAY[NULL::uuid], ARRAY[1000],
                 ARRAY['app'], ARRAY['d'], ARRAY[NULL::jsonb], ARRAY[NULL], ARRAY['1']::bytea[], 0, false)",
        )
        .fetch_one(&db)
        .await
        .expect("a spend");
        assert_eq!(said, outcome);
    }
    assert_ledger_adds_up(&db).await;
}
