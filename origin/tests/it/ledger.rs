//! What Postgres itself refuses, whoever asks, and what verification sees.

use origin::verification;
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
    let unbalanced = "INSERT INTO credits.transactions
            (user_id, version, id, type, amount, free_after, paid_after, free, issuance, created_at)
        SELECT user_id, 9, gen_random_uuid(), 'grant', 5, 5, 0, 5, -4, now() FROM credits.balances";
    assert_eq!(
        refusal(&db, unbalanced).await,
        (
            "23514".to_owned(),
            Some("transactions_sum_to_zero".to_owned())
        )
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_past_cannot_be_changed(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    origin.spend(&ada, 1.0, None).await;
    for statement in [
        "UPDATE credits.transactions SET amount = 1",
        "DELETE FROM credits.transactions",
        "TRUNCATE credits.transactions",
        "UPDATE credits.allocations SET amount = 1",
        "DELETE FROM credits.allocations",
        "TRUNCATE credits.allocations",
        "UPDATE credits.references SET reference = ''",
        "DELETE FROM credits.references",
        "TRUNCATE credits.references",
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
            "balances_not_negative",
        ),
        (
            "UPDATE credits.balances SET paid = -1",
            "balances_not_negative",
        ),
        (
            "UPDATE credits.balances SET held = -1",
            "balances_not_negative",
        ),
        (
            "UPDATE credits.balances SET debt = -1",
            "balances_not_negative",
        ),
        (
            "UPDATE credits.balances SET total_earned = -1",
            "balances_not_negative",
        ),
        (
            "UPDATE credits.balances SET total_spent = -1",
            "balances_not_negative",
        ),
        (
            "UPDATE credits.balances SET lot_left = -1",
            "balances_not_negative",
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
            "INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, created_at)
             SELECT user_id, 9, gen_random_uuid(), 'spend', 1, -1, 0, now() FROM credits.balances",
            "transactions_never_overdrawn",
        ),
        (
            "INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, created_at)
             SELECT user_id, 9, gen_random_uuid(), 'spend', 1, 0, -1, now() FROM credits.balances",
            "transactions_never_overdrawn",
        ),
        (
            "INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, created_at)
             SELECT user_id, 9, gen_random_uuid(), 'spend', -1, 0, 0, now() FROM credits.balances",
            "transactions_amount_positive",
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

/// What `verify` is worth: each of these is seen.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn verification_sees_what_does_not_add_up(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    origin.spend(&ada, 1.0, None).await;
    for (tampering, rule) in [
        ("UPDATE credits.balances SET free = free + 1", "balance.free is the sum of its entries"),
        ("UPDATE credits.balances SET paid = paid + 1", "balance.paid is the sum of its entries"),
        ("UPDATE credits.balances SET held = held + 1", "balance.held is what open holds have"),
        ("UPDATE credits.balances SET debt = debt + 1", "balance.debt is the sum of its entries"),
        ("UPDATE credits.balances SET total_earned = total_earned + 1", "balance.total_earned is the sum of its entries"),
        ("UPDATE credits.balances SET total_spent = total_spent + 1", "balance.total_spent is the sum of its entries"),
        ("UPDATE credits.balances SET version = version + 1", "versions run from 1 to balance.version"),
        ("UPDATE credits.grants SET remaining = remaining - 1 WHERE remaining > 0", "what left a lot was burned of it"),
        ("UPDATE credits.grants SET remaining = remaining - 1 WHERE remaining > 0", "balance.free is what free lots have left"),
        ("UPDATE credits.balances SET lot_left = lot_left - 1", "what left a lot was burned of it"),
        ("UPDATE credits.balances SET lot_left = lot_left - 1", "balance.free is what free lots have left"),
        ("UPDATE credits.balances SET lot = lot + 1", "the lot that burns comes first, and has not more left than it had"),
        ("UPDATE credits.balances SET lot = NULL", "the lot that burns comes first, and has not more left than it had"),
        ("UPDATE credits.balances SET lot_left = 0", "the lot that burns comes first, and has not more left than it had"),
        ("UPDATE credits.grants SET expires_at = now() + interval '1 day'", "balance.due_at is not after the first expiry"),
        ("UPDATE credits.balances SET counted = version", "usage is what was spent"),
        ("UPDATE credits.balances SET counted = version", "usage has as many uses as there were"),
        (
            "INSERT INTO credits.usage_days (user_id, day, app_id, spent, uses)
             SELECT user_id, '2001-01-01', 'app', 1, 1 FROM credits.balances",
            "usage is what was spent",
        ),
        (
            "INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, created_at)
             SELECT user_id, 4, gen_random_uuid(), 'grant', 1, free, paid, now() FROM credits.balances",
            "a transaction moves something",
        ),
        (
            "INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, lot, created_at)
             SELECT user_id, 4, gen_random_uuid(), 'spend', 1, 0, 0, 1, now() FROM credits.balances",
            "a transaction is whole",
        ),
        (
            "INSERT INTO credits.transactions
                 (user_id, version, id, type, amount, free_after, paid_after, lot, lot_amount, created_at)
             SELECT user_id, 4, gen_random_uuid(), 'spend', 1, 0, 0, 1, 0, now() FROM credits.balances",
            "a transaction is whole",
        ),
        (
            "INSERT INTO credits.transactions
                 (user_id, version, id, type, amount, free_after, paid_after, idempotency_key, fingerprint, created_at)
             SELECT user_id, 4, gen_random_uuid(), 'spend', 1, 0, 0, 'k', '', now() FROM credits.balances",
            "a transaction is whole",
        ),
        (
            "INSERT INTO credits.transactions
                 (user_id, version, id, type, amount, free_after, paid_after, app_id, idempotency_key, created_at)
             SELECT user_id, 4, gen_random_uuid(), 'spend', 1, 0, 0, 'app', 'k', now() FROM credits.balances",
            "a transaction is whole",
        ),
        (
            "INSERT INTO credits.transactions
                 (user_id, version, id, type, amount, free_after, paid_after, free, issuance, created_at)
             SELECT user_id, 4, gen_random_uuid(), 'grant', 5, 7, 0, 5, -5, now() FROM credits.balances",
            "what a transaction leaves is the sum up to it",
        ),
        (
            "INSERT INTO credits.allocations (user_id, version, grant_version, amount)
             SELECT user_id, version, 2, 1 FROM credits.transactions WHERE type = 'spend'",
            "a charge or hold burned its amount",
        ),
        (
            "INSERT INTO credits.holds (user_id, version, id, opened_by, amount, expires_at, state, settled_version)
             SELECT user_id, 3, gen_random_uuid(), 'user', 1, now(), 'voided', 3 FROM credits.balances",
            "a hold is settled once",
        ),
        (
            "INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, of_version, created_at)
             SELECT user_id, 4, gen_random_uuid(), 'refund', 1001, 0, 0, 3, now() FROM credits.balances",
            "refunds stay within their charge",
        ),
        (
            "INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, of_version, created_at)
             SELECT user_id, 4, gen_random_uuid(), 'refund', 1, 0, 0, 3, now() FROM credits.balances",
            "a refund has its reference",
        ),
        (
            "INSERT INTO credits.references (user_id, version, type, reference, of_version)
             SELECT user_id, 3, 'refund', 'r', 3 FROM credits.balances",
            "a refund has its reference",
        ),
        (
            "INSERT INTO credits.transactions
                 (user_id, version, id, type, amount, free_after, paid_after, app_id, idempotency_key, fingerprint, created_at)
             SELECT user_id, v, gen_random_uuid(), 'spend', 1, 0, 0, 'app', 'k', '', now()
             FROM credits.balances, generate_series(4, 5) v",
            "a key has one transaction",
        ),
        ("UPDATE credits.grants SET kind = 'paid'", "what a transaction moves in free is what its free lots do"),
        ("UPDATE credits.grants SET kind = 'paid'", "what a transaction moves in paid is what its paid lots do"),
        (
            "INSERT INTO credits.allocations (user_id, version, grant_version, amount)
             SELECT user_id, version, lot, 1 FROM credits.transactions WHERE lot IS NOT NULL",
            "a transaction names a lot once",
        ),
        (
            "INSERT INTO credits.purchases (user_id, id, package_id, credits, price_cents, currency, state, payment_intent, paid_at)
             SELECT user_id, gen_random_uuid(), 'p', 1, 1, 'eur', 'paid', 'pi', now() FROM credits.balances",
            "a paid purchase brought its credits, less what was paid back",
        ),
        (
            "WITH paid AS (
                 INSERT INTO credits.stripe_payments (payment_intent, refunded_cents) VALUES ('pi', 1)
             ) INSERT INTO credits.purchases (user_id, id, package_id, credits, price_cents, currency, state, payment_intent, paid_at)
             SELECT user_id, gen_random_uuid(), 'p', 1, 1, 'eur', 'paid', 'pi', now() FROM credits.balances",
            "what is taken back is what was paid back",
        ),
        (
            "UPDATE credits.grants SET source = 'purchase' WHERE source = 'signup'",
            "a lot that was bought belongs to a purchase",
        ),
    ] {
        let mut tampered = db.begin().await.expect("a transaction");
        sqlx::query(tampering)
            .execute(&mut *tampered)
            .await
            .expect(tampering);
        let report = verification::run(&mut tampered).await.expect("a look");
        assert!(
            report.differences.iter().any(|found| found.rule == rule),
            "{tampering}: {:#?}",
            report.differences
        );
    }
    assert_ledger_adds_up(&db).await;
}
