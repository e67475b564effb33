//! Bodies of the calls about mail, the links in it, and passwords.

use super::{
    body::{Body, Fields},
    fields::{Device, Email, Link, Password, Token},
};

/// `POST /auth/forgot-password`, `/auth/resend-verification` and `/auth/magic-link`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct AskForMail {
    /// Where to; nobody learns whether it has an account.
    pub email: Email,
    /// Where the link leads in the end; an allowed app's page.
    pub redirect_to: Option<Link>,
}

impl Body for AskForMail {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (email, redirect_to) = (fields.required("email"), fields.optional("redirectTo"));
        Some(Self {
            email: email?,
            redirect_to: redirect_to?,
        })
    }
}

/// `POST /auth/reset-password`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct ResetPassword {
    /// From the link.
    pub token: Token,
    /// What takes the place of the password.
    pub new_password: Password,
}

impl Body for ResetPassword {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (token, new_password) = (fields.required("token"), fields.required("newPassword"));
        Some(Self {
            token: token?,
            new_password: new_password?,
        })
    }
}

/// `POST /auth/verify-email`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct VerifyEmail {
    /// From the link.
    pub token: Token,
    /// The account's, where it is not the browser that registered.
    pub password: Option<Password>,
}

impl Body for VerifyEmail {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (token, password) = (fields.required("token"), fields.optional("password"));
        Some(Self {
            token: token?,
            password: password?,
        })
    }
}

/// `POST /auth/magic-link/verify`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct SignInByMail {
    /// From the link.
    pub token: Token,
    /// The device's own name for itself.
    pub device_id: Option<Device>,
    /// What its owner calls it.
    pub device_name: Option<Device>,
    /// Whether the session slides 30 days and not 7.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<bool>, default = false))]
    pub remember_me: bool,
}

impl Body for SignInByMail {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let token = fields.required("token");
        let (device_id, device_name) = (fields.optional("deviceId"), fields.optional("deviceName"));
        let remember_me = fields.optional("rememberMe");
        Some(Self {
            token: token?,
            device_id: device_id?,
            device_name: device_name?,
            remember_me: remember_me?.unwrap_or(false),
        })
    }
}

/// `POST /auth/change-password`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct ChangePassword {
    /// What it is.
    pub current_password: Password,
    /// What it becomes.
    pub new_password: Password,
    /// Whether the other devices are signed out.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<bool>, default = false))]
    pub revoke_others: bool,
}

impl Body for ChangePassword {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let current_password = fields.required("currentPassword");
        let new_password = fields.required("newPassword");
        let revoke_others = fields.optional("revokeOthers");
        Some(Self {
            current_password: current_password?,
            new_password: new_password?,
            revoke_others: revoke_others?.unwrap_or(false),
        })
    }
}
