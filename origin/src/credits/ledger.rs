//! The SQL of credits. Charges and holds are one round trip and one commit for a whole batch, a
//! call of `credits.post_batch`, which locks its balances in user order and answers each by itself.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value, json};
use shared::{
    api::{Balance, Grant, Hold, Refund, Transaction, Usage},
    credits::Credits,
    ids::{SessionId, TransactionId, UserId},
};
use sqlx::{PgConnection, PgExecutor, types::Json};
use uuid::Uuid;

use crate::{config::CreditsConfig, db::Pool};

use super::{
    Error,
    operation::{Operation, fingerprint},
    verification::Difference,
};

/// What grants may bring a wallet to, in thousandths: below [`Credits::MAX`] by a million
/// credits, which leaves room for what comes by itself.
const MOST_EARNED: i64 = Credits::MAX.thousandths() - 1_000_000_000;

/// What the ledger said to one operation.
#[derive(Debug)]
pub struct Outcome {
    /// `posted`, `replayed`, or why not.
    pub kind: String,
    /// The transaction, where there is one.
    pub transaction_id: Option<Uuid>,
    /// Its amount.
    pub amount: Option<i64>,
    /// The free part after it or, where it was refused, as it is.
    pub free: Option<i64>,
    /// The paid part likewise.
    pub paid: Option<i64>,
    /// When it was written.
    pub created_at: Option<DateTime<Utc>>,
    /// Which app charges.
    pub app_id: Option<String>,
    /// For what.
    pub description: Option<String>,
}

/// Writes a batch with one statement and one commit; the outcomes are in the order of the
/// operations, which are sorted by user and settlements first. `again` looks whether they were
/// done before.
pub async fn post(
    db: &mut PgConnection,
    operations: &[&Operation],
    again: bool,
    rules: CreditsConfig,
) -> sqlx::Result<Vec<Outcome>> {
    fn each<'a, T>(all: &[&'a Operation], one: impl Fn(&'a Operation) -> T) -> Vec<T> {
        all.iter().map(|operation| one(operation)).collect()
    }
    let said = sqlx::query!(
        r#"SELECT outcomes AS "outcomes!: Vec<Option<String>>", transaction_ids AS "ids!: Vec<Option<Uuid>>",
                  amounts AS "amounts!: Vec<Option<i64>>", free AS "free!: Vec<Option<i64>>",
                  paid AS "paid!: Vec<Option<i64>>", created_at AS "times!: Vec<Option<DateTime<Utc>>>",
                  app_ids AS "apps!: Vec<Option<String>>", descriptions AS "descriptions!: Vec<Option<String>>"
           FROM credits.post_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"#,
        again,
        &each(operations, Operation::kind) as &[&str],
        &each(operations, |operation| operation.id().uuid()),
        &each(operations, |operation| operation.user.uuid()),
        &each(operations, |operation| operation.by.opener()),
        &each(operations, |operation| operation.by.session().map(SessionId::uuid)) as &[Option<Uuid>],
        &each(operations, Operation::app) as &[Option<&str>],
        &each(operations, |operation| operation.amount().map(Credits::thousandths)) as &[Option<i64>],
        &each(operations, Operation::description) as &[Option<&str>],
        &each(operations, |operation| operation.metadata().map(Json)) as &[Option<Json<&Value>>],
        &each(operations, Operation::key) as &[Option<String>],
        &each(operations, |operation| operation.fingerprint().as_slice()) as &[&[u8]],
        &each(operations, |operation| operation.hold().map(TransactionId::uuid)) as &[Option<Uuid>],
        &each(operations, Operation::lifetime_secs),
        rules.credits_daily.thousandths(),
        rules.credits_daily_expires,
    )
    .fetch_one(db)
    .await?;
    let (mut ids, mut times) = (said.ids.into_iter(), said.times.into_iter());
    let (mut amounts, mut free, mut paid) = (
        said.amounts.into_iter(),
        said.free.into_iter(),
        said.paid.into_iter(),
    );
    let (mut apps, mut descriptions) = (said.apps.into_iter(), said.descriptions.into_iter());
    let outcomes = said.outcomes.into_iter().map(|kind| Outcome {
        // Of a charge that was made nothing more is said.
        kind: kind.unwrap_or_else(|| "posted".to_owned()),
        transaction_id: ids.next().flatten(),
        amount: amounts.next().flatten(),
        free: free.next().flatten(),
        paid: paid.next().flatten(),
        created_at: times.next().flatten(),
        app_id: apps.next().flatten(),
        description: descriptions.next().flatten(),
    });
    Ok(outcomes.collect())
}

