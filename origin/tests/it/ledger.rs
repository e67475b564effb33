//! What Postgres itself refuses, whoever asks, and what one spend of a batch does to the others.

use origin::verification;
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{Origin, add_lot, assert_ledger_adds_up, count};

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
            "INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, created_at)
             SELECT user_id, 9, gen_random_uuid(), 'spend', 1, -1, 0, now() FROM credits.balances",
            "transactions_never_overdrawn",
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

/// Two users, an unknown one, an overdraft, a key used before and one used for something else:
/// one batch, and each gets what it would have got alone.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_refused_charge_does_not_spoil_its_neighbours(db: PgPool) {
    let origin = Origin::start(&db).await;
    let mut people = [
        origin.join("ada@example.org").await,
        origin.join("eve@example.org").await,
    ];
    people.sort_by(|a, b| a.id.cmp(&b.id));
    let [first, second] = &people;
    for person in &people {
        origin.spend(person, 1.0, Some("used")).await;
    }
    let nobody = "ffffffff-ffff-7fff-8fff-ffffffffffff";
    let (a, b) = (first.id.as_str(), second.id.as_str());
    let outcomes = post(
        &db,
        &[
            (a, 1_000, Some("other values")),
            (a, 149_000, None),
            (a, 9_999, None),
            (a, 1_000, Some("used")),
            (b, 154_000, None),
            (b, 1, None),
            (nobody, 1, None),
        ],
    )
    .await;
    assert_eq!(
        outcomes,
        [
            "posted",
            "posted",
            "insufficient",
            "mismatch",
            "posted",
            "insufficient",
            "signed_out",
        ]
    );
    assert_ledger_adds_up(&db).await;
}

/// A charge that takes from more lots than are read at once.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn one_charge_may_empty_many_lots(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let ada = origin.join("ada@example.org").await;
    for days in 1..=20 {
        add_lot(&db, "free", 1_000, Some(days)).await;
    }
    assert_eq!(origin.spend(&ada, 0.5, None).await.status, 200);
    assert_eq!(origin.spend(&ada, 18.0, None).await.status, 200);
    assert_eq!(
        count(&db, "SELECT count(*) FROM credits.grants WHERE spendable").await,
        2
    );
    origin
        .spend(&ada, 1.501, None)
        .await
        .is_problem(402, "INSUFFICIENT_CREDITS");
    assert_eq!(origin.spend(&ada, 1.5, None).await.status, 200);
    assert_ledger_adds_up(&db).await;
}

/// Nobody pays out of the lots of whoever is next in the batch, when more than those that are
/// read at once are used up.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn charges_of_one_batch_may_empty_many_lots(db: PgPool) {
    let origin = Origin::start_with(&db, &["--credits-signup-bonus=0", "--credits-daily=0"]).await;
    let mut people = [
        origin.join("ada@example.org").await.id,
        origin.join("eve@example.org").await.id,
    ];
    people.sort();
    for days in 1..=20 {
        add_lot(&db, "free", 1_000, Some(days)).await;
    }
    let halves = people
        .iter()
        .flat_map(|person| [(person.as_str(), 500, None); 38]);
    let outcomes = post(&db, &halves.collect::<Vec<_>>()).await;
    assert_eq!(outcomes, ["posted"; 76]);
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM credits.grants WHERE remaining = 1000"
        )
        .await,
        2
    );
    assert_ledger_adds_up(&db).await;
}

/// A retry after a lost connection carries the id of its first attempt.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_charge_without_a_key_is_found_by_its_id(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    for again in [false, true, true] {
        let said: String = sqlx::query_scalar(
            "SELECT outcome FROM auth.sessions s, credits.post(
                 ARRAY['spend'], ARRAY['00000000-0000-7000-8000-000000000001'::uuid], ARRAY[s.user_id], ARRAY[s.id],
                 ARRAY['app'], ARRAY[1000], ARRAY['d'], ARRAY[NULL::jsonb], ARRAY[NULL], ARRAY['1']::bytea[],
                 ARRAY[NULL::uuid], ARRAY[0], $1, 0, false)",
        )
        .bind(again)
        .fetch_one(&db)
        .await
        .expect("a charge");
        assert_eq!(said, "posted");
    }
    assert!((origin.spendable(&ada).await - 154.0).abs() < f64::EPSILON);
    assert_ledger_adds_up(&db).await;
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
        ("UPDATE credits.balances SET total_spent = total_spent + 1", "usage is what was spent"),
        ("UPDATE credits.balances SET version = version + 1", "versions run from 1 to balance.version"),
        ("UPDATE credits.grants SET remaining = remaining - 1 WHERE remaining > 0", "what left a lot was burned of it"),
        ("UPDATE credits.grants SET remaining = remaining - 1 WHERE remaining > 0", "balance.free is what free lots have left"),
        ("UPDATE credits.grants SET expires_at = now() + interval '1 day'", "balance.due_at is not after the first expiry"),
        ("UPDATE credits.usage SET spent = spent + 1", "usage is what was spent"),
        (
            "INSERT INTO credits.transactions (user_id, version, id, type, amount, free_after, paid_after, created_at)
             SELECT user_id, 4, gen_random_uuid(), 'grant', 1, free, paid, now() FROM credits.balances",
            "a transaction moves something",
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

/// Posts charges of each person's latest session by hand; they are sorted by user already.
async fn post(db: &PgPool, charges: &[(&str, i64, Option<&str>)]) -> Vec<String> {
    let users: Vec<Uuid> = charges
        .iter()
        .map(|(user, ..)| user.parse().expect("an id"))
        .collect();
    let amounts: Vec<i64> = charges.iter().map(|(_, amount, _)| *amount).collect();
    let keys: Vec<Option<&str>> = charges.iter().map(|(_, _, key)| *key).collect();
    sqlx::query_scalar(
        "SELECT outcome FROM credits.post(
             array_fill('spend'::text, ARRAY[cardinality($1)]),
             ARRAY(
                 -- As the origin names what has a key.
                 SELECT CASE WHEN key IS NULL THEN gen_random_uuid() ELSE
                     encode(set_byte(set_byte(h, 6, get_byte(h, 6) & 15 | 128), 8, get_byte(h, 8) & 63 | 128), 'hex')::uuid
                 END
                 FROM unnest($3::text[]) WITH ORDINALITY AS k (key, i),
                      substr(sha256(convert_to(E'app\\n' || key, 'UTF8')), 1, 16) AS h
                 ORDER BY i
             ), $1,
             ARRAY(SELECT coalesce((SELECT id FROM auth.sessions WHERE user_id = u), gen_random_uuid()) FROM unnest($1) u),
             array_fill('app'::text, ARRAY[cardinality($1)]), $2, array_fill('d'::text, ARRAY[cardinality($1)]),
             array_fill(NULL::jsonb, ARRAY[cardinality($1)]), $3, array_fill('x'::bytea, ARRAY[cardinality($1)]),
             array_fill(NULL::uuid, ARRAY[cardinality($1)]), array_fill(0, ARRAY[cardinality($1)]), false, 5000, false)
         ORDER BY place",
    )
    .bind(&users)
    .bind(&amounts)
    .bind(&keys)
    .fetch_all(db)
    .await
    .expect("a batch")
}
