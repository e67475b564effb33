//! The texts of our pages, in every language that there is. A language is one value of [`Words`], so
//! that a text which it lacks does not compile.

mod areas;
mod de;
mod en;

use axum::http::{HeaderMap, header};

pub use areas::{Account, Admin};

/// The first one is for whoever reads none of them.
const LANGUAGES: [&Words; 2] = [&en::WORDS, &de::WORDS];

/// All texts of one language. What has a blank in it is a function of what fills it.
pub struct Words {
    /// BCP 47.
    pub lang: &'static str,
    /// What parts a number from its decimals.
    pub point: char,
    /// What pages of every kind say.
    pub common: Common,
    /// What went wrong.
    pub mistakes: Mistakes,
    /// Signing in and out, and registering.
    pub sign_in: SignIn,
    /// Where the links of mails lead.
    pub links: Links,
    /// What relying parties send people here for.
    pub clients: Clients,
    /// The account.
    pub account: Account,
    /// What admins look after.
    pub admin: Admin,
    /// What happened to it.
    pub events: Events,
}

/// What pages of every kind say.
pub struct Common {
    pub skip: &'static str,
    pub mistake: &'static str,
    pub close: &'static str,
    pub on: &'static str,
    pub on_says: &'static str,
    pub email: &'static str,
    pub password: &'static str,
    pub new_password: &'static str,
    pub back: &'static str,
    pub reference: fn(&str) -> String,
}

/// What went wrong.
pub struct Mistakes {
    pub not_found: &'static str,
    pub not_found_says: &'static str,
    pub try_again: &'static str,
    pub try_again_says: &'static str,
    pub slow_down: &'static str,
    pub slow_down_says: &'static str,
    pub ours: &'static str,
    pub ours_says: &'static str,
    pub refused: &'static str,
    pub refused_says: &'static str,
    pub credentials: &'static str,
    pub unverified: &'static str,
    pub disabled: &'static str,
    pub taken: &'static str,
    pub common_password: &'static str,
    pub code: &'static str,
    pub second_step_over: &'static str,
    pub overloaded: &'static str,
    pub no_mail: &'static str,
    pub provider: &'static str,
    pub email_field: &'static str,
    pub password_field: &'static str,
    pub name_field: &'static str,
    pub code_field: &'static str,
    pub field: &'static str,
    pub amount_field: &'static str,
    pub reason_field: &'static str,
    pub address_field: &'static str,
    pub last_way: &'static str,
    pub payments: &'static str,
    pub refund_exceeds: &'static str,
    pub mismatch: &'static str,
}

/// Signing in and out, and registering.
pub struct SignIn {
    pub title: &'static str,
    pub again_title: &'static str,
    pub again_says: &'static str,
    pub button: &'static str,
    pub remember: &'static str,
    pub forgot: &'static str,
    pub by_mail: &'static str,
    pub no_account: &'static str,
    pub or: &'static str,
    pub with: fn(&str) -> String,
    pub going: fn(&str) -> String,
    pub send_again: &'static str,

    pub code_title: &'static str,
    pub code_says: &'static str,
    pub code: &'static str,
    pub other_account: &'static str,

    pub register_title: &'static str,
    pub register_button: &'static str,
    pub name: &'static str,
    pub have_account: &'static str,

    pub forgot_title: &'static str,
    pub forgot_says: &'static str,
    pub forgot_button: &'static str,
    pub mail_title: &'static str,
    pub mail_says: &'static str,
    pub mail_button: &'static str,
    pub resend_title: &'static str,
    pub resend_says: &'static str,

    pub check_title: &'static str,
    pub check_verify: &'static str,
    pub check_reset: &'static str,
    pub check_magic: &'static str,
    pub check_nothing: &'static str,
    pub registered: &'static str,

    pub out_title: &'static str,
    pub out_says: fn(&str) -> String,
    pub out_button: &'static str,
    pub out_stay: &'static str,
    pub out_done: &'static str,
    pub out_done_says: &'static str,
}

/// Where the links of mails lead, and the ways of providers.
pub struct Links {
    pub gone: &'static str,
    pub gone_says: &'static str,
    pub verify: &'static str,
    pub verify_says: fn(&str) -> String,
    pub verify_password: &'static str,
    pub verify_button: &'static str,
    pub verified: &'static str,
    pub wrong_password: &'static str,
    pub password_needed: &'static str,
    pub reset: &'static str,
    pub reset_says: fn(&str) -> String,
    pub reset_button: &'static str,
    pub is_reset: &'static str,
    pub magic_says: fn(&str) -> String,
    pub signed_in: &'static str,
    pub one_more: &'static str,
    pub one_more_says: &'static str,
    pub linked: &'static str,
}

/// What happened to an account, by the names that the database has for it.
pub struct Events {
    pub account_deleted: &'static str,
    pub banned: &'static str,
    pub client_access_ended: &'static str,
    pub client_allowed: &'static str,
    pub credits_granted: &'static str,
    pub credits_refunded: &'static str,
    pub made_admin: &'static str,
    pub made_user: &'static str,
    pub matrix_link_taken: &'static str,
    pub session_ended_by_admin: &'static str,
    pub signed_out_by_admin: &'static str,
    pub unbanned: &'static str,
    pub app_sign_in: &'static str,
    pub data_exported: &'static str,
    pub matrix_unlinked: &'static str,
    pub email_verified: &'static str,
    pub imported: &'static str,
    pub other_sessions_ended: &'static str,
    pub outside_linked: &'static str,
    pub outside_unlinked: &'static str,
    pub password_changed: &'static str,
    pub password_reset: &'static str,
    pub profile_changed: &'static str,
    pub recovery_code_used: &'static str,
    pub recovery_codes_made: &'static str,
    pub refresh_elsewhere: &'static str,
    pub refresh_reuse: &'static str,
    pub registered: &'static str,
    pub second_factor: &'static str,
    pub second_factor_asked: &'static str,
    pub second_factor_begun: &'static str,
    pub second_factor_enrolled: &'static str,
    pub second_factor_removed: &'static str,
    pub session_crowded_out: &'static str,
    pub session_ended: &'static str,
    pub sign_in: &'static str,
    pub sign_out: &'static str,
    pub sign_out_everywhere: &'static str,
}

