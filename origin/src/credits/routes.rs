//! Looking at credits and spending them.

use axum::{
    Json,
    extract::{
        FromRequestParts, Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
};
use chrono::{Datelike, Months, NaiveDate};
use serde::Deserialize;
use shared::{
    api::{AppId, Balance, Charge, IdempotencyKey, Spent, Transaction, Usage},
    claims::AccessClaims,
    ids::UserId,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::App,
    apps::{self, AppCaller, Permission},
    door::Body,
    error::Error as Failure,
    rim,
    sessions::{Bearer, Caller},
};

use super::{By, Error, Operation, Order, Posted, ledger};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const TRANSACTIONS: &str = "/api/v1/credits/transactions";
const LONGEST_PAGE: i64 = 100;

/// Looking and spending.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(balance))
        .routes(routes!(balance_of))
        .routes(routes!(use_credits))
        .routes(routes!(usage))
        .routes(routes!(transactions))
}

/// Who charges: a person by their own token, whose session the ledger asks after in the same
/// round trip in which it spends, or an app by its key.
pub enum Charger {
    /// A person.
    Person(AccessClaims),
    /// An app that may charge.
    App(AppCaller),
}

impl FromRequestParts<App> for Charger {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        if let Some(caller) = AppCaller::of(parts, app).await? {
            caller.may(Permission::Charge)?;
            return Ok(Self::App(caller));
        }
        let Bearer(claims) = Bearer::from_request_parts(parts, app).await?;
        Ok(Self::Person(claims))
    }
}

impl Charger {
    /// Whose wallet, and who asks: a person's own, or the one that the app names.
    pub fn wallet(self, named: Option<UserId>) -> Result<(UserId, By), Failure> {
        match (self, named) {
            (Self::Person(claims), None) => Ok((claims.sub, By::Person(claims.sid))),
            (Self::Person(claims), Some(user)) if user == claims.sub => {
                Ok((user, By::Person(claims.sid)))
            }
            (Self::Person(_), Some(_)) => Err(apps::Error::NotItsOwn.into()),
            (Self::App(_), None) => Err(apps::Error::NoUser.into()),
            (Self::App(app), Some(user)) => Ok((user, By::App(app.id))),
        }
    }

    /// Insists that an app charges for itself.
    pub fn charges_for(&self, id: &AppId) -> Result<(), apps::Error> {
        match self {
            Self::App(app) if app.id != *id => Err(apps::Error::NotItsOwn),
            _ => Ok(()),
        }
    }
}

#[utoipa::path(
    get,
    path = "/api/v1/credits/balance",
    tag = "Credits",
    summary = "What the caller has",
    description = "The first look of a day brings the day's free credits.",
    security(("token" = [])),
    responses((status = 200, body = Balance))
)]
async fn balance(State(app): State<App>, caller: Caller) -> Result<Json<Balance>, Failure> {
    Ok(Json(app.ledger.balance(caller.user, None).await?))
}

#[utoipa::path(
    get,
    path = "/api/v1/credits/balance/{user}",
    tag = "Credits",
    summary = "What a user of the app has",
    description = "Needs the permission `read`.",
    security(("serviceKey" = [])),
    params(
        ("user" = UserId, Path, description = "Who; they must have had a session with the app"),
    ),
    responses(
        (status = 200, body = Balance),
        (status = 404, description = "NOT_FOUND"),
    )
)]
async fn balance_of(
    State(app): State<App>,
    caller: AppCaller,
    user: Result<Path<UserId>, PathRejection>,
) -> Result<Json<Balance>, Failure> {
    caller.may(Permission::Read)?;
    let Path(user) = user?;
    let own = Some(caller.id.as_str());
    Ok(Json(app.ledger.balance(user, own).await?))
}

#[utoipa::path(
    post,
    path = "/api/v1/credits/use",
    tag = "Credits",
    summary = "Charges",
    description = "A person's own token charges their own wallet, where `userId` is theirs or absent; a service key (permission `charge`) charges that of `userId`, for its own app. The same key with the same values is charged once and answered the same; without a key, each request is a charge.",
    security(("token" = []), ("serviceKey" = [])),
    params(
        ("Idempotency-Key" = Option<IdempotencyKey>, Header, description = "In place of the field `idempotencyKey`; where both are there, they must be the same"),
    ),
    request_body = Charge,
    responses(
        (status = 200, body = Spent, headers(("Idempotency-Replayed" = String, description = "`true` where it was done before, under the same key"))),
        (status = 402, description = "INSUFFICIENT_CREDITS"),
        (status = 404, description = "NOT_FOUND"),
        (status = 422, description = "IDEMPOTENCY_MISMATCH"),
        (status = 503, description = "DATABASE_UNAVAILABLE, OUTCOME_UNKNOWN, OVERLOADED"),
    )
)]
async fn use_credits(
    State(app): State<App>,
    charger: Charger,
    headers: HeaderMap,
    Body(mut charge): Body<Charge>,
) -> Result<(HeaderMap, Json<Spent>), Failure> {
    charge.idempotency_key = one_key(&headers, charge.idempotency_key.take())?;
    charger.charges_for(&charge.app_id)?;
    let (user, by) = charger.wallet(charge.user_id)?;
    let spend = Operation::new(rim::new_id(), user, by, Order::Spend(charge));
    Ok(answer(app.ledger.post(spend).await?))
}

