//! Everything that is not a success: `application/problem+json` (RFC 9457), with a stable code.
//!
//! `type` is `urn:tollgate:problem:<code>`, `instance` the request's id, `message` repeats
//! `detail` for clients that read only that, and `errors` points at each bad field
//! (RFC 6901 pointers).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The media type of a problem. RFC 9457 §3.
pub const CONTENT_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, as a stable word that a client may branch on.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as answers write it: `SCREAMING_SNAKE`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// A short sentence, the same for every problem of this code.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The request cannot be read: malformed JSON, a bad path or query.
    InvalidRequest = "INVALID_REQUEST", 400, "The request cannot be read";
    /// Fields of the body are wrong; `errors` says which.
    ValidationFailed = "VALIDATION_FAILED", 400, "Some fields are not valid";
    /// The link of a mail is unknown, used, replaced by a newer one, or over.
    InvalidLink = "INVALID_LINK", 400, "The link is not valid any more";
    /// The provider's page was not asked for by this browser, lately, or was come back from before.
    InvalidSignInState = "INVALID_SIGN_IN_STATE", 400, "This sign-in was not begun here";
    /// A webhook's signature is missing, wrong or from another time.
    WebhookSignatureInvalid = "WEBHOOK_SIGNATURE_INVALID", 400, "The webhook's signature does not hold";
    /// No credentials where they are needed.
    Unauthenticated = "UNAUTHENTICATED", 401, "Sign in first";
    /// The access token is not one of ours, not for us, or over.
    InvalidToken = "INVALID_TOKEN", 401, "The access token is not valid";
    /// Unknown e-mail or wrong password, and never which.
    InvalidCredentials = "INVALID_CREDENTIALS", 401, "E-mail or password is wrong";
    /// The provider's `id_token` is not for us, not for this sign-in, over, or was shown before.
    InvalidIdToken = "INVALID_ID_TOKEN", 401, "The provider's token is not valid";
    /// The second step's token is unknown, over, used, or no longer good.
    InvalidMfaToken = "INVALID_MFA_TOKEN", 401, "Sign in from the start";
    /// The second factor's code is wrong, or was used before.
    InvalidMfaCode = "INVALID_MFA_CODE", 401, "The code is wrong";
    /// The refresh token is unknown, over, or was used twice.
    InvalidRefreshToken = "INVALID_REFRESH_TOKEN", 401, "The refresh token is not valid";
    /// The service key is unknown, another app's, or disabled.
    InvalidServiceKey = "INVALID_SERVICE_KEY", 401, "The service key is not valid";
    /// The session of the token was ended.
    SessionRevoked = "SESSION_REVOKED", 401, "The session has ended";
    /// Not enough credits; `available` and `required` say how many.
    InsufficientCredits = "INSUFFICIENT_CREDITS", 402, "Not enough credits";
    /// Signed in, but not allowed.
    Forbidden = "FORBIDDEN", 403, "Not allowed";
    /// A browser sends it from a page that is neither ours nor a registered app's.
    ForeignPage = "FOREIGN_PAGE", 403, "This page may not ask";
    /// The account was disabled.
    AccountDisabled = "ACCOUNT_DISABLED", 403, "The account is disabled";
    /// The password was right, the address is not verified yet.
    EmailNotVerified = "EMAIL_NOT_VERIFIED", 403, "The e-mail address is not verified";
    /// The link of a mail was asked for by another browser, and nothing else shows whose it is.
    OtherBrowser = "OTHER_BROWSER", 403, "Another browser asked for this link";
    /// The provider has not verified the address, and no account here is linked.
    ProviderEmailUnverified = "PROVIDER_EMAIL_UNVERIFIED", 403, "The provider has not verified the e-mail address";
    /// The provider did not sign anybody in, or the person said no.
    ProviderRefused = "PROVIDER_REFUSED", 403, "The provider did not sign you in";
    /// The edge's proof is there and does not hold.
    EdgeProofInvalid = "EDGE_PROOF_INVALID", 403, "The edge's proof does not hold";
    /// The app's key has granted its day's worth.
    GrantCapReached = "GRANT_CAP_REACHED", 403, "The app has granted its day's worth";
    /// Needs a sign-in within the last ten minutes.
    RecentSignInRequired = "RECENT_SIGN_IN_REQUIRED", 403, "Sign in again first";
    /// Nothing here.
    NotFound = "NOT_FOUND", 404, "There is nothing here";
    /// The path exists, the method does not.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, "The method is not allowed here";
    /// It clashes with what is there.
    Conflict = "CONFLICT", 409, "It clashes with what is there";
    /// Somebody registered the address before.
    EmailTaken = "EMAIL_TAKEN", 409, "The e-mail address is taken";
    /// Nobody could sign in to the account without it.
    LastSignInMethod = "LAST_SIGN_IN_METHOD", 409, "There is no other way to sign in";
    /// The provider's account is linked to somebody else here.
    LinkedElsewhere = "LINKED_ELSEWHERE", 409, "That account is linked to another one here";
    /// The hold was captured or voided before, otherwise.
    HoldSettled = "HOLD_SETTLED", 409, "The hold was settled before";
    /// The hold's time was over; its credits are back.
    HoldExpired = "HOLD_EXPIRED", 409, "The hold has expired";
    /// The body's length is not said, where it counts.
    LengthRequired = "LENGTH_REQUIRED", 411, "The length of the body must be said";
    /// The body is larger than the limit.
    BodyTooLarge = "BODY_TOO_LARGE", 413, "The body is too large";
    /// The body is not JSON by its `Content-Type`.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, "The body must be application/json";
    /// The idempotency key was used with other values.
    IdempotencyMismatch = "IDEMPOTENCY_MISMATCH", 422, "The idempotency key was used for something else";
    /// More than the hold.
    HoldExceeded = "HOLD_EXCEEDED", 422, "More than was held";
    /// Everybody tries that password, or it was in a breach.
    PasswordTooCommon = "PASSWORD_TOO_COMMON", 422, "Everybody tries this password; choose another";
    /// More than is left of the charge; `left` says how much is.
    RefundExceedsCharge = "REFUND_EXCEEDS_CHARGE", 422, "More than was charged";
    /// Too many requests; `Retry-After` says when again.
    RateLimited = "RATE_LIMITED", 429, "Too many requests";
    /// A fault of ours; the log has it under the request's id.
    Internal = "INTERNAL", 500, "Something went wrong on our side";
    /// What is behind the edge did not answer.
    UpstreamUnreachable = "UPSTREAM_UNREACHABLE", 502, "The service behind does not answer";
    /// Stripe did not answer, or refused.
    PaymentProviderFailed = "PAYMENT_PROVIDER_FAILED", 502, "The payment provider does not answer";
    /// The provider by which somebody signs in does not answer, or not as it should.
    SignInProviderFailed = "SIGN_IN_PROVIDER_FAILED", 502, "The provider does not answer";
    /// A queue is full; `Retry-After` says when again.
    Overloaded = "OVERLOADED", 503, "Too much to do at the moment";
    /// The operator has not set up mail.
    MailNotConfigured = "MAIL_NOT_CONFIGURED", 503, "No mail can be sent here";
    /// The operator has not set up payments.
    PaymentsNotConfigured = "PAYMENTS_NOT_CONFIGURED", 503, "Nothing can be bought here";
    /// The database does not answer.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE", 503, "The database does not answer";
    /// It took too long, and may have been done.
    OutcomeUnknown = "OUTCOME_UNKNOWN", 503, "It is not known whether it was done";
    /// There are no keys to verify with.
    KeysUnavailable = "KEYS_UNAVAILABLE", 503, "The signing keys are not available";
    /// A strict route, and what the edge knows of ended sessions is too old.
    RevocationsUnavailable = "REVOCATIONS_UNAVAILABLE", 503, "It is not known which sessions have ended";
    /// What is behind the edge took too long.
    UpstreamTimeout = "UPSTREAM_TIMEOUT", 504, "The service behind took too long";
}

