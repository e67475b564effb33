//! What successful calls answer.

use std::fmt::Display;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    claims::{AccessClaims, Role},
    credits::Credits,
    ids::{PurchaseId, SessionId, TokenId, TransactionId, UserId},
};

/// A person, to themselves.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Their address, as they write it.
    pub email: String,
    /// What to call them.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub name: Option<String>,
    /// Whether they have shown that the address is theirs.
    pub email_verified: bool,
    /// What they may do.
    pub role: Role,
}

/// Answers `register`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Registered {
    /// The new account.
    pub user: User,
}

/// Answers `login` and `refresh`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SignedIn {
    /// Who.
    pub user: User,
    /// For `Authorization: Bearer`.
    pub access_token: String,
    /// For the next `refresh`.
    pub refresh_token: String,
    /// How long the access token lives, in seconds.
    pub expires_in: u32,
    /// `Bearer`. RFC 6750.
    pub token_type: &'static str,
}

/// Answers calls that ask for mail, whether or not any will come.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Asked {
    /// `true`.
    pub success: bool,
}

/// Answers calls that have nothing else to say.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Done {
    /// `true`.
    pub success: bool,
    /// What was done, for the person who reads it.
    pub message: &'static str,
}

/// Answers `validate`, at the edge and at the origin.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Validity {
    /// Whether the token may be believed now.
    pub valid: bool,
    /// What it says, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub payload: Option<Payload>,
    /// Why not, if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub error: Option<String>,
}

impl<E: Display> From<Result<&AccessClaims, E>> for Validity {
    fn from(verdict: Result<&AccessClaims, E>) -> Self {
        match verdict {
            Ok(claims) => Self {
                valid: true,
                payload: Some(claims.into()),
                error: None,
            },
            Err(why) => Self {
                valid: false,
                payload: None,
                error: Some(why.to_string()),
            },
        }
    }
}

/// A token's claims, named and written as in the token.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Payload {
    iss: String,
    aud: String,
    sub: UserId,
    client_id: String,
    sid: SessionId,
    jti: TokenId,
    iat: i64,
    exp: i64,
    auth_time: i64,
    email: String,
    role: Role,
    amr: Vec<String>,
}

impl From<&AccessClaims> for Payload {
    fn from(claims: &AccessClaims) -> Self {
        Self {
            iss: claims.iss.clone(),
            aud: claims.aud.clone(),
            sub: claims.sub,
            client_id: claims.client_id.clone(),
            sid: claims.sid,
            jti: claims.jti,
            iat: claims.iat.timestamp(),
            exp: claims.exp.timestamp(),
            auth_time: claims.auth_time.timestamp(),
            email: claims.email.clone(),
            role: claims.role,
            amr: claims.amr.clone(),
        }
    }
}

/// A device that is signed in.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Its id; the `sid` of its tokens.
    pub id: SessionId,
    /// Whether it is the caller's own.
    pub current: bool,
    /// The app that has it, where it is not ours.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub app: Option<SessionApp>,
    /// The session of the browser that the app's is of, with which it ends.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub parent_id: Option<SessionId>,
    /// The device's own name for itself.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub device_id: Option<String>,
    /// What its owner calls it.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub device_name: Option<String>,
    /// The program that last refreshed.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub user_agent: Option<String>,
    /// Where it last refreshed.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub ip_address: Option<String>,
    /// When it was signed in.
    pub created_at: DateTime<Utc>,
    /// When it last refreshed.
    pub last_used_at: DateTime<Utc>,
    /// When it ends unless it refreshes.
    pub expires_at: DateTime<Utc>,
}

/// The app that a session is of.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionApp {
    /// Its id; the `client_id` of the session's tokens.
    pub id: String,
    /// What people read.
    pub name: String,
}

/// Answers `session`, and `get-session` where there is one.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CurrentSession {
    /// Who is signed in.
    pub user: User,
    /// On which device.
    pub session: Session,
}

/// Answers `profile`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Profile {
    /// Who.
    #[serde(flatten)]
    pub user: User,
    /// Where their picture is.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub image: Option<String>,
}

/// Answers the edge, which asks at [`PAGES`](super::PAGES).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pages {
    /// The origins of every app that is not disabled, as browsers write them; in order, each once.
    pub origins: Vec<String>,
}