/// What moved credits, and whether it did so before.
pub fn answer(posted: Posted) -> (HeaderMap, Json<Spent>) {
    (replay_header(posted.replayed), Json(posted.into()))
}

/// Says that the answer is a repetition.
pub fn replay_header(replayed: bool) -> HeaderMap {
    let header = replayed.then(|| (REPLAYED, HeaderValue::from_static("true")));
    header.into_iter().collect()
}

/// The key of the header or of the field; both may name the same one.
pub fn one_key(
    headers: &HeaderMap,
    field: Option<IdempotencyKey>,
) -> Result<Option<IdempotencyKey>, Error> {
    let header = headers.get(IDEMPOTENCY_KEY).map(|value| {
        let text = value.to_str().map_err(|_| Error::BadKey)?;
        IdempotencyKey::parse(text.to_owned()).ok_or(Error::BadKey)
    });
    match (header.transpose()?, field) {
        (Some(header), Some(field)) if header != field => Err(Error::TwoKeys),
        (header, field) => Ok(header.or(field)),
    }
}

#[derive(Deserialize)]
struct Paging {
    limit: Option<u32>,
    cursor: Option<i64>,
    offset: Option<u32>,
}

#[utoipa::path(
    get,
    path = "/api/v1/credits/transactions",
    tag = "Credits",
    summary = "What moved the credits of the caller, the latest first",
    security(("token" = [])),
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many; 50 by default"),
        ("cursor" = Option<i64>, Query, minimum = 0, maximum = 9_007_199_254_740_991i64, description = "From the `Link` of the page before"),
        ("offset" = Option<u32>, Query, minimum = 0, maximum = 4_294_967_295i64, description = "How many to leave out; `cursor` is better"),
    ),
    responses((status = 200, body = Vec<Transaction>, headers(("Link" = String, description = "The next page: `rel=\"next\"`"))))
)]
async fn transactions(
    State(app): State<App>,
    caller: Caller,
    paging: Result<Query<Paging>, QueryRejection>,
) -> Result<(HeaderMap, Json<Vec<Transaction>>), Failure> {
    let Query(paging) = paging?;
    let limit = i64::from(paging.limit.unwrap_or(50)).clamp(1, LONGEST_PAGE);
    let before = paging.cursor.unwrap_or(i64::MAX);
    let mut transaction = app.db.as_user(caller.user).await?;
    let page = ledger::page(
        &mut transaction,
        limit,
        before,
        paging.offset.unwrap_or(0).into(),
    )
    .await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = page.next {
        let link = format!("<{TRANSACTIONS}?limit={limit}&cursor={next}>; rel=\"next\"");
        headers.extend(HeaderValue::try_from(link).map(|link| (header::LINK, link)));
    }
    Ok((headers, Json(page.transactions)))
}

#[derive(Deserialize)]
struct Range {
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
    by: Option<Grouping>,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Grouping {
    App,
    Day,
}

/// The last month by default, by app and day.
#[utoipa::path(
    get,
    path = "/api/v1/credits/usage",
    tag = "Credits",
    summary = "What was spent, by app and day",
    description = "The last month by default.",
    security(("token" = [])),
    params(
        ("from" = Option<NaiveDate>, Query, pattern = "^[2-9][0-9]{3}-", description = "The first UTC day; a month before the last one by default"),
        ("to" = Option<NaiveDate>, Query, pattern = "^[2-9][0-9]{3}-", description = "The last UTC day; today by default"),
        ("by" = inline(Option<Grouping>), Query, description = "By one of the two alone"),
    ),
    responses((status = 200, body = Vec<Usage>))
)]
async fn usage(
    State(app): State<App>,
    caller: Caller,
    range: Result<Query<Range>, QueryRejection>,
) -> Result<Json<Vec<Usage>>, Failure> {
    let Query(range) = range?;
    let to = range.to.unwrap_or_else(|| rim::now().date_naive());
    let from = range.from.or_else(|| to.checked_sub_months(Months::new(1)));
    // What Postgres and RFC 3339 can both write.
    let from = from.filter(|from| from.year() >= 1970 && (1970..=9999).contains(&to.year()));
    let from = from.ok_or(Error::NoSuchDays)?;
    let mut transaction = app.db.as_user(caller.user).await?;
    let (by_app, by_day) = (
        range.by != Some(Grouping::Day),
        range.by != Some(Grouping::App),
    );
    Ok(Json(
        ledger::usage(&mut transaction, from, to, by_app, by_day).await?,
    ))
}
