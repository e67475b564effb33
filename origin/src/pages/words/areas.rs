//! The texts of the account and of what admins look after.

use chrono::{DateTime, NaiveDate, Utc};
use shared::credits::Credits;

/// The account.
pub struct Account {
    pub area: &'static str,
    pub profile: &'static str,
    pub security: &'static str,
    pub devices: &'static str,
    pub events: &'static str,
    pub moment: fn(DateTime<Utc>) -> String,
    pub save: &'static str,
    pub saved: &'static str,

    pub address: fn(&str) -> String,
    pub name: &'static str,

    pub password: &'static str,
    pub current_password: &'static str,
    pub end_others: &'static str,
    pub change_password: &'static str,
    pub password_changed: &'static str,
    pub no_password: &'static str,
    pub set_password: &'static str,

    pub factor: &'static str,
    pub factor_off: &'static str,
    pub factor_on: fn(i64) -> String,
    pub factor_begin: &'static str,
    pub factor_scan: &'static str,
    pub factor_picture: &'static str,
    pub factor_type: &'static str,
    pub factor_code: &'static str,
    pub factor_confirm: &'static str,
    pub factor_over: &'static str,
    pub codes: &'static str,
    pub codes_says: &'static str,
    pub codes_new: &'static str,
    pub codes_kept: &'static str,
    pub factor_remove: &'static str,
    pub factor_removed: &'static str,

    pub devices_says: &'static str,
    pub this_device: &'static str,
    pub unknown_device: &'static str,
    pub on: fn(&str, &str) -> String,
    pub of_app: &'static str,
    pub since: fn(&str) -> String,
    pub last_used: fn(&str) -> String,
    pub from: fn(&str) -> String,
    pub end_one: &'static str,
    pub ended: &'static str,
    pub others: &'static str,
    pub others_ended: &'static str,
    pub everywhere: &'static str,
    pub everywhere_says: &'static str,

    pub events_says: &'static str,
    pub failed: &'static str,
    pub older: &'static str,
    pub newest: &'static str,

    pub linked: &'static str,
    pub access: &'static str,
    pub credits: &'static str,
    pub data: &'static str,

    pub linked_says: &'static str,
    pub linked_none: &'static str,
    pub link: fn(&str) -> String,
    pub linked_since: fn(&str) -> String,
    pub unlink: &'static str,
    pub is_linked: &'static str,
    pub is_unlinked: &'static str,
    pub matrix: &'static str,

    pub access_says: &'static str,
    pub access_none: &'static str,
    pub access_since: fn(&str) -> String,
    pub access_end: &'static str,
    pub access_unasked: &'static str,
    pub access_out: &'static str,
    pub access_ended: &'static str,

    pub amount: fn(Credits) -> String,
    pub has: fn(&str) -> String,
    pub has_free: fn(&str) -> String,
    pub daily: fn(&str) -> String,
    pub holds: fn(&str) -> String,
    pub buy: &'static str,
    pub price: fn(i64, &str) -> String,
    pub buy_for: fn(&str) -> String,
    pub paying: &'static str,
    pub paying_says: &'static str,
    pub bought: &'static str,
    pub used: &'static str,
    pub used_says: fn(&str) -> String,
    pub used_nothing: &'static str,
    pub as_table: &'static str,
    pub a_day: &'static str,
    pub used_that_day: &'static str,
    pub day: fn(NaiveDate) -> String,
    pub history: &'static str,
    pub history_none: &'static str,
    pub by_app: fn(&str) -> String,
    pub after: fn(&str, &str) -> String,
    pub kinds: Kinds,

    pub export: &'static str,
    pub export_says: &'static str,
    pub export_link: &'static str,
    pub delete: &'static str,
    pub delete_says: &'static str,
    pub delete_confirm: &'static str,
    pub delete_button: &'static str,
    pub deleted: &'static str,
    pub deleted_says: &'static str,
}

/// What a line of the ledger is.
pub struct Kinds {
    pub grant: &'static str,
    pub spend: &'static str,
    pub expiry: &'static str,
    pub hold: &'static str,
    pub capture: &'static str,
    pub void: &'static str,
    pub refund: &'static str,
    pub reversal: &'static str,
}

