//! The one map from errors to problems, and the one line that a fault of ours leaves in the log.

use std::error::Error as _;

use axum::{
    extract::rejection::{PathRejection, QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use shared::{
    api::Refusal,
    problem::{Code, FieldError, Problem},
    proof::NoProof,
};

use crate::{
    accounts, accounts::NotHashed, admin, apps, credits, db, keys, mail, outside, payments,
    revocations, second_factor, sessions,
};

/// When to come back after a queue was full, in seconds.
const RETRY_AFTER_SECS: u32 = 2;

/// Whatever a request can end in that is not its answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Accounts.
    #[error(transparent)]
    Account(#[from] accounts::Error),
    /// Sessions.
    #[error(transparent)]
    Session(#[from] sessions::Error),
    /// The second factor.
    #[error(transparent)]
    SecondFactor(#[from] second_factor::Error),
    /// Outside accounts.
    #[error(transparent)]
    Outside(#[from] outside::Error),
    /// Credits.
    #[error(transparent)]
    Credits(#[from] credits::Error),
    /// What admins do.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// Apps and their keys.
    #[error(transparent)]
    App(#[from] apps::Error),
    /// Payments.
    #[error(transparent)]
    Payment(#[from] payments::Error),
    /// Mail.
    #[error(transparent)]
    Mail(#[from] mail::Error),
    /// Keys.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// Revocations.
    #[error(transparent)]
    Revocations(#[from] revocations::Error),
    /// The database, outside of any of them.
    #[error("the database")]
    Database(#[from] sqlx::Error),
    /// The edge's proof is there and does not hold.
    #[error(transparent)]
    Proof(#[from] NoProof),
    /// A browser sends it from a page that is not one of those that may.
    #[error("the page may not ask")]
    ForeignPage,
    /// The body is wrong.
    #[error("the body was refused")]
    Body(Refusal),
    /// The body says that it is something else.
    #[error("the body is not application/json")]
    NotJson,
    /// The body is larger than the limit.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The body ended before it was whole.
    #[error("the body broke off")]
    BrokenOff,
    /// The query is wrong.
    #[error(transparent)]
    Query(#[from] QueryRejection),
    /// A part of the path is wrong.
    #[error(transparent)]
    Path(#[from] PathRejection),
    /// No such path.
    #[error("no such path")]
    NotFound,
    /// No such method on this path.
    #[error("no such method")]
    MethodNotAllowed,
    /// The deadline passed.
    #[error("the request took too long")]
    TooSlow,
    /// A handler panicked.
    #[error("a handler panicked: {0}")]
    Panicked(String),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Body(refusal)
    }
}

impl From<db::NotWriting> for Error {
    fn from(why: db::NotWriting) -> Self {
        match why {
            db::NotWriting::NotActive => sessions::Error::Disabled.into(),
            db::NotWriting::Database(error) => error.into(),
        }
    }
}

impl Error {
    /// What clients are told of it.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Account(error) => account(error),
            Self::Session(error) => session(error),
            Self::SecondFactor(error) => second_step(error),
            Self::Outside(error) => outside_account(error),
            Self::Credits(error) => credit(error),
            Self::Admin(error) => admins(error),
            Self::App(error) => app(error),
            Self::Payment(error) => payment(error),
            Self::Mail(error) => letter(error),
            Self::Keys(error) => key(error),
            Self::Revocations(revocations::Error::Unavailable) => plain(Code::DatabaseUnavailable),
            Self::Database(error) => database(error),
            Self::Proof(why) => Problem::new(Code::EdgeProofInvalid, why.to_string()),
            Self::ForeignPage => Problem::new(
                Code::ForeignPage,
                "A browser sends this from a page whose origin is not registered here",
            ),
            Self::Body(refusal) => refusal.clone().into(),
            Self::NotJson => plain(Code::UnsupportedMediaType),
            Self::TooLarge { limit } => Problem::new(
                Code::BodyTooLarge,
                format!("The body may have {limit} bytes at the most"),
            ),
            Self::BrokenOff => Problem::new(Code::InvalidRequest, "The body broke off"),
            Self::Query(_) => Problem::new(Code::InvalidRequest, "The query cannot be read"),
            Self::Path(_) => Problem::new(Code::InvalidRequest, "The path cannot be read"),
            Self::NotFound => plain(Code::NotFound),
            Self::MethodNotAllowed => plain(Code::MethodNotAllowed),
            Self::TooSlow => plain(Code::OutcomeUnknown),
            Self::Panicked(_) => plain(Code::Internal),
        }
    }

    fn headers(&self, code: Code) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Self::Session(sessions::Error::TooOften(verdict)) = self {
            headers.extend(verdict.headers());
            headers.insert(
                header::RETRY_AFTER,
                verdict.decision.retry_after_secs.into(),
            );
        }
        if let Self::Account(accounts::Error::TooManyFailures { wait_secs }) = self {
            headers.insert(header::RETRY_AFTER, (*wait_secs).into());
        }
        if let Self::SecondFactor(second_factor::Error::TooManyWrong { retry_after_secs }) = self {
            headers.insert(header::RETRY_AFTER, (*retry_after_secs).into());
        }
        if matches!(
            code,
            Code::Overloaded
                | Code::OutcomeUnknown
                | Code::DatabaseUnavailable
                | Code::KeysUnavailable
        ) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECS.into());
        }
        if let Some(challenge) = self.challenge() {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        headers
    }

    /// RFC 6750 §3: a reason only where a token was shown.
    fn challenge(&self) -> Option<HeaderValue> {
        let Self::Session(error) = self else {
            return None;
        };
        match error {
            sessions::Error::NoToken | sessions::Error::NotSignedIn => {
                Some(HeaderValue::from_static("Bearer"))
            }
            sessions::Error::BadToken(_) | sessions::Error::Ended => HeaderValue::try_from(
                format!("Bearer error=\"invalid_token\", error_description=\"{error}\""),
            )
            .ok(),
            _ => None,
        }
    }
}

fn account(error: &accounts::Error) -> Problem {
    match error {
        accounts::Error::EmailTaken => plain(Code::EmailTaken),
        accounts::Error::InvalidCredentials => plain(Code::InvalidCredentials),
        accounts::Error::NoPassword => field("password", "is missing"),
        accounts::Error::EmailNotVerified => plain(Code::EmailNotVerified),
        accounts::Error::Disabled => plain(Code::AccountDisabled),
        accounts::Error::TooManyFailures { wait_secs } => Problem::new(
            Code::RateLimited,
            format!("Too many wrong passwords; try again in {wait_secs} seconds"),
        ),
        accounts::Error::Password(NotHashed::TooCommon) => plain(Code::PasswordTooCommon),
        accounts::Error::InvalidLink => plain(Code::InvalidLink),
        accounts::Error::OtherBrowser => plain(Code::OtherBrowser),
        accounts::Error::Password(NotHashed::QueueFull) => plain(Code::Overloaded),
        accounts::Error::Password(NotHashed::Failed(_) | NotHashed::Died(_)) => {
            plain(Code::Internal)
        }
        accounts::Error::Database(error) => database(error),
    }
}

fn session(error: &sessions::Error) -> Problem {
    match error {
        sessions::Error::NoToken | sessions::Error::NotSignedIn => plain(Code::Unauthenticated),
        sessions::Error::BadToken(why) => {
            Problem::new(Code::InvalidToken, sentence(&why.to_string()))
        }
        sessions::Error::Ended => plain(Code::SessionRevoked),
        sessions::Error::Disabled => plain(Code::AccountDisabled),
        // The words that existing clients compare with.
        sessions::Error::BadRefreshToken => {
            Problem::new(Code::InvalidRefreshToken, "Invalid refresh token")
        }
        sessions::Error::TooOften(_) => plain(Code::RateLimited),
        sessions::Error::NotRecent => plain(Code::RecentSignInRequired),
        sessions::Error::NotPermitted => plain(Code::Forbidden),
        sessions::Error::NoSuchSession => Problem::new(Code::NotFound, "There is no such session"),
        sessions::Error::Keys(error) => key(error),
        sessions::Error::Database(error) => database(error),
    }
}

fn second_step(error: &second_factor::Error) -> Problem {
    use second_factor::Error;
    match error {
        Error::AlreadyOn => Problem::new(Code::Conflict, "Remove the second factor first"),
        Error::NotOn => Problem::new(Code::NotFound, "There is no second factor"),
        Error::NotBegun => Problem::new(Code::NotFound, "Begin to enrol a second factor first"),
        Error::BadToken => plain(Code::InvalidMfaToken),
        Error::WrongCode => plain(Code::InvalidMfaCode),
        Error::CodeRefused => field("code", "is wrong, or was used before"),
        Error::TooManyWrong { .. } => Problem::new(Code::RateLimited, "Too many wrong codes"),
        Error::Unreadable(_) => plain(Code::Internal),
        Error::Database(error) => database(error),
    }
}

fn outside_account(error: &outside::Error) -> Problem {
    use outside::Error;
    match error {
        Error::UnknownProvider => Problem::new(Code::NotFound, "There is no such provider"),
        Error::NoSuchAccount => Problem::new(Code::NotFound, "There is no such linked account"),
        Error::BadState => Problem::new(
            Code::InvalidSignInState,
            "This sign-in was not begun in this browser, took too long, or is over; begin again",
        ),
        Error::Refused => Problem::new(
            Code::ProviderRefused,
            "The answer there was no, or came too late; begin again if you want to sign in",
        ),
        Error::BadIdToken(why) => Problem::new(
            Code::InvalidIdToken,
            format!("{}; sign in again", sentence(&why.to_string())),
        ),
        Error::EmailUnverified => Problem::new(
            Code::ProviderEmailUnverified,
            "The provider has not verified your e-mail address: verify it there, or sign in here and link the account",
        ),
        Error::LinkedElsewhere => Problem::new(
            Code::LinkedElsewhere,
            "Sign in by it to see which one that is; remove it there, and it can be linked here",
        ),
        Error::LastWay => plain(Code::LastSignInMethod),
        Error::Away(_) => Problem::new(
            Code::SignInProviderFailed,
            "This is not your fault, and nothing has changed: try again in a few minutes, or sign in another way",
        ),
        Error::Raced => plain(Code::Conflict),
        Error::Database(error) => database(error),
    }
}

fn credit(error: &credits::Error) -> Problem {
    match error {
        credits::Error::Insufficient {
            available,
            required,
        } => {
            let number = |credits| serde_json::to_value(credits).expect("an amount is a number");
            Problem::new(
                Code::InsufficientCredits,
                format!("{required} credits needed, {available} available"),
            )
            .with("available", number(available))
            .with("required", number(required))
        }
        credits::Error::Mismatch => plain(Code::IdempotencyMismatch),
        credits::Error::TwoKeys => Problem::new(
            Code::InvalidRequest,
            "The Idempotency-Key header and the field idempotencyKey differ",
        ),
        credits::Error::BadKey => Problem::new(
            Code::InvalidRequest,
            "The Idempotency-Key header must be 1 to 255 printable ASCII characters",
        ),
        credits::Error::NoKey => field("idempotencyKey", "is missing, and so is the header"),
        credits::Error::NoSuchUser => Problem::new(Code::NotFound, "There is no such user"),
        credits::Error::NoSuchHold => Problem::new(Code::NotFound, "There is no such hold"),
        credits::Error::NoSuchCharge => Problem::new(Code::NotFound, "There is no such charge"),
        credits::Error::HoldSettled => plain(Code::HoldSettled),
        credits::Error::HoldExpired => plain(Code::HoldExpired),
        credits::Error::HoldExceeded => plain(Code::HoldExceeded),
        credits::Error::RefundExceeds { left } => Problem::new(
            Code::RefundExceedsCharge,
            format!("{left} credits of the charge are left to refund"),
        )
        .with(
            "left",
            serde_json::to_value(left).expect("an amount is a number"),
        ),
        credits::Error::TooMuch => field("amount", "is more than a wallet may ever earn"),
        credits::Error::GrantCapReached => plain(Code::GrantCapReached),
        credits::Error::ExpiresInThePast => field("expiresAt", "must be in the future"),
        credits::Error::NoSuchDays => Problem::new(
            Code::InvalidRequest,
            "`from` and `to` must be days of the years 1970 to 9999",
        ),
        credits::Error::QueueFull => plain(Code::Overloaded),
        credits::Error::UnknownOutcome(_) => plain(Code::Internal),
        credits::Error::Unclear(_) => plain(Code::OutcomeUnknown),
        credits::Error::Batch(error) => database(error),
        credits::Error::Database(error) => database(error),
    }
}

fn admins(error: &admin::Error) -> Problem {
    match error {
        admin::Error::NotAdmin => plain(Code::Forbidden),
        admin::Error::NoSuchUser => Problem::new(Code::NotFound, "There is no such user"),
        admin::Error::NoSuchSession => Problem::new(Code::NotFound, "There is no such session"),
        admin::Error::Oneself => Problem::new(
            Code::Forbidden,
            "Nobody changes their own role, or bans themselves",
        ),
        admin::Error::AsBefore => Problem::new(Code::Conflict, "It is like that already"),
        admin::Error::UnknownOutcome(_) => plain(Code::Internal),
        admin::Error::Database(error) => database(error),
    }
}

fn app(error: &apps::Error) -> Problem {
    match error {
        apps::Error::BadKey => plain(Code::InvalidServiceKey),
        apps::Error::TwoCallers => Problem::new(
            Code::InvalidRequest,
            "Send an access token or a service key, not both",
        ),
        apps::Error::NotPermitted(permission) => Problem::new(
            Code::Forbidden,
            format!("The service key may not {}", permission.as_str()),
        ),
        apps::Error::NotItsOwn => plain(Code::Forbidden),
        apps::Error::NoUser => field("userId", "is missing: a service key acts for somebody"),
        apps::Error::Taken(_) => plain(Code::Conflict),
        apps::Error::Unknown(_) => plain(Code::NotFound),
        apps::Error::Database(error) => database(error),
    }
}

/// One field that is wrong for a reason that its parser cannot know.
fn field(name: &str, detail: &str) -> Problem {
    Refusal::Invalid(vec![FieldError {
        pointer: format!("/{name}"),
        detail: detail.to_owned(),
    }])
    .into()
}

fn payment(error: &payments::Error) -> Problem {
    match error {
        payments::Error::NotConfigured => plain(Code::PaymentsNotConfigured),
        payments::Error::UnknownPackage => Problem::new(Code::NotFound, "Unknown package"),
        payments::Error::Provider(_) => plain(Code::PaymentProviderFailed),
        payments::Error::Signature(why) => {
            Problem::new(Code::WebhookSignatureInvalid, sentence(&why.to_string()))
        }
        payments::Error::Unreadable(_) => {
            Problem::new(Code::InvalidRequest, "The event cannot be read")
        }
        payments::Error::Database(error) => database(error),
    }
}

fn letter(error: &mail::Error) -> Problem {
    match error {
        mail::Error::NotConfigured => plain(Code::MailNotConfigured),
        mail::Error::Database(error) => database(error),
    }
}

fn key(error: &keys::Error) -> Problem {
    match error {
        keys::Error::Unavailable => plain(Code::KeysUnavailable),
        keys::Error::Unreadable(_) | keys::Error::Unknown(_) => plain(Code::Internal),
        keys::Error::Database(error) => database(error),
    }
}

fn database(error: &sqlx::Error) -> Problem {
    plain(if db::is_outage(error) {
        Code::DatabaseUnavailable
    } else {
        Code::Internal
    })
}

fn plain(code: Code) -> Problem {
    Problem::new(code, code.title())
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            let causes: Vec<String> = std::iter::successors(self.source(), |&error| error.source())
                .map(ToString::to_string)
                .collect();
            tracing::error!(error = %self, ?causes, code = problem.code.as_str(), "a request failed");
        }
        let mut response = (status, self.headers(problem.code)).into_response();
        // The front writes it down, with the request's id.
        response.extensions_mut().insert(problem);
        response
    }
}