// By hand, since a derive does not see the names that the macro above gives.
#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Code {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Code {}

/// One field that is not valid.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldError {
    /// Which, as a JSON pointer into the body: `/password`. RFC 6901.
    pub pointer: String,
    /// Why, for the person who reads it.
    pub detail: String,
}

/// A problem, RFC 9457 §3.1.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:tollgate:problem:<code>`.
    pub r#type: String,
    /// The same for every problem of this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time, for the person who reads it.
    pub detail: String,
    /// The request's id, which the logs know.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub instance: Option<String>,
    /// What went wrong, as a stable word.
    pub code: Code,
    /// The same as `detail`.
    pub message: String,
    /// Each field that is not valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// What this code adds: `available`, `required`.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(value_type = HashMap<String, Value>))]
    pub extra: Map<String, Value>,
}

impl Problem {
    /// A problem of this code; `detail` is for the person who reads it and names no secret.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            r#type: format!("urn:tollgate:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            message: detail.clone(),
            detail,
            instance: None,
            code,
            errors: Vec::new(),
            extra: Map::new(),
        }
    }

    /// Names the request that it answers.
    #[must_use]
    pub fn instance(mut self, request_id: impl Into<String>) -> Self {
        self.instance = Some(request_id.into());
        self
    }

    /// Points at the fields that are not valid.
    #[must_use]
    pub fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Adds a member of this code's own.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(member.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_carries_its_code_and_repeats_its_detail_as_message() {
        let problem = Problem::new(Code::InsufficientCredits, "10 needed, 3 there")
            .instance("0197")
            .with("available", 3);
        assert_eq!(
            serde_json::to_value(&problem).expect("JSON"),
            serde_json::json!({
                "type": "urn:tollgate:problem:INSUFFICIENT_CREDITS",
                "title": "Not enough credits",
                "status": 402,
                "detail": "10 needed, 3 there",
                "instance": "0197",
                "code": "INSUFFICIENT_CREDITS",
                "message": "10 needed, 3 there",
                "available": 3,
            })
        );
    }

    #[test]
    fn every_code_is_an_error_and_screams() {
        for code in Code::ALL {
            assert!((400..600).contains(&code.status()), "{code:?}");
            assert!(
                code.as_str()
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b == b'_'),
                "{code:?}"
            );
        }
    }

    #[test]
    fn every_code_is_documented_with_its_status() {
        let documented = include_str!("../../docs/PROBLEMS.md");
        for code in Code::ALL {
            let row = format!("| `{}` | {} |", code.as_str(), code.status());
            assert!(
                documented.contains(&row),
                "docs/PROBLEMS.md has no row {row}"
            );
        }
    }
}
