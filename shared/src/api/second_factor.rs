//! Bodies and answers of the second factor.

use std::{borrow::Cow, fmt};

use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{
    Token,
    body::{Body, Field, Fields},
    fields::text,
};

/// The letters of a recovery code; 5 bits each.
const RECOVERY_CODE_LETTERS: usize = 16;

/// What somebody shows as their second factor. Never printed.
pub enum MfaCode {
    /// The six digits of an authenticator app.
    Totp(Zeroizing<String>),
    /// A recovery code: small letters and digits of base32, without its hyphens.
    Recovery(Zeroizing<String>),
}

impl Field for MfaCode {
    /// Spaces and hyphens are for people, who also write large letters.
    fn read(json: &RawValue) -> Result<Self, Cow<'static, str>> {
        let sent = Zeroizing::new(text(json).unwrap_or_default());
        let letters = sent.chars().filter(|letter| !matches!(letter, ' ' | '-'));
        let code: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
        let code = Zeroizing::new(code);
        let is_base32 = |b: u8| matches!(b, b'a'..=b'z' | b'2'..=b'7');
        if code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self::Totp(code))
        } else if code.len() == RECOVERY_CODE_LETTERS && code.bytes().all(is_base32) {
            Ok(Self::Recovery(code))
        } else {
            Err(Cow::Borrowed("must be six digits, or a recovery code"))
        }
    }
}

impl fmt::Debug for MfaCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MfaCode(…)")
    }
}

/// `POST /auth/login/mfa`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct SecondStep {
    /// What the first step answered.
    pub mfa_token: Token,
    /// What it asked for.
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[ -]*(([0-9][ -]*){6}|([A-Za-z2-7][ -]*){16})$"))]
    pub code: MfaCode,
}

impl Body for SecondStep {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (mfa_token, code) = (fields.required("mfaToken"), fields.required("code"));
        Some(Self {
            mfa_token: mfa_token?,
            code: code?,
        })
    }
}

/// `POST /auth/mfa/totp/confirm` and `DELETE /auth/mfa/totp`.
#[derive(Debug)]
#[cfg_attr(
    feature = "openapi",
    derive(utoipa::ToSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct ShowCode {
    /// The code.
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[ -]*(([0-9][ -]*){6}|([A-Za-z2-7][ -]*){16})$"))]
    pub code: MfaCode,
}

impl Body for ShowCode {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            code: fields.required("code")?,
        })
    }
}

/// Answers `login` of somebody who has a second factor.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SecondStepAsked {
    /// `true`.
    pub mfa_required: bool,
    /// For `login/mfa`: once, within five minutes.
    pub mfa_token: String,
    /// What may be shown there.
    pub methods: [&'static str; 2],
}

/// Answers `POST mfa/totp`: three ways to tell an authenticator app the same secret.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// `otpauth://totp/…`.
    pub otpauth_uri: String,
    /// The URI as a picture: a `data:` URL of an SVG.
    pub qr_code: String,
    /// The secret in base32, to type.
    pub secret: String,
}

/// Answers `mfa/totp/confirm` and `mfa/recovery-codes`: shown once, and never again.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RecoveryCodes {
    /// Each signs in once, in place of the authenticator app.
    pub recovery_codes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: &str) -> Result<MfaCode, Cow<'static, str>> {
        MfaCode::read(&RawValue::from_string(format!("\"{code}\"")).expect("JSON"))
    }

    #[test]
    fn a_code_is_read_as_people_write_it() {
        for code in ["012345", "012 345"] {
            assert!(matches!(read(code), Ok(MfaCode::Totp(digits)) if *digits == "012345"));
        }
        for code in ["abcd-efgh-2345-67zz", "ABCDEFGH234567ZZ"] {
            assert!(
                matches!(read(code), Ok(MfaCode::Recovery(code)) if *code == "abcdefgh234567zz")
            );
        }
        for bad in [
            "",
            "12345",
            "1234567",
            "+12345",
            "١٢٣٤٥٦",
            "abcd-efgh-2345-67z1",
            "abcd-efgh",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(
            format!("{:?}", read("012345").expect("a code")),
            "MfaCode(…)"
        );
    }
}