impl Events {
    /// What people read of an event. One that is new here is shown by its name.
    pub fn of<'a>(&self, name: &'a str) -> &'a str {
        match name {
            "account_deleted" => self.account_deleted,
            "banned" => self.banned,
            "client_access_ended" => self.client_access_ended,
            "client_allowed" => self.client_allowed,
            "credits_granted" => self.credits_granted,
            "credits_refunded" => self.credits_refunded,
            "made_admin" => self.made_admin,
            "made_user" => self.made_user,
            "matrix_link_taken" => self.matrix_link_taken,
            "session_ended_by_admin" => self.session_ended_by_admin,
            "signed_out_by_admin" => self.signed_out_by_admin,
            "unbanned" => self.unbanned,
            "app_sign_in" => self.app_sign_in,
            "data_exported" => self.data_exported,
            "matrix_unlinked" => self.matrix_unlinked,
            "email_verified" => self.email_verified,
            "imported" => self.imported,
            "other_sessions_ended" => self.other_sessions_ended,
            "outside_linked" => self.outside_linked,
            "outside_unlinked" => self.outside_unlinked,
            "password_changed" => self.password_changed,
            "password_reset" => self.password_reset,
            "profile_changed" => self.profile_changed,
            "recovery_code_used" => self.recovery_code_used,
            "recovery_codes_made" => self.recovery_codes_made,
            "refresh_elsewhere" => self.refresh_elsewhere,
            "refresh_reuse" => self.refresh_reuse,
            "registered" => self.registered,
            "second_factor" => self.second_factor,
            "second_factor_asked" => self.second_factor_asked,
            "second_factor_begun" => self.second_factor_begun,
            "second_factor_enrolled" => self.second_factor_enrolled,
            "second_factor_removed" => self.second_factor_removed,
            "session_crowded_out" => self.session_crowded_out,
            "session_ended" => self.session_ended,
            "sign_in" => self.sign_in,
            "sign_out" => self.sign_out,
            "sign_out_everywhere" => self.sign_out_everywhere,
            other => other,
        }
    }
}

/// What relying parties send people here for.
pub struct Clients {
    pub title: fn(&str) -> String,
    pub says: fn(&str, &str) -> String,
    pub learns_openid: &'static str,
    pub learns_profile: &'static str,
    pub learns_email: &'static str,
    pub learns_offline: &'static str,
    pub allow: &'static str,
    pub deny: &'static str,
    pub stayed: &'static str,
    pub stayed_says: &'static str,
    pub mistake: &'static str,
    pub too_long: &'static str,
    pub unknown: &'static str,
    pub wrong_address: &'static str,
    pub two: &'static str,
    pub wrong_way_out: &'static str,
}

impl Words {
    /// Those in English.
    pub const fn english() -> &'static Self {
        &en::WORDS
    }

    /// The language that a browser would rather have (RFC 9110 §12.5.4).
    pub fn of(headers: &HeaderMap) -> &'static Self {
        let accepted = headers.get_all(header::ACCEPT_LANGUAGE).into_iter();
        let ranges: Vec<(&str, u16)> = accepted
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(range)
            .collect();
        let mut best = (LANGUAGES[0], 0);
        for language in LANGUAGES {
            let weight = weight(&ranges, language.lang);
            if weight > best.1 {
                best = (language, weight);
            }
        }
        best.0
    }
}

/// A language with its weight in thousandths.
fn range(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let language = parts.next().filter(|language| !language.is_empty())?;
    let weight = match parts.find_map(|part| part.strip_prefix("q=")) {
        Some(weight) => weight.trim().parse::<f32>().ok()?,
        None => 1.0,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 1000"
    )]
    let thousandths = (weight.clamp(0.0, 1.0) * 1_000.0) as u16;
    Some((language, thousandths))
}

/// How much a language is wanted: as what names it says, `de-AT` too, or else as `*` does.
fn weight(ranges: &[(&str, u16)], lang: &str) -> u16 {
    let primary = |range: &str| {
        let primary = range.split('-').next().unwrap_or_default();
        primary.eq_ignore_ascii_case(lang)
    };
    let named = ranges.iter().filter(|(range, _)| primary(range));
    let any = ranges.iter().find(|(range, _)| *range == "*");
    named
        .map(|(_, weight)| *weight)
        .max()
        .or(any.map(|(_, weight)| *weight))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_browser_gets_the_language_that_it_would_rather_have() {
        for (accepts, lang) in [
            ("", "en"),
            ("de", "de"),
            ("DE-at", "de"),
            ("de;q=0.5, en;q=0.7", "en"),
            ("en;q=0.5, de;q=0.7", "de"),
            ("fr, de;q=0.2", "de"),
            ("fr", "en"),
            ("fr, *;q=0.1", "en"),
            ("en;q=0, *", "de"),
            ("de;q=0", "en"),
            ("de;q=x", "en"),
            ("den", "en"),
            ("de-CH, de;q=0.9, en;q=0.8", "de"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(accepts));
            assert_eq!(Words::of(&headers).lang, lang, "{accepts}");
        }
        assert_eq!(Words::of(&HeaderMap::new()).lang, "en");
    }
}
