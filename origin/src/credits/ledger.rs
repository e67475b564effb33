//! The SQL of credits. A spend is one round trip and one commit: a call of `credits.spend`,
//! which takes a batch, locks its balances in user order, and answers each spend by itself.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use shared::{
    api::{Balance, Transaction, UseCredits},
    credits::Credits,
    ids::{SessionId, TransactionId, UserId},
};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{config::CreditsConfig, db::Db, error::Error as Failure, sessions};

use super::Error;

/// A charge, with the id that it has from before its first attempt.
#[derive(Clone, Debug)]
pub struct Spend {
    /// What a retry after a lost connection finds itself by.
    pub id: TransactionId,
    /// Who pays.
    pub user: UserId,
    /// The session whose token asks, which must still live.
    pub session: Option<SessionId>,
    /// How much, for which app, for what.
    pub order: UseCredits,
}

/// A charge that was made, now or when its key was first used.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The line of the ledger.
    pub transaction: Transaction,
    /// Whether it was made before.
    pub replayed: bool,
}

/// The ledger, and the rules of the free credits.
#[derive(Clone)]
pub struct Ledger {
    db: Db,
    rules: CreditsConfig,
}

impl Ledger {
    /// The ledger of this database.
    pub const fn new(db: Db, rules: CreditsConfig) -> Self {
        Self { db, rules }
    }

    /// Charges once, however often it is asked with the same id or key.
    pub async fn spend(&self, spend: Spend) -> Result<Charge, Failure> {
        let outcomes = spend_batch(self.db.pool(), &[&spend], self.rules)
            .await
            .map_err(Error::from)?;
        let outcome = outcomes.into_iter().next().ok_or(Error::NoWallet)?;
        conclude(spend, outcome)
    }

    /// What somebody has, the day's free credits included.
    pub async fn balance(&self, user: UserId) -> Result<Balance, Error> {
        let row = sqlx::query!(
            r#"SELECT paid AS "paid!", free AS "free!", held AS "held!", total_earned AS "earned!",
                      total_spent AS "spent!", version AS "version!"
               FROM credits.balance($1, $2, $3)"#,
            user.uuid(),
            self.rules.credits_daily.thousandths(),
            self.rules.credits_daily_expires,
        )
        .fetch_optional(self.db.pool())
        .await?
        .ok_or(Error::NoWallet)?;
        Ok(Balance {
            balance: credits(row.paid)?,
            free_credits_remaining: credits(row.free)?,
            daily_free_credits: self.rules.credits_daily,
            held: credits(row.held)?,
            total_earned: credits(row.earned)?,
            total_spent: credits(row.spent)?,
            version: row.version,
        })
    }
}

/// What the ledger said to one spend of a batch.
struct Outcome {
    kind: String,
    transaction_id: Option<Uuid>,
    free: Option<i64>,
    paid: Option<i64>,
    created_at: Option<DateTime<Utc>>,
}