/// Something that happened to an account, as its owner sees it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SecurityEvent {
    /// Its id; grows with time.
    pub id: i64,
    /// What: `sign_in`, `sign_out`, `second_factor_enrolled`, …
    pub r#type: String,
    /// `success` or `failure`.
    pub outcome: String,
    /// Where from.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub ip_address: Option<String>,
    /// With which program.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub user_agent: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Answers `balance`. What can be spent is `balance` and `free_credits_remaining` together.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Balance {
    /// The paid part.
    pub balance: Credits,
    /// The free part.
    pub free_credits_remaining: Credits,
    /// How many free credits a day brings.
    pub daily_free_credits: Credits,
    /// Put aside for charges under way.
    pub held: Credits,
    /// All that ever came in.
    pub total_earned: Credits,
    /// All that was ever spent.
    pub total_spent: Credits,
    /// Grows by one with every transaction.
    pub version: i64,
}

/// One line of the ledger, as its owner sees it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    /// Its id.
    pub id: TransactionId,
    /// `grant`, `spend`, `expiry`, `hold`, `capture`, `void`, `refund` or `reversal`.
    pub r#type: String,
    /// How much, in the direction that `type` says.
    pub amount: Credits,
    /// Which app charged.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub app_id: Option<String>,
    /// For what.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub description: Option<String>,
    /// Whatever the app added.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub metadata: Option<Value>,
    /// The paid part afterwards.
    pub balance_after: Credits,
    /// The free part afterwards.
    pub free_credits_after: Credits,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Answers whatever moves credits: `use`, `capture`, `void`, `grants`, `refunds`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Spent {
    /// `true`.
    pub success: bool,
    /// What was written down.
    pub transaction: Transaction,
    /// The paid part afterwards.
    pub new_balance: Credits,
    /// The free part afterwards.
    pub free_credits_remaining: Credits,
}

/// Answers `POST /credits/holds`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// `true`.
    pub success: bool,
    /// What was put aside.
    pub hold: Hold,
    /// The paid part afterwards.
    pub new_balance: Credits,
    /// The free part afterwards.
    pub free_credits_remaining: Credits,
}

/// Credits put aside for a charge under way.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Its id.
    pub id: TransactionId,
    /// `open`, `captured`, `voided` or `expired`.
    pub status: String,
    /// How much was put aside.
    pub amount: Credits,
    /// How much of it was charged.
    pub captured: Credits,
    /// Which app charges.
    pub app_id: String,
    /// For what.
    pub description: String,
    /// When it ends, or ended, by itself.
    pub expires_at: DateTime<Utc>,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
}

/// One line of `usage`: an app, a day, or both.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Which app, unless it is all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub app_id: Option<String>,
    /// Which UTC day, unless it is all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub day: Option<NaiveDate>,
    /// What was charged, less what was refunded of it.
    pub spent: Credits,
    /// How many charges.
    pub uses: i64,
}

/// Something that can be bought.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// Its id, for `POST /credits/purchases`.
    pub id: String,
    /// How many credits it brings.
    pub credits: Credits,
    /// What it costs, in the smallest unit of the currency.
    pub price_cents: i64,
    /// ISO 4217, in small letters as Stripe writes it.
    pub currency: String,
}

/// Answers `POST /credits/purchases`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Checkout {
    /// The purchase, as `GET /credits/purchases` lists it.
    pub purchase_id: PurchaseId,
    /// The page on which to pay.
    pub checkout_url: String,
}

/// A purchase, as its owner sees it.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Bought {
    /// Its id.
    pub id: PurchaseId,
    /// What was chosen.
    pub package_id: String,
    /// What it brings, or brought.
    pub credits: Credits,
    /// What it cost, in the smallest unit of the currency.
    pub price_cents: i64,
    /// ISO 4217, in small letters.
    pub currency: String,
    /// `pending`, `paid`, `failed` or `expired`.
    pub status: String,
    /// When it was chosen.
    pub created_at: DateTime<Utc>,
    /// When we heard that it was paid.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub paid_at: Option<DateTime<Utc>>,
    /// How much of `credits` is taken back at present, for money that was paid back.
    pub refunded_credits: Credits,
}