impl Kinds {
    /// By the name that the database has for it. One that is new here is shown by that.
    pub fn of<'a>(&'a self, kind: &'a str) -> &'a str {
        match kind {
            "grant" => self.grant,
            "spend" => self.spend,
            "expiry" => self.expiry,
            "hold" => self.hold,
            "capture" => self.capture,
            "void" => self.void,
            "refund" => self.refund,
            "reversal" => self.reversal,
            other => other,
        }
    }
}

/// What admins look after.
pub struct Admin {
    pub area: &'static str,
    pub users: &'static str,
    pub apps: &'static str,
    pub clients: &'static str,
    pub keys: &'static str,
    pub mail: &'static str,
    pub health: &'static str,
    pub done: &'static str,
    pub none: &'static str,

    pub search: &'static str,
    pub search_button: &'static str,
    pub nobody: &'static str,
    pub more: &'static str,
    pub since: fn(&str) -> String,
    pub staff_mark: &'static str,
    pub is_banned: &'static str,
    pub is_unverified: &'static str,
    pub has_password: &'static str,
    pub has_factor: &'static str,

    pub actions: &'static str,
    pub promote: &'static str,
    pub demote: &'static str,
    pub ban: &'static str,
    pub unban: &'static str,
    pub sign_out: &'static str,
    pub sessions: &'static str,
    pub end_session: &'static str,
    pub done_by: fn(&str) -> String,

    pub credits: &'static str,
    pub credits_of: fn(&str) -> String,
    pub to_user: &'static str,
    pub grant: &'static str,
    pub grant_says: &'static str,
    pub grant_button: &'static str,
    pub refund: &'static str,
    pub refund_says: &'static str,
    pub refund_button: &'static str,
    pub amount: &'static str,
    pub amount_or_all: &'static str,
    pub reason: &'static str,

    pub apps_says: &'static str,
    pub clients_says: &'static str,
    pub is_disabled: &'static str,
    pub is_trusted: &'static str,
    pub keys_says: &'static str,
    pub signs_from: fn(&str) -> String,
    pub goes_at: fn(&str) -> String,
    pub mail_says: &'static str,
    pub oldest: fn(&str) -> String,
    pub stuck: &'static str,
    pub tries: fn(i32) -> String,
    pub next_try: fn(&str) -> String,
    pub health_says: &'static str,
    pub connections: &'static str,
    pub ledger_queue: &'static str,
    pub ledger_verified: &'static str,
    pub verified_at: fn(&str, usize) -> String,
    pub revocations: &'static str,
    pub revocations_age: &'static str,
    pub seconds: fn(u64) -> String,
    pub not_yet: &'static str,
}

/// A price in the smallest unit of its currency, as Stripe counts it (Stripe API, "Supported
/// currencies": those without, and those with three decimals).
pub fn price(smallest: i64, currency: &str, point: char) -> String {
    let decimals = match currency {
        "bif" | "clp" | "djf" | "gnf" | "jpy" | "kmf" | "krw" | "mga" | "pyg" | "rwf" | "vnd"
        | "vuv" | "xaf" | "xof" | "xpf" => 0,
        "bhd" | "jod" | "kwd" | "omr" | "tnd" => 3,
        _ => 2,
    };
    let (unit, currency) = (10_i64.pow(decimals), currency.to_uppercase());
    let (whole, rest) = (smallest / unit, smallest % unit);
    match decimals {
        0 => format!("{whole} {currency}"),
        _ => format!(
            "{whole}{point}{rest:0width$} {currency}",
            width = decimals as usize
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_has_the_decimals_of_its_currency() {
        assert_eq!(price(999, "eur", ','), "9,99 EUR");
        assert_eq!(price(5, "usd", '.'), "0.05 USD");
        assert_eq!(price(500, "jpy", '.'), "500 JPY");
        assert_eq!(price(1_005, "kwd", '.'), "1.005 KWD");
    }
}
