//! Bodies of requests and answers, as the HTTP contract names them.
//!
//! A request is parsed once, at the door: [`parse`] turns bytes into a [`Body`] of types that
//! can hold nothing invalid, or says everything that is wrong with it at once, each with its
//! JSON pointer and without repeating what was sent. Answers are plain structs to serialize.

mod answers;
mod body;
mod fields;
mod mail;
mod matrix;
mod outside;
mod second_factor;

pub use answers::*;
pub use body::{Body, Change, Fields, Nothing, Refusal, parse};
pub use fields::*;
pub use mail::*;
pub use matrix::*;
pub use outside::*;
pub use second_factor::*;

use crate::ids::{TransactionId, UserId};

/// `POST /auth/register`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Register {
    /// Who: the address to sign in with.
    pub email: Email,
    /// What only they know.
    pub password: Password,
    /// What to call them.
    pub name: Option<Name>,
    /// The page that they come from, and return to once they have verified their address.
    pub source_app_url: Option<Link>,
}

impl Body for Register {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (email, password) = (fields.required("email"), fields.required("password"));
        let name = fields.optional("name");
        let source_app_url = fields.if_good("sourceAppUrl");
        fields.ignored("referralCode");
        Some(Self {
            email: email?,
            password: password?,
            name: name?,
            source_app_url,
        })
    }
}

/// `DELETE /auth/account`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Leave {
    /// The account's, once more, where it has one.
    pub password: Option<Password>,
}

impl Body for Leave {
    const MAY_BE_ABSENT: bool = true;

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            password: fields.optional("password")?,
        })
    }
}

/// `POST /auth/login`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
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
    #[cfg_attr(feature = "openapi", schema(value_type = Option<bool>, default = false))]
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
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
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
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
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

/// `PATCH /auth/profile`: what is absent stays, and null takes it away.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct ChangeProfile {
    /// What to call them.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Name>))]
    pub name: Change<Name>,
    /// Where their picture is.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Picture>))]
    pub image: Change<Picture>,
}

impl Body for ChangeProfile {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (name, image) = (fields.change("name"), fields.change("image"));
        Some(Self {
            name: name?,
            image: image?,
        })
    }
}

/// A charge: `POST /credits/use`.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Charge {
    /// Who pays, where an app's key asks and not the person's own token.
    pub user_id: Option<UserId>,
    /// How much; more than nothing.
    pub amount: Price,
    /// For which app.
    pub app_id: AppId,
    /// For what, for the person who reads the list.
    pub description: Description,
    /// Repeating a key repeats the answer and not the charge. The header may say it instead.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Whatever the app wants to find again.
    pub metadata: Option<Metadata>,
}

impl Body for Charge {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let user_id = fields.optional("userId");
        let (amount, app_id) = (fields.required("amount"), fields.required("appId"));
        let description = fields.required("description");
        let idempotency_key = fields.optional("idempotencyKey");
        let metadata = fields.optional("metadata");
        Some(Self {
            user_id: user_id?,
            amount: amount?,
            app_id: app_id?,
            description: description?,
            idempotency_key: idempotency_key?,
            metadata: metadata?,
        })
    }
}

/// Where the edge opens the holds of priced routes, and settles them at `{hold}/capture` and
/// `{hold}/void`. The same bodies as those of `/credits/holds`, under a proof for internal calls.
pub const PRICED_HOLDS: &str = "/internal/holds";

/// Where the edge asks whose pages may ask; answered by [`Pages`], under a proof for internal calls.
pub const PAGES: &str = "/internal/origins";