/// Writes a batch with one statement and one commit; the outcomes are in the order of the spends.
async fn spend_batch(
    db: &PgPool,
    spends: &[&Spend],
    rules: CreditsConfig,
) -> sqlx::Result<Vec<Outcome>> {
    let texts = |text: fn(&Spend) -> &str| -> Vec<String> {
        spends.iter().map(|spend| text(spend).to_owned()).collect()
    };
    let ids: Vec<Uuid> = spends.iter().map(|spend| spend.id.uuid()).collect();
    let users: Vec<Uuid> = spends.iter().map(|spend| spend.user.uuid()).collect();
    let sessions: Vec<Option<Uuid>> = spends
        .iter()
        .map(|spend| spend.session.map(SessionId::uuid))
        .collect();
    let amounts: Vec<i64> = spends
        .iter()
        .map(|spend| spend.order.amount.credits().thousandths())
        .collect();
    let metadata: Vec<Option<Value>> = spends
        .iter()
        .map(|spend| {
            spend
                .order
                .metadata
                .as_ref()
                .map(|object| object.as_value().clone())
        })
        .collect();
    let keys: Vec<Option<String>> = spends
        .iter()
        .map(|spend| {
            spend
                .order
                .idempotency_key
                .as_ref()
                .map(|key| key.as_str().to_owned())
        })
        .collect();
    let fingerprints: Vec<Vec<u8>> = spends
        .iter()
        .map(|spend| fingerprint(&spend.order))
        .collect();
    sqlx::query_as!(
        Outcome,
        r#"SELECT outcome AS "kind!", transaction_id, free, paid, created_at
           FROM credits.spend($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"#,
        &ids,
        &users,
        &sessions as &[Option<Uuid>],
        &amounts,
        &texts(|spend| spend.order.app_id.as_str()),
        &texts(|spend| spend.order.description.as_str()),
        &metadata as &[Option<Value>],
        &keys as &[Option<String>],
        &fingerprints,
        rules.credits_daily.thousandths(),
        rules.credits_daily_expires,
    )
    .fetch_all(db)
    .await
}

/// A hash of the values that were asked for. Objects are sorted by name, so that it is the
/// values that count and not how they were written.
fn fingerprint(order: &UseCredits) -> Vec<u8> {
    let values = serde_json::json!([
        order.amount.credits().thousandths(),
        order.app_id.as_str(),
        order.description.as_str(),
        order.metadata.as_ref().map(shared::api::Metadata::as_value),
    ]);
    Sha256::digest(values.to_string()).to_vec()
}

/// Turns what the ledger said to a spend into its answer.
fn conclude(spend: Spend, said: Outcome) -> Result<Charge, Failure> {
    let required = spend.order.amount.credits();
    let replayed = match said.kind.as_str() {
        "spent" => false,
        "replayed" => true,
        "mismatch" => return Err(Error::Mismatch.into()),
        "insufficient" => {
            let available = credits(said.free.unwrap_or(0) + said.paid.unwrap_or(0))?;
            return Err(Error::Insufficient {
                available,
                required,
            }
            .into());
        }
        "signed_out" => return Err(sessions::Error::Ended.into()),
        "unknown_user" => return Err(Error::NoWallet.into()),
        _ => return Err(Error::UnknownOutcome(said.kind).into()),
    };
    let (Some(id), Some(free), Some(paid), Some(created_at)) =
        (said.transaction_id, said.free, said.paid, said.created_at)
    else {
        return Err(Error::UnknownOutcome(said.kind).into());
    };
    let order = spend.order;
    let transaction = Transaction {
        id: id.into(),
        r#type: "spend".to_owned(),
        amount: required,
        app_id: Some(order.app_id.as_str().to_owned()),
        description: Some(order.description.as_str().to_owned()),
        metadata: order.metadata.map(|object| object.as_value().clone()),
        balance_after: credits(paid)?,
        free_credits_after: credits(free)?,
        created_at,
    };
    Ok(Charge {
        transaction,
        replayed,
    })
}

/// One page of the acting user's ledger, the latest first.
pub struct Page {
    /// At most as many as were asked for.
    pub transactions: Vec<Transaction>,
    /// Where the next page begins, if there is one.
    pub next: Option<i64>,
}

/// The page after version `before`; `offset` more are passed over.
pub async fn page(
    db: &mut PgConnection,
    limit: i64,
    before: i64,
    offset: i64,
) -> Result<Page, Error> {
    let mut rows = sqlx::query!(
        r#"SELECT t.version, t.id, t.type, t.amount, t.app_id, t.paid_after, t.free_after, t.created_at,
                  d.description AS "description?", d.metadata
           FROM credits.transactions t LEFT JOIN credits.details d USING (user_id, version)
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

fn credits(thousandths: i64) -> Result<Credits, Error> {
    let out_of_range = || {
        sqlx::Error::Decode(format!("{thousandths} thousandths are no amount of credits").into())
    };
    Ok(Credits::from_thousandths(thousandths).ok_or_else(out_of_range)?)
}
