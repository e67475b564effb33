//! Pages of other origins: which of them may ask, and read the answer. Fetch Standard §3.3; what a browser
//! asks before is answered here.

use std::{borrow::Cow, rc::Rc};

use shared::{
    api::{PAGES, Pages},
    problem::{Code, Problem},
};

use super::{Gateway, apart};
use crate::{
    answers::Refusal,
    host::{Answer, Head, Headers, Host, Outcome},
    policy::{Found, Route},
    revocations::Keep,
};

/// What a page may read besides what it always may.
const EXPOSED: &str =
    "idempotency-replayed, ratelimit, ratelimit-policy, retry-after, tollgate-request-id";
/// How long a browser need not ask again, in seconds.
const MAX_AGE_SECS: &str = "600";
/// How long a request waits for the list of apps' pages.
const TIMEOUT_MILLIS: u32 = 500;

impl Gateway {
    /// The request that a browser asks about before it sends it, if this is such a question; unless the
    /// policy has a route for such questions, whose app answers them.
    pub(super) fn preflight<H: Host>(&self, host: &H, head: &Head) -> Option<Head> {
        let method = host.header("access-control-request-method")?;
        if let Found::Route(_) = self.config.policy.find(&head.method, &head.path) {
            return None;
        }
        Some(Head {
            method,
            ..head.clone()
        })
    }

    /// Whether a page of this origin may send what it asks about.
    pub(super) async fn answer_preflight<H: Host>(
        self: &Rc<Self>,
        host: &H,
        origin: &str,
        asked: Head,
    ) -> Result<Outcome, Refusal> {
        let route = self.find_route(&asked)?;
        let Some(mut headers) = self.allowed(host, route, origin).await else {
            let detail = "pages of this origin may not ask this";
            return Err(Problem::new(Code::Forbidden, detail).into());
        };
        let names = host
            .header("access-control-request-headers")
            .unwrap_or_default();
        headers.push(("access-control-allow-methods", asked.method.into()));
        headers.push(("access-control-max-age", MAX_AGE_SECS.into()));
        if is_list_of_names(&names) {
            headers.push(("access-control-allow-headers", names.into()));
        }
        Ok(Outcome::Answer(Answer {
            status: 204,
            headers,
            body: String::new(),
        }))
    }

    /// The same outcome, as the page that asked may read it.
    pub(super) async fn readable<H: Host>(
        self: &Rc<Self>,
        host: &H,
        head: &Head,
        origin: &str,
        mut outcome: Outcome,
    ) -> Outcome {
        let Found::Route(route) = self.config.policy.find(&head.method, &head.path) else {
            return outcome;
        };
        if let Some(allowed) = self.allowed(host, route, origin).await {
            let headers = match &mut outcome {
                Outcome::Answer(answer) => &mut answer.headers,
                Outcome::Forward(forward) => &mut forward.answer_headers,
            };
            headers.extend(allowed);
            headers.push(("access-control-expose-headers", EXPOSED.into()));
        }
        outcome
    }

    /// What tells a browser that pages of this origin may read a route's answers. Those of registered apps
    /// may with our cookies, by which they sign people in; others show a token.
    async fn allowed<H: Host>(
        self: &Rc<Self>,
        host: &H,
        route: &Route,
        origin: &str,
    ) -> Option<Headers> {
        if route.is_for_apps && self.is_page_of_app(host, origin).await {
            let mut headers = named(origin);
            headers.push(("access-control-allow-credentials", "true".into()));
            return Some(headers);
        }
        route.readable_by(origin).map(named)
    }

    async fn is_page_of_app<H: Host>(self: &Rc<Self>, host: &H, origin: &str) -> bool {
        let keep = self.pages.borrow_mut().take(host.now());
        match keep {
            Keep::Fresh => {}
            Keep::Refresh => {
                let (gateway, again) = (self.clone(), host.clone());
                host.later(async move { gateway.fetch_pages(&again).await });
            }
            Keep::Fetch => apart(self.fetch_pages(host)).await,
        }
        self.pages.borrow().has(origin)
    }

    async fn fetch_pages<H: Host>(self: &Rc<Self>, host: &H) {
        let asked = host.now();
        let told = host
            .fetch(self.internal(host, "GET", PAGES, None, TIMEOUT_MILLIS))
            .await;
        let told = told.and_then(|document| {
            let body = document.ok()?.body;
            serde_json::from_str::<Pages>(&body).map_err(|why| why.to_string())
        });
        match told {
            Ok(pages) => self.pages.borrow_mut().keep(pages.origins, asked),
            Err(why) => host.log(&format!("the origin told no pages of apps: {why}")),
        }
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