/// `POST /credits/holds`: a charge of that much at the most, for later.
#[derive(Clone, Debug)]
pub struct OpenHold {
    /// What it is held for.
    pub charge: Charge,
    /// When it ends by itself, uncharged.
    pub expires_in: Lifetime,
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for OpenHold {
    /// A charge with one more field; two schemas beside one another would each refuse the other's fields.
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::{OneOfBuilder, Ref, RefOr, Schema, Type, schema::ObjectBuilder};
        let mut schema = Charge::schema();
        if let RefOr::T(Schema::Object(charge)) = &mut schema {
            let lifetime = OneOfBuilder::new()
                .item(Ref::from_schema_name("Lifetime"))
                .item(ObjectBuilder::new().schema_type(Type::Null));
            charge.description = Some("A charge of that much at the most, for later.".to_owned());
            charge
                .properties
                .insert("expiresIn".to_owned(), lifetime.into());
        }
        schema
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for OpenHold {
    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        use utoipa::PartialSchema;
        Charge::schemas(schemas);
        schemas.push(("Lifetime".to_owned(), Lifetime::schema()));
    }
}

impl Body for OpenHold {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (charge, expires_in) = (Charge::read(fields), fields.optional("expiresIn"));
        Some(Self {
            charge: charge?,
            expires_in: expires_in?.unwrap_or_default(),
        })
    }
}

/// `POST /credits/holds/{id}/capture`, which may have no body.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Capture {
    /// Whose hold it is, where an app's key asks.
    pub user_id: Option<UserId>,
    /// How much of the hold; all of it by default.
    pub amount: Option<Price>,
}

impl Body for Capture {
    const MAY_BE_ABSENT: bool = true;

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (user_id, amount) = (fields.optional("userId"), fields.optional("amount"));
        Some(Self {
            user_id: user_id?,
            amount: amount?,
        })
    }
}

/// `POST /credits/holds/{id}/void`, which may have no body.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Void {
    /// Whose hold it is, where an app's key asks.
    pub user_id: Option<UserId>,
}

impl Body for Void {
    const MAY_BE_ABSENT: bool = true;

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            user_id: fields.optional("userId")?,
        })
    }
}

/// `POST /credits/grants`.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Grant {
    /// Who gets them.
    pub user_id: UserId,
    /// How much; more than nothing.
    pub amount: Price,
    /// Free by default.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<GrantKind>))]
    pub kind: GrantKind,
    /// When what is left of them goes; never by default.
    pub expires_at: Option<Moment>,
    /// For what, for the person who reads the list.
    pub reason: Description,
    /// The caller's name for this grant, which happens once.
    pub reference_id: IdempotencyKey,
}

impl Body for Grant {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (user_id, amount) = (fields.required("userId"), fields.required("amount"));
        let (kind, expires_at) = (fields.optional("kind"), fields.optional("expiresAt"));
        let reason = fields.required("reason");
        let reference_id = fields.required("referenceId");
        Some(Self {
            user_id: user_id?,
            amount: amount?,
            kind: kind?.unwrap_or(GrantKind::Free),
            expires_at: expires_at?,
            reason: reason?,
            reference_id: reference_id?,
        })
    }
}

/// `POST /credits/refunds`.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Refund {
    /// Who was charged.
    pub user_id: UserId,
    /// Which charge.
    pub transaction_id: TransactionId,
    /// How much of it; all that is not refunded yet by default.
    pub amount: Option<Price>,
    /// For what, for the person who reads the list.
    pub reason: Description,
    /// The caller's name for this refund, which happens once.
    pub reference_id: IdempotencyKey,
}

impl Body for Refund {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let user_id = fields.required("userId");
        let transaction_id = fields.required("transactionId");
        let amount = fields.optional("amount");
        let reason = fields.required("reason");
        let reference_id = fields.required("referenceId");
        Some(Self {
            user_id: user_id?,
            transaction_id: transaction_id?,
            amount: amount?,
            reason: reason?,
            reference_id: reference_id?,
        })
    }
}

/// `POST /credits/purchases`.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Purchase {
    /// What is bought.
    pub package_id: AppId,
    /// Where the payment page leads after it was paid; an allowed app's page.
    pub success_url: Option<Link>,
    /// Where it leads otherwise; an allowed app's page.
    pub cancel_url: Option<Link>,
}

impl Body for Purchase {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let package_id = fields.required("packageId");
        let (success_url, cancel_url) =
            (fields.optional("successUrl"), fields.optional("cancelUrl"));
        Some(Self {
            package_id: package_id?,
            success_url: success_url?,
            cancel_url: cancel_url?,
        })
    }
}
