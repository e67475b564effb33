//! Stripe's API, as much of it as a checkout page needs.

use std::time::Duration;

use reqwest::{Client, header::HeaderValue, redirect};
use serde::Deserialize;
use shared::ids::{PurchaseId, UserId};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// The version whose parameters and answers these are.
const VERSION: &str = "2026-10-28.endive";
/// For both attempts together; the person is waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of an error that goes into the log.
const LONGEST_ERROR_CHARS: usize = 500;

/// What we are to Stripe, and whether our money is real.
#[derive(Clone)]
pub struct SecretKey {
    text: Zeroizing<String>,
    /// Made for live mode.
    pub is_live: bool,
}

impl SecretKey {
    /// `sk_live_…` or `sk_test_…`, or the same of a restricted key: `rk_…`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mode = text
            .strip_prefix("sk_")
            .or_else(|| text.strip_prefix("rk_"))?;
        let is_live = mode.starts_with("live_");
        let is_plain = text.bytes().all(|b| b.is_ascii_graphic());
        ((is_live || mode.starts_with("test_")) && is_plain).then(|| Self {
            text: text.to_owned().into(),
            is_live,
        })
    }
}

/// A client of Stripe. Cheap to clone.
#[derive(Clone)]
pub struct Stripe {
    http: Client,
    sessions: String,
    key: SecretKey,
}

/// What somebody is about to pay for.
pub struct Order<'a> {
    /// Its id, under which Stripe makes one page however often it is asked.
    pub id: PurchaseId,
    /// Who pays.
    pub user: UserId,
    /// What it says on the page.
    pub name: String,
    /// In the smallest unit of the currency.
    pub price_cents: i64,
    /// ISO 4217, in small letters.
    pub currency: &'a str,
    /// Where the page leads after it was paid.
    pub success_url: &'a str,
    /// Where it leads otherwise.
    pub cancel_url: &'a str,
}

/// A page on which an order is paid.
#[derive(Deserialize)]
pub struct Page {
    /// The checkout session's id.
    pub id: String,
    /// Where it is.
    pub url: String,
}

/// Why there is no page. None of these repeats the key.
#[derive(Debug, thiserror::Error)]
pub enum NoPage {
    /// Stripe did not answer, or not whole.
    #[error("Stripe does not answer")]
    Away(#[from] reqwest::Error),
    /// It took too long.
    #[error("Stripe did not answer within {PATIENCE:?}")]
    TooSlow,
    /// Stripe said no.
    #[error("Stripe answered {status}: {why}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Stripe's words.
        why: String,
    },
    /// Stripe said something else.
    #[error("Stripe answered something that is no checkout session")]
    Unreadable(#[from] serde_json::Error),
}

impl Stripe {
    /// A client of the API at `base`.
    pub fn new(base: &str, key: SecretKey) -> reqwest::Result<Self> {
        Ok(Self {
            // The key goes nowhere else.
            http: Client::builder()
                .redirect(redirect::Policy::none())
                .build()?,
            sessions: format!("{base}/v1/checkout/sessions"),
            key,
        })
    }

    /// Whether it is real money that moves.
    pub(super) const fn is_live(&self) -> bool {
        self.key.is_live
    }

    /// Makes a page on which `order` is paid, once for its id.
    pub async fn open_page(&self, order: &Order<'_>) -> Result<Page, NoPage> {
        timeout(PATIENCE, async {
            match self.ask(order).await {
                // The connection broke, and with the same key it is still one page.
                Err(NoPage::Away(_)) => self.ask(order).await,
                answer => answer,
            }
        })
        .await
        .map_err(|_| NoPage::TooSlow)?
    }

    async fn ask(&self, order: &Order<'_>) -> Result<Page, NoPage> {
        let bearer = Zeroizing::new(format!("Bearer {}", *self.key.text));
        let mut bearer =
            HeaderValue::from_str(&bearer).expect("the key was found to be plain when it was read");
        bearer.set_sensitive(true);
        let answer = self
            .http
            .post(&self.sessions)
            .header("authorization", bearer)
            .header("stripe-version", VERSION)
            .header("idempotency-key", order.id.to_string())
            .form(&order.form())
            .send()
            .await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        if !status.is_success() {
            return Err(NoPage::Refused {
                status: status.as_u16(),
                why: self.without_key(&String::from_utf8_lossy(&body)),
            });
        }
        Ok(serde_json::from_slice(&body)?)
    }

    /// An error as it may be logged: whoever answers might repeat what we sent.
    fn without_key(&self, text: &str) -> String {
        let text = text.replace(self.key.text.as_str(), "…");
        text.chars().take(LONGEST_ERROR_CHARS).collect()
    }
}

impl Order<'_> {
    fn form(&self) -> Vec<(&'static str, String)> {
        let (id, user) = (self.id.to_string(), self.user.to_string());
        vec![
            ("mode", "payment".to_owned()),
            ("client_reference_id", id.clone()),
            ("success_url", self.success_url.to_owned()),
            ("cancel_url", self.cancel_url.to_owned()),
            ("line_items[0][quantity]", "1".to_owned()),
            (
                "line_items[0][price_data][currency]",
                self.currency.to_owned(),
            ),
            (
                "line_items[0][price_data][unit_amount]",
                self.price_cents.to_string(),
            ),
            (
                "line_items[0][price_data][product_data][name]",
                self.name.clone(),
            ),
            // Another currency than the price's would look like another purchase.
            ("adaptive_pricing[enabled]", "false".to_owned()),
            ("metadata[purchaseId]", id.clone()),
            ("metadata[userId]", user.clone()),
            ("payment_intent_data[metadata][purchaseId]", id),
            ("payment_intent_data[metadata][userId]", user),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_whether_money_is_real() {
        for (text, is_live) in [
            ("sk_live_1", Some(true)),
            ("rk_live_1", Some(true)),
            ("sk_test_1", Some(false)),
            ("pk_live_1", None),
            ("sk_live_1\n", None),
            ("", None),
        ] {
            assert_eq!(
                SecretKey::parse(text).map(|key| key.is_live),
                is_live,
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_never_repeats_the_key() {
        let key = SecretKey::parse("sk_test_secret").expect("a key");
        let stripe = Stripe::new("http://127.0.0.1:1", key).expect("a client");
        let text = stripe.without_key("Invalid API Key provided: sk_test_secret!");
        assert_eq!(text, "Invalid API Key provided: …!");
    }
}