/// What somebody has, the day's free credits included; an app sees that of its own people.
pub async fn balance(
    db: &Pool,
    user: UserId,
    app: Option<&str>,
    rules: CreditsConfig,
) -> Result<Balance, Error> {
    let row = sqlx::query!(
        r#"SELECT paid AS "paid!", free AS "free!", held AS "held!", total_earned AS "earned!",
                  total_spent AS "spent!", version AS "version!"
           FROM credits.balance($1, $2, $3, $4)"#,
        user.uuid(),
        app,
        rules.credits_daily.thousandths(),
        rules.credits_daily_expires,
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::NoSuchUser)?;
    Ok(Balance {
        balance: credits(row.paid)?,
        free_credits_remaining: credits(row.free)?,
        daily_free_credits: rules.credits_daily,
        held: credits(row.held)?,
        total_earned: credits(row.earned)?,
        total_spent: credits(row.spent)?,
        version: row.version,
    })
}

/// Gives credits once for their reference, as an admin or as `app`.
pub async fn grant(
    db: impl PgExecutor<'_>,
    id: TransactionId,
    app: Option<&str>,
    grant: &Grant,
) -> sqlx::Result<Outcome> {
    let expires_at = grant.expires_at.map(shared::api::Moment::time);
    let values = json!([
        grant.amount.credits().thousandths(),
        grant.kind.as_str(),
        expires_at,
        grant.reason.as_str(),
    ]);
    sqlx::query_as!(
        Outcome,
        r#"SELECT outcome AS "kind!", transaction_id, amount, free, paid, created_at,
                  NULL AS app_id, NULL AS description
           FROM credits.grant($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"#,
        id.uuid(),
        grant.user_id.uuid(),
        app,
        grant.amount.credits().thousandths(),
        grant.kind.as_str(),
        expires_at,
        grant.reason.as_str(),
        grant.reference_id.as_str(),
        &fingerprint(&values),
        MOST_EARNED,
    )
    .fetch_one(db)
    .await
}

/// Refunds a charge once for its reference, as an admin or as the `app` that charged.
pub async fn refund(
    db: impl PgExecutor<'_>,
    id: TransactionId,
    app: Option<&str>,
    refund: &Refund,
) -> sqlx::Result<Outcome> {
    let amount = refund.amount.map(|amount| amount.credits().thousandths());
    let values = json!([refund.transaction_id, amount, refund.reason.as_str()]);
    sqlx::query_as!(
        Outcome,
        r#"SELECT outcome AS "kind!", transaction_id, amount, free, paid, created_at, app_id,
                  NULL AS description
           FROM credits.refund($1, $2, $3, $4, $5, $6, $7, $8)"#,
        id.uuid(),
        refund.user_id.uuid(),
        app,
        refund.transaction_id.uuid(),
        amount,
        refund.reason.as_str(),
        refund.reference_id.as_str(),
        &fingerprint(&values),
    )
    .fetch_one(db)
    .await
}

/// Returns what has expired in at most `wallets` wallets; says in how many it had.
pub async fn sweep(db: &Pool, wallets: i32) -> sqlx::Result<i32> {
    let swept = sqlx::query_scalar!(r#"SELECT credits.sweep($1) AS "swept!""#, wallets)
        .fetch_one(db)
        .await?;
    Ok(swept)
}

/// One of the acting user's holds, for whom it was opened by.
pub async fn hold(db: &mut PgConnection, id: TransactionId, opener: &str) -> Result<Hold, Error> {
    let row = sqlx::query!(
        r#"SELECT h.id, h.state, h.amount, h.captured, h.expires_at, t.app_id AS "app_id!", t.created_at,
                  coalesce(t.description, '') AS "description!",
                  h.state = 'open' AND h.expires_at <= now() AS "is_over!"
           FROM credits.holds h JOIN credits.transactions t USING (user_id, version)
           WHERE h.user_id = auth.acting_user() AND h.id = $1
             AND h.opened_by = $2"#,
        id.uuid(),
        opener,
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::NoSuchHold)?;
    Ok(Hold {
        id: row.id.into(),
        status: if row.is_over {
            "expired".to_owned()
        } else {
            row.state
        },
        amount: credits(row.amount)?,
        captured: credits(row.captured)?,
        app_id: row.app_id,
        description: row.description,
        expires_at: row.expires_at,
        created_at: row.created_at,
    })
}

/// One page of the acting user's ledger, the latest first.
pub struct Page {
    /// At most as many as were asked for.
    pub transactions: Vec<Transaction>,
    /// Where the next page begins, if there is one.
    pub next: Option<i64>,
}

/// One charge of the acting user's.
pub async fn charge(
    db: &mut PgConnection,
    id: TransactionId,
) -> Result<Option<Transaction>, Error> {
    let version = sqlx::query_scalar!(
        "SELECT version FROM credits.transactions
         WHERE user_id = auth.acting_user() AND id = $1 AND type IN ('spend', 'capture')",
        id.uuid()
    )
    .fetch_optional(&mut *db)
    .await?;
    match version {
        Some(version) => Ok(page(db, 1, version + 1, 0).await?.transactions.pop()),
        None => Ok(None),
    }
}

/// The page after version `before`; `offset` more are passed over.
pub async fn page(
    db: &mut PgConnection,
    limit: i64,
    before: i64,
    offset: i64,
) -> Result<Page, Error> {
    let mut rows = sqlx::query!(
        r#"SELECT t.version, t.id, t.type::text AS "type!", t.amount, t.app_id, t.paid_after, t.free_after,
                  t.created_at, d.description AS "description?", d.metadata AS "metadata?"
           FROM credits.transactions t
           -- A settlement is for what its hold was for.
           LEFT JOIN credits.transactions d ON d.user_id = t.user_id AND d.version =
               CASE WHEN t.type IN ('capture', 'void') THEN t.of_version ELSE t.version END
           WHERE t.user_id = auth.acting_user() AND t.version < $2
           ORDER BY t.version DESC LIMIT $1::bigint + 1 OFFSET $3"#,
        limit,
        before,
        offset
    )
    .fetch_all(db)
    .await?;
    let is_last = rows.len() <= usize::try_from(limit).unwrap_or(0);
    if !is_last {
        rows.pop();
    }
    let next = rows.last().filter(|_| !is_last).map(|row| row.version);
    let transactions = rows.into_iter().map(|row| {
        Ok(Transaction {
            id: row.id.into(),
            r#type: row.r#type,
            amount: credits(row.amount)?,
            app_id: row.app_id,
            description: row.description,
            metadata: row.metadata,
            balance_after: credits(row.paid_after)?,
            free_credits_after: credits(row.free_after)?,
            created_at: row.created_at,
        })
    });
    Ok(Page {
        transactions: transactions.collect::<Result<_, Error>>()?,
        next,
    })
}

/// What the acting user was charged from one UTC day to another, by app, by day, or by both.
pub async fn usage(
    db: &mut PgConnection,
    from: NaiveDate,
    to: NaiveDate,
    by_app: bool,
    by_day: bool,
) -> Result<Vec<Usage>, Error> {
    let rows = sqlx::query!(
        r#"SELECT CASE WHEN $3 THEN app_id END AS app_id, CASE WHEN $4 THEN day END AS day,
                  sum(spent)::bigint AS "spent!", sum(uses)::bigint AS "uses!"
           FROM credits.usage WHERE user_id = auth.acting_user() AND day BETWEEN $1 AND $2
           GROUP BY 1, 2 ORDER BY 2, 1"#,
        from,
        to,
        by_app,
        by_day,
    )
    .fetch_all(db)
    .await?;
    let lines = rows.into_iter().map(|row| {
        Ok(Usage {
            app_id: row.app_id,
            day: row.day,
            spent: credits(row.spent)?,
            uses: row.uses,
        })
    });
    lines.collect()
}

/// What does not add up, in the whole ledger.
pub async fn verify(db: &mut PgConnection) -> sqlx::Result<Vec<Difference>> {
    sqlx::query_as!(
        Difference,
        r#"SELECT rule AS "rule!", user_id AS "user", version, expected, actual FROM credits.verify()"#
    )
    .fetch_all(db)
    .await
}

/// How much there is of what.
pub async fn figures(db: &mut PgConnection) -> sqlx::Result<Vec<(String, i64)>> {
    let rows =
        sqlx::query!(r#"SELECT figure AS "figure!", value AS "value!" FROM credits.figures()"#)
            .fetch_all(db)
            .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.figure, row.value))
        .collect())
}

/// Lets this connection's statements run as long as they need.
pub async fn take_time(db: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SELECT set_config('statement_timeout', '0', false) AS was")
        .fetch_one(db)
        .await?;
    Ok(())
}

/// An amount out of the database.
pub fn credits(thousandths: i64) -> Result<Credits, Error> {
    let out_of_range = || {
        sqlx::Error::Decode(format!("{thousandths} thousandths are no amount of credits").into())
    };
    Ok(Credits::from_thousandths(thousandths).ok_or_else(out_of_range)?)
}
