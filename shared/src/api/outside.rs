//! Bodies and answers of outside accounts: signing in by the word of another provider.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    body::{Body, Field, Fields},
    fields::{Device, Link, Token},
};
use crate::ids::OutsideAccountId;

/// `POST /auth/oauth/{provider}`, which may have no body.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct GoOutside {
    /// Where it leads in the end; an allowed app's page.
    pub redirect_to: Option<Link>,
    /// Whether it is to link an account to the caller's, and not to sign in.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<bool>, default = false))]
    pub link: bool,
}

impl Body for GoOutside {
    const MAY_BE_ABSENT: bool = true;

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (redirect_to, link) = (fields.optional("redirectTo"), fields.optional("link"));
        Some(Self {
            redirect_to: redirect_to?,
            link: link?.unwrap_or(false),
        })
    }
}

/// `POST /auth/google-signin` and `/auth/apple-signin`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct ShowIdToken {
    /// The `id_token` that the provider gave to a native app.
    pub token: Token,
    /// What the app asked the provider to put into it, as it is or before it was hashed.
    pub nonce: Option<Token>,
    /// Where the app runs.
    #[cfg_attr(feature = "openapi", schema(rename = "deviceInfo", value_type = Option<DeviceInfo>))]
    pub device: DeviceInfo,
}

impl Body for ShowIdToken {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (token, nonce) = (fields.required("token"), fields.optional("nonce"));
        let device = fields.optional("deviceInfo");
        Some(Self {
            token: token?,
            nonce: nonce?,
            device: device?.unwrap_or_default(),
        })
    }
}

/// What existing clients say of a device: two of its fields are read, where they can be.
#[derive(Debug, Default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceInfo {
    /// The device's own name for itself.
    #[cfg_attr(feature = "openapi", schema(rename = "deviceId"))]
    pub id: Option<Device>,
    /// What its owner calls it.
    #[cfg_attr(feature = "openapi", schema(rename = "deviceName"))]
    pub name: Option<Device>,
}

impl Field for DeviceInfo {
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
        let fields: Map<String, Value> =
            serde_json::from_str(json.get()).map_err(|_| Cow::Borrowed("must be an object"))?;
        let device = |name: &str| Device::parse(fields.get(name)?.as_str()?.to_owned());
        Ok(Self {
            id: device("deviceId"),
            name: device("deviceName"),
        })
    }
}

/// Answers `POST oauth/{provider}`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GoThere {
    /// The provider's page, to which this browser goes.
    pub url: String,
}

/// Answers `google-signin` and `apple-signin`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AppSignedIn {
    /// The access token, for `Authorization: Bearer`.
    pub app_token: String,
    /// For the next `refresh`.
    pub refresh_token: String,
    /// The account's address.
    pub email: String,
}

/// An outside account that is linked to the caller's.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct OutsideAccount {
    /// Its id here.
    pub id: OutsideAccountId,
    /// Where it is.
    pub provider: String,
    /// Its address there, when it was linked.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub email: Option<String>,
    /// Since when.
    pub linked_at: DateTime<Utc>,
    /// When somebody last signed in by it.
    pub last_used_at: DateTime<Utc>,
}
