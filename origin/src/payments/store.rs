//! The SQL of packages and purchases. What moves money are functions of the `credits` schema.

use shared::{
    api::{AppId, Bought, Package},
    credits::Credits,
    ids::{PurchaseId, UserId},
};
use sqlx::PgConnection;

use crate::db::Pool;

use super::{
    Error,
    webhook::{Event, News},
};

/// The most purchases that are listed.
const LONGEST_LIST: i64 = 1_000;

/// A purchase as it begins.
pub struct Begun {
    /// What it will bring.
    pub credits: Credits,
    /// What it costs, in the smallest unit of `currency`.
    pub price_cents: i64,
    /// ISO 4217, in small letters.
    pub currency: String,
}

/// Writes down that somebody is about to buy a package.
pub async fn begin(
    db: &Pool,
    user: UserId,
    id: PurchaseId,
    package: &AppId,
) -> Result<Begun, Error> {
    let row = sqlx::query!(
        r#"SELECT credits AS "credits!", price_cents AS "price_cents!", currency AS "currency!"
           FROM credits.begin_purchase($1, $2, $3)"#,
        user.uuid(),
        id.uuid(),
        package.as_str()
    )
    .fetch_optional(db)
    .await?
    .ok_or(Error::UnknownPackage)?;
    Ok(Begun {
        credits: credits(row.credits)?,
        price_cents: row.price_cents,
        currency: row.currency,
    })
}

/// Writes down in which checkout session a purchase is paid; without one it has failed.
pub async fn open_checkout(
    db: &Pool,
    user: UserId,
    id: PurchaseId,
    session: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT credits.open_checkout($1, $2, $3)",
        user.uuid(),
        id.uuid(),
        session
    )
    .fetch_one(db)
    .await?;
    Ok(())
}

/// Does all that an event asks for, or nothing; says what came of it.
pub async fn hear(db: &Pool, event: &Event) -> sqlx::Result<String> {
    let told = Told::from(&event.news);
    sqlx::query_scalar!(
        r#"SELECT credits.hear_from_stripe($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS "outcome!""#,
        event.id,
        event.r#type,
        event.said_at,
        told.about,
        told.payment,
        told.object,
        told.state,
        told.cents,
        told.currency,
        told.user.map(UserId::uuid),
        told.purchase.map(PurchaseId::uuid),
    )
    .fetch_one(db)
    .await
}

/// What an event says, as `credits.hear_from_stripe` takes it.
#[derive(Default)]
struct Told<'a> {
    about: &'static str,
    payment: Option<&'a str>,
    object: Option<&'a str>,
    state: Option<&'static str>,
    cents: Option<i64>,
    currency: Option<&'a str>,
    user: Option<UserId>,
    purchase: Option<PurchaseId>,
}

impl<'a> From<&'a News> for Told<'a> {
    fn from(news: &'a News) -> Self {
        match news {
            News::Checkout {
                purchase,
                user,
                session,
                state,
                payment,
                cents,
                currency,
            } => Self {
                about: "checkout",
                payment: payment.as_deref(),
                object: Some(session),
                state: Some(state),
                cents: *cents,
                currency: currency.as_deref(),
                user: Some(*user),
                purchase: Some(*purchase),
            },
            News::Charge { payment, cents } => Self {
                about: "charge",
                payment: Some(payment),
                cents: Some(*cents),
                ..Self::default()
            },
            News::Refund {
                payment,
                id,
                cents,
                failed,
            } => Self {
                about: "refund",
                payment: Some(payment),
                object: Some(id),
                state: Some(if *failed { "failed" } else { "made" }),
                cents: Some(*cents),
                ..Self::default()
            },
            News::Dispute {
                payment,
                id,
                standing,
            } => Self {
                about: "dispute",
                payment: Some(payment),
                object: Some(id),
                state: Some(standing),
                ..Self::default()
            },
            News::Nothing(why) => Self {
                about: "nothing",
                state: Some(why.as_str()),
                ..Self::default()
            },
        }
    }
}

/// The acting user's purchases, the latest first.
pub async fn purchases(db: &mut PgConnection) -> Result<Vec<Bought>, Error> {
    let rows = sqlx::query!(
        "SELECT id, package_id, credits, price_cents, currency, state, created_at, paid_at, taken_back
         FROM credits.purchases WHERE user_id = auth.acting_user() ORDER BY id DESC LIMIT $1",
        LONGEST_LIST
    )
    .fetch_all(db)
    .await?;
    let purchases = rows.into_iter().map(|row| {
        Ok(Bought {
            id: row.id.into(),
            package_id: row.package_id,
            credits: credits(row.credits)?,
            price_cents: row.price_cents,
            currency: row.currency,
            status: row.state,
            created_at: row.created_at,
            paid_at: row.paid_at,
            refunded_credits: credits(row.taken_back)?,
        })
    });
    purchases.collect()
}

/// What can be bought, in the operator's order.
pub async fn packages(db: &Pool) -> Result<Vec<Package>, Error> {
    let listed = list_packages(&mut *db.begin().await?).await?;
    Ok(listed
        .into_iter()
        .filter(|listed| listed.is_active)
        .map(|listed| listed.package)
        .collect())
}

/// A package as its operator sees it.
pub struct ListedPackage {
    /// What it is.
    pub package: Package,
    /// Whether it can be bought.
    pub is_active: bool,
}

/// All packages that there ever were.
pub async fn list_packages(db: &mut PgConnection) -> Result<Vec<ListedPackage>, Error> {
    let rows = sqlx::query!(
        "SELECT id, credits, price_cents, currency, active FROM credits.packages ORDER BY position"
    )
    .fetch_all(db)
    .await?;
    let packages = rows.into_iter().map(|row| {
        Ok(ListedPackage {
            package: Package {
                id: row.id,
                credits: credits(row.credits)?,
                price_cents: row.price_cents,
                currency: row.currency,
            },
            is_active: row.active,
        })
    });
    packages.collect()
}

/// Offers a package, or changes one that is there; what was bought stays as it was.
pub async fn set_package(db: &mut PgConnection, package: &Package) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO credits.packages (id, credits, price_cents, currency) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET credits = excluded.credits, price_cents = excluded.price_cents,
             currency = excluded.currency, active = true",
        package.id,
        package.credits.thousandths(),
        package.price_cents,
        package.currency
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Offers a package no longer.
pub async fn remove_package(db: &mut PgConnection, id: &str) -> Result<(), Error> {
    let removed = sqlx::query!(
        "UPDATE credits.packages SET active = false WHERE id = $1",
        id
    )
    .execute(db)
    .await?;
    if removed.rows_affected() == 0 {
        return Err(Error::UnknownPackage);
    }
    Ok(())
}

fn credits(thousandths: i64) -> Result<Credits, Error> {
    let out_of_range = || {
        sqlx::Error::Decode(format!("{thousandths} thousandths are no amount of credits").into())
    };
    Ok(Credits::from_thousandths(thousandths).ok_or_else(out_of_range)?)
}
