//! Pages of other origins: which of them may ask, and read the answer. Fetch Standard §3.3; what a browser
//! asks before is answered here.

use std::borrow::Cow;

use shared::problem::{Code, Problem};

use super::Gateway;
use crate::{
    answers::Refusal,
    host::{Answer, Head, Headers, Host, Outcome},
    policy::Found,
};

/// What a page may read besides what it always may.
const EXPOSED: &str =
    "idempotency-replayed, ratelimit, ratelimit-policy, retry-after, tollgate-request-id";
/// How long a browser need not ask again, in seconds.
const MAX_AGE_SECS: &str = "600";

impl Gateway {
    /// The answer to a browser that asks whether a page may ask, if this is one; unless the policy has a
    /// route for such questions, whose app answers them.
    #[inline(never)]
    pub(super) fn preflight<H: Host>(
        &self,
        host: &H,
        head: &Head,
    ) -> Option<Result<Outcome, Refusal>> {
        let origin = head
            .origin
            .as_deref()
            .filter(|_| head.method == "OPTIONS")?;
        let method = host.header("access-control-request-method")?;
        if let Found::Route(_) = self.config.policy.find(&head.method, &head.path) {
            return None;
        }
        let asked = Head {
            method,
            ..head.clone()
        };
        let route = match self.find_route(&asked) {
            Ok(route) => route,
            Err(refusal) => return Some(Err(refusal)),
        };
        let Some(allowed) = route.readable_by(origin) else {
            let detail = "pages of this origin may not ask this";
            return Some(Err(Problem::new(Code::Forbidden, detail).into()));
        };
        let names = host
            .header("access-control-request-headers")
            .unwrap_or_default();
        let mut headers = named(allowed);
        headers.push(("access-control-allow-methods", asked.method.into()));
        headers.push(("access-control-max-age", MAX_AGE_SECS.into()));
        if is_list_of_names(&names) {
            headers.push(("access-control-allow-headers", names.into()));
        }
        Some(Ok(Outcome::Answer(Answer {
            status: 204,
            headers,
            body: String::new(),
        })))
    }

    /// The same outcome, as the page that asked may read it.
    pub(super) fn readable(&self, head: &Head, mut outcome: Outcome) -> Outcome {
        let Some(origin) = head.origin.as_deref() else {
            return outcome;
        };
        let Found::Route(route) = self.config.policy.find(&head.method, &head.path) else {
            return outcome;
        };
        if let Some(allowed) = route.readable_by(origin) {
            let headers = match &mut outcome {
                Outcome::Answer(answer) => &mut answer.headers,
                Outcome::Forward(forward) => &mut forward.answer_headers,
            };
            headers.extend(named(allowed));
            headers.push(("access-control-expose-headers", EXPOSED.into()));
        }
        outcome
    }
}

fn named(allowed: &str) -> Headers {
    let mut headers: Headers = vec![(
        "access-control-allow-origin",
        Cow::Owned(allowed.to_owned()),
    )];
    if allowed != "*" {
        headers.push(("vary", "origin".into()));
    }
    headers
}

/// Whether a text is what an answer may repeat: names of headers, with commas between.
fn is_list_of_names(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_, ".contains(&byte);
    !text.is_empty() && text.len() <= 1_000 && text.bytes().all(plain)
}
