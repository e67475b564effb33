//! Bodies of requests and answers, as the HTTP contract names them.
//!
//! A request is parsed once, at the door: [`parse`] turns bytes into a [`Body`] of types that
//! can hold nothing invalid, or says everything that is wrong with it at once, each with its
//! JSON pointer and without repeating what was sent. Answers are plain structs to serialize.

mod answers;
mod body;
mod fields;

pub use answers::*;
pub use body::{Body, Fields, Refusal, parse};
pub use fields::*;

/// `POST /auth/register`.
#[derive(Debug)]
pub struct Register {
    /// Who: the address to sign in with.
    pub email: Email,
    /// What only they know.
    pub password: Password,
    /// What to call them.
    pub name: Option<Name>,
}

impl Body for Register {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (email, password) = (fields.required("email"), fields.required("password"));
        let name = fields.optional("name");
        fields.ignored("sourceAppUrl");
        fields.ignored("referralCode");
        Some(Self {
            email: email?,
            password: password?,
            name: name?,
        })
    }
}

/// `POST /auth/login`.
#[derive(Debug)]
pub struct Login {
    /// The address of the account.
    pub email: Email,
    /// Its password.
    pub password: Password,
    /// The device's own name for itself.
    pub device_id: Option<Device>,
    /// What its owner calls it.
    pub device_name: Option<Device>,
    /// Whether the session slides 30 days and not 7.
    pub remember_me: bool,
}

impl Body for Login {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (email, password) = (fields.required("email"), fields.required("password"));
        let (device_id, device_name) = (fields.optional("deviceId"), fields.optional("deviceName"));
        let remember_me = fields.optional("rememberMe");
        Some(Self {
            email: email?,
            password: password?,
            device_id: device_id?,
            device_name: device_name?,
            remember_me: remember_me?.unwrap_or(false),
        })
    }
}

/// `POST /auth/refresh`, and what `POST /auth/logout` takes in place of an access token.
#[derive(Debug)]
pub struct Refresh {
    /// The refresh token.
    pub refresh_token: Token,
}

impl Body for Refresh {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            refresh_token: fields.required("refreshToken")?,
        })
    }
}

/// `POST /auth/validate`.
#[derive(Debug)]
pub struct Validate {
    /// Whatever claims to be an access token.
    pub token: Token,
}

impl Body for Validate {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            token: fields.required("token")?,
        })
    }
}

/// `POST /credits/use`.
#[derive(Clone, Debug)]
pub struct UseCredits {
    /// How much; more than nothing.
    pub amount: Price,
    /// For which app.
    pub app_id: AppId,
    /// For what, for the person who reads the list.
    pub description: Description,
    /// Repeating a key repeats the answer and not the charge.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Whatever the app wants to find again.
    pub metadata: Option<Metadata>,
}

impl Body for UseCredits {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (amount, app_id) = (fields.required("amount"), fields.required("appId"));
        let description = fields.required("description");
        let idempotency_key = fields.optional("idempotencyKey");
        let metadata = fields.optional("metadata");
        Some(Self {
            amount: amount?,
            app_id: app_id?,
            description: description?,
            idempotency_key: idempotency_key?,
            metadata: metadata?,
        })
    }
}
