//! What a call costs: put aside at the origin before it goes on, and settled when its answer begins.

use std::rc::Rc;

use serde::Deserialize;
use shared::{
    api::PRICED_HOLDS,
    credits::Credits,
    ids::{TransactionId, UserId},
    problem::{Code, Problem},
    tokens::Verified,
};

use super::Gateway;
use crate::{
    host::{Head, Host},
    policy::{Price, Route},
};

/// How long the origin may take to put a price aside.
const TIMEOUT_MILLIS: u32 = 5_000;
/// How much longer than the answer may take what is put aside stays so.
const SPARE_SECS: u32 = 60;
/// When a settlement is tried, and tried again: an origin that restarts is back soon. Workers go on for
/// 30 s without a client, of which an answer takes [`MAX_PRICED_SECS`](crate::policy::MAX_PRICED_SECS) at
/// the most; a failure takes all of its time only where nothing answers at all.
const TRIED_AFTER_MILLIS: [u32; 3] = [0, 500, 2_500];
const SETTLING_MILLIS: u32 = 3_000;

/// A price that was put aside.
#[derive(Clone, Copy, Debug)]
pub struct Settlement {
    user: UserId,
    hold: TransactionId,
    price: Credits,
}

/// How what is behind the edge has answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The HTTP status, also that of the edge's own answer where there was none.
    pub status: u16,
    /// What it says that the call costs, which may be less.
    pub cost: Option<String>,
}

#[derive(Deserialize)]
struct Opened {
    hold: Hold,
}

#[derive(Deserialize)]
struct Hold {
    id: TransactionId,
}

impl Gateway {
    /// Puts the price of a call aside, by the caller's own token. The key is new for each request, so
    /// nothing that a client sends makes two calls one.
    pub(super) async fn put_aside<H: Host>(
        self: &Rc<Self>,
        host: &H,
        head: &Head,
        route: &Route,
        price: Price<'_>,
        caller: &Verified,
        request_id: &str,
    ) -> Result<Settlement, Problem> {
        let body = serde_json::json!({
            "amount": price.amount,
            "appId": price.app.as_str(),
            "description": format!("{} {}", head.method, price.path),
            "idempotencyKey": request_id,
            "expiresIn": route.timeout_secs + SPARE_SECS,
        });
        let body = Some(body.to_string());
        let mut ask = self.internal(host, "POST", PRICED_HOLDS, body, TIMEOUT_MILLIS);
        let authorization = host.header("authorization").unwrap_or_default();
        ask.headers.push(("authorization", authorization.into()));
        let answer = host.fetch(ask).await.map_err(|why| {
            host.log(&format!(
                "request_id={request_id} no price was put aside: {why}"
            ));
            Problem::new(
                Code::UpstreamUnreachable,
                "the price of this call could not be put aside, so it was not made; try again soon",
            )
        })?;
        if answer.status == 200
            && let Ok(opened) = serde_json::from_str::<Opened>(&answer.body)
        {
            return Ok(Settlement {
                user: caller.claims.sub,
                hold: opened.hold.id,
                price: price.amount,
            });
        }
        let refused = serde_json::from_str::<Problem>(&answer.body);
        Err(refused.unwrap_or_else(|_| {
            host.log(&format!(
                "request_id={request_id} the origin put no price aside: status {}",
                answer.status
            ));
            Problem::new(Code::Internal, Code::Internal.title())
        }))
    }

    /// Settles what was put aside, by how the call was answered. What cannot be settled expires by
    /// itself, uncharged.
    pub async fn settle<H: Host>(&self, host: &H, settlement: Settlement, answered: Answered) {
        let due = due(settlement.price, &answered);
        let (how, amount) = due.map_or(("void", None), |amount| ("capture", Some(amount)));
        let target = format!("{PRICED_HOLDS}/{}/{how}", settlement.hold);
        let body = match amount {
            Some(amount) => serde_json::json!({"userId": settlement.user, "amount": amount}),
            None => serde_json::json!({"userId": settlement.user}),
        };
        let mut failures = String::new();
        for pause in TRIED_AFTER_MILLIS {
            if pause > 0 {
                host.pause(pause).await;
            }
            let ask = self.internal(
                host,
                "POST",
                &target,
                Some(body.to_string()),
                SETTLING_MILLIS,
            );
            match host.fetch(ask).await {
                Ok(settled) if settled.status == 200 => return,
                Ok(refused) => {
                    failures = format!("status {}", refused.status);
                    // Asking again would be refused again.
                    if refused.status < 500 {
                        break;
                    }
                }
                Err(why) => failures = why,
            }
        }
        host.log(&format!(
            "hold={} was not settled and expires uncharged: {failures}",
            settlement.hold
        ));
    }
}

/// What is charged: nothing unless the call was answered well, and never more than was put aside. What
/// is no amount lowers nothing.
fn due(price: Credits, answered: &Answered) -> Option<Credits> {
    let is_good = answered.status == 101 || (200..400).contains(&answered.status);
    let cost = answered.cost.as_deref().map(|cost| cost.trim().parse());
    let amount = match cost {
        Some(Ok(cost)) => price.min(cost),
        Some(Err(_)) | None => price,
    };
    (is_good && amount > Credits::ZERO).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_costs_its_price_or_less_if_it_was_answered_well() {
        let price = "5".parse().expect("a price");
        for (status, cost, charged) in [
            (200, None, Some("5")),
            (201, Some("2.5"), Some("2.5")),
            (302, Some(" 0.001 "), Some("0.001")),
            (101, None, Some("5")),
            (200, Some("5.001"), Some("5")),
            (200, Some("0"), None),
            (200, Some("-1"), Some("5")),
            (200, Some("1e-3"), Some("5")),
            (200, Some(""), Some("5")),
            (199, None, None),
            (404, None, None),
            (402, Some("1"), None),
            (502, None, None),
        ] {
            let answered = Answered {
                status,
                cost: cost.map(str::to_owned),
            };
            let charged = charged.map(|amount| amount.parse().expect("an amount"));
            assert_eq!(due(price, &answered), charged, "{status} {cost:?}");
        }
    }
}
