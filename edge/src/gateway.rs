//! The path of a request, told once for every platform: find its route, count its address, judge
//! its token, count its user, then answer it here or hand it on.
//!
//! What an isolate remembers lives in [`Gateway`]. Nothing is borrowed across an `await`, and on
//! the common paths nothing awaits at all: a platform may poll once and have its answer.

use std::{cell::RefCell, future::Future, pin::Pin, rc::Rc, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    api::{self, Validate},
    jwt::Rejected,
    problem::{Code, Problem},
    tokens::{Tokens, Verified},
};

mod believe;
mod copies;
mod cross_origin;
mod onward;
mod priced;

use crate::{
    answers::{Refusal, json, jwks, valid},
    config::Config,
    gate,
    host::{Answer, Ask, Document, Head, Headers, Host, Outcome, Unread},
    keys::{Keep, Keys, Published},
    limits::{Counts, Key, Rates},
    numbers::{Number, Numbers},
    pages::Pages,
    policy::{Auth, Destination, Found, Limit, Route, Serve},
    revocations::Revocations,
};

pub use priced::{Answered, Settlement};

/// A body that the edge reads is no larger than this.
const MAX_BODY_BYTES: usize = 64 * 1_024;

/// How long the origin may take to give its key set.
const KEYS_TIMEOUT_MILLIS: u32 = 5_000;

/// How many verified tokens are kept: 8 MB, of the 128 MB that an isolate has.
const KEPT_TOKENS: usize = 4_096;

/// Work that few requests need, as code of its own: an isolate compiles what it runs, and what is part of
/// the common path is compiled, and given its room on the stack, for all of them.
fn apart<'a, T>(work: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(work)
}

/// What an isolate knows and remembers.
pub struct Gateway {
    config: Config,
    keys: RefCell<Keys>,
    revocations: RefCell<Revocations>,
    pages: RefCell<Pages>,
    tokens: RefCell<Tokens>,
    shield: RefCell<Counts>,
    counts: RefCell<Counts>,
    numbers: RefCell<Numbers>,
}

impl Gateway {
    /// A gateway that has seen nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Rc<Self> {
        Rc::new(Self {
            config,
            keys: RefCell::default(),
            revocations: RefCell::default(),
            pages: RefCell::default(),
            tokens: RefCell::new(Tokens::new(KEPT_TOKENS)),
            shield: RefCell::default(),
            counts: RefCell::default(),
            numbers: RefCell::default(),
        })
    }

    /// What becomes of a request.
    pub async fn pass<H: Host>(self: &Rc<Self>, host: &H, head: &Head) -> Outcome {
        self.tell_numbers(host);
        self.count_one(Number::Requests);
        let outcome = match self.try_pass(host, head).await {
            Ok(outcome) => outcome,
            Err(refusal) => {
                self.count_refusal(refusal.0.code);
                Outcome::Answer(refusal.into_answer(host.new_request_id()))
            }
        };
        match head.origin.as_deref() {
            Some(origin) => apart(self.readable(host, head, origin, outcome)).await,
            None => outcome,
        }
    }

    async fn try_pass<H: Host>(self: &Rc<Self>, host: &H, head: &Head) -> Result<Outcome, Refusal> {
        if head.method == "OPTIONS"
            && let Some(origin) = head.origin.as_deref()
            && let Some(asked) = self.preflight(host, head)
        {
            self.shield(host, head)?;
            return apart(self.answer_preflight(host, origin, asked)).await;
        }
        let route = self.find_route(head)?;
        self.shield(host, head)?;
        let mut rates = Rates::default();
        let header = |name: &str| host.header(name);
        let policy = &self.config.policy;
        for (limit, key) in policy.limits_by_request(route, head.address, header) {
            self.count(host, limit, key, &mut rates).await?;
        }
        let judged = self.judge(host, route).await;
        let caller = judged.map_err(|problem| rates.refuse(problem))?;
        for (limit, key) in policy.limits_by_caller(route, caller.as_deref()) {
            self.count(host, limit, key, &mut rates).await?;
        }
        match route.to {
            Destination::Edge(serve) => {
                let served = self.serve(serve, host, caller, route.strict).await;
                let mut answer = served.map_err(|problem| rates.refuse(problem))?;
                answer.headers.extend(rates.headers());
                Ok(Outcome::Answer(answer))
            }
            Destination::Origin | Destination::App(_) => {
                let forward = self.forward(host, head, route, caller.as_deref(), &rates);
                let forward = apart(forward)
                    .await
                    .map_err(|problem| rates.refuse(problem))?;
                Ok(Outcome::Forward(forward))
            }
        }
    }

    /// Notes how long an answer from behind the edge took to begin, or that there was none.
    pub fn took(&self, time: TimeDelta, answered: bool) {
        self.numbers.borrow_mut().took(time, answered);
    }

    fn count_one(&self, number: Number) {
        self.numbers.borrow_mut().count(number);
    }

    fn count_refusal(&self, code: Code) {
        self.count_one(match code {
            Code::Unauthenticated => Number::Unauthenticated,
            Code::Forbidden => Number::Forbidden,
            Code::KeysUnavailable | Code::RevocationsUnavailable => Number::Unavailable,
            Code::RateLimited => Number::Limited,
            _ => return,
        });
    }

    /// Tells what was counted before this request, if it is time to.
    fn tell_numbers<H: Host>(&self, host: &H) {
        let now = host.now();
        let ages = || {
            let keys = self.keys.borrow().age_secs(now);
            [keys, self.revocations.borrow().age_secs(now)]
        };
        let due = self.numbers.borrow_mut().due(now, ages);
        if let Some(report) = due {
            host.report(&report);
        }
    }

    fn find_route(&self, head: &Head) -> Result<&Route, Refusal> {
        match self.config.policy.find(&head.method, &head.path) {
            Found::Route(route) => Ok(route),
            Found::Nothing => Err(Problem::new(Code::NotFound, "no such path").into()),
            Found::OtherMethods(methods) => {
                let problem =
                    Problem::new(Code::MethodNotAllowed, format!("this path takes {methods}"));
                Err(Refusal(problem, vec![("allow", methods.into())]))
            }
        }
    }

    /// The coarse shield, before any cryptography.
    fn shield<H: Host>(&self, host: &H, head: &Head) -> Result<(), Refusal> {
        let quota = self.config.policy.shield();
        let decision =
            self.shield
                .borrow_mut()
                .admit(0, Key::address(head.address), quota, host.now());
        if decision.admitted {
            return Ok(());
        }
        let headers = vec![("retry-after", decision.retry_after_secs.to_string().into())];
        Err(Refusal(
            Problem::new(Code::RateLimited, "too many requests from this address"),
            headers,
        ))
    }

    /// Counts one request against a limit, in this isolate where there is no exact place or it is
    /// away.
    async fn count<'a, H: Host>(
        &self,
        host: &H,
        limit: &'a Limit,
        key: Key,
        rates: &mut Rates<'a>,
    ) -> Result<(), Refusal> {
        if limit.exact {
            match host.admit(&key.name(&limit.name), limit.quota).await {
                Ok(Some(decision)) => return rates.note(limit, decision),
                Ok(None) => {}
                Err(why) => host.log(&format!("limit={} counted here alone: {why}", limit.name)),
            }
            self.count_one(Number::CountedAlone);
        }
        let decision = self
            .counts
            .borrow_mut()
            .admit(limit.index, key, limit.quota, host.now());
        rates.note(limit, decision)
    }

    /// Who is asking, where the route wants to know.
    async fn judge<H: Host>(
        self: &Rc<Self>,
        host: &H,
        route: &Route,
    ) -> Result<Option<Arc<Verified>>, Problem> {
        if route.auth == Auth::None {
            return Ok(None);
        }
        let authorization = host.header("authorization");
        let Some(token) = gate::wanted_token(route.auth, authorization.as_deref())? else {
            return Ok(None);
        };
        let caller = self
            .believe(host, token, route.strict)
            .await?
            .map_err(gate::not_believed)?;
        gate::allow(route, &caller)?;
        Ok(Some(caller))
    }

    /// Verifies a token; asks for the keys once more when it names one that is not there.
    async fn verify<H: Host>(
        self: &Rc<Self>,
        host: &H,
        token: &str,
    ) -> Result<Result<Arc<Verified>, Rejected>, Problem> {
        let now = host.now();
        let by = |published: &Published| {
            let (expect, tokens) = (&self.config.expect, &mut self.tokens.borrow_mut());
            gate::verify(
                token,
                &published.set,
                expect,
                now,
                tokens,
                |key, message, signature| {
                    self.count_one(Number::Signatures);
                    host.has_signed(key, message, signature)
                },
            )
        };
        let keys = self.keys(host, now).await?;
        let checked = self.numbers.borrow().so_far(Number::Signatures);
        let verified = by(&keys);
        if verified.is_ok() && self.numbers.borrow().so_far(Number::Signatures) == checked {
            self.count_one(Number::Remembered);
        }
        if verified.as_ref().err() == Some(&Rejected::UnknownKey)
            && let Some(newer) = self.newer_keys(host).await
        {
            return Ok(by(&newer));
        }
        Ok(verified)
    }

    /// The key set of the moment.
    async fn keys<H: Host>(
        self: &Rc<Self>,
        host: &H,
        now: DateTime<Utc>,
    ) -> Result<Rc<Published>, Problem> {
        let unavailable = || {
            Problem::new(
                Code::KeysUnavailable,
                "there are no keys to verify with; try again soon",
            )
        };
        let mut keep = self.keys.borrow_mut().take(now);
        if matches!(keep, Keep::Fetch) && apart(self.recall_keys(host)).await {
            keep = self.keys.borrow_mut().take(now);
        }
        match keep {
            Keep::Fresh(published) => Ok(published),
            Keep::Refresh(published) => {
                let (gateway, again) = (self.clone(), host.clone());
                host.later(async move {
                    gateway.fetch_keys(&again).await;
                });
                Ok(published)
            }
            Keep::Fetch => apart(self.fetch_keys(host)).await.ok_or_else(unavailable),
            Keep::Unavailable => Err(unavailable()),
        }
    }

    /// The key set once more, for a token whose key it did not have; seldom.
    async fn newer_keys<H: Host>(self: &Rc<Self>, host: &H) -> Option<Rc<Published>> {
        let mine = self.keys.borrow_mut().may_ask_for_unknown(host.now());
        if mine {
            apart(self.fetch_keys(host)).await
        } else {
            None
        }
    }

    async fn fetch_keys<H: Host>(self: &Rc<Self>, host: &H) -> Option<Rc<Published>> {
        self.count_one(Number::KeyFetches);
        let ask = Ask {
            method: "GET",
            url: format!("{}/api/v1/auth/jwks", self.config.origin),
            headers: Headers::new(),
            body: None,
            timeout_millis: KEYS_TIMEOUT_MILLIS,
        };
        let fetched = host
            .fetch(ask)
            .await
            .and_then(Document::ok)
            .and_then(|document| {
                Published::parse(document.body, document.etag, host.now())
                    .map_err(|why| why.to_string())
            })
            .and_then(|published| {
                self.without_revoked(published)
                    .ok_or_else(|| "all its keys were revoked".to_owned())
            });
        match fetched {
            Ok(published) => {
                self.keys.borrow_mut().keep(published.clone());
                self.leave_keys(host, published.clone());
                Some(published)
            }
            Err(why) => {
                self.keys.borrow_mut().failed(host.now());
                self.count_one(Number::FetchFailures);
                host.log(&format!("the origin gave no key set: {why}"));
                None
            }
        }
    }

    /// A key set without keys that are known to be revoked: who gives it may have heard less.
    fn without_revoked(&self, published: Published) -> Option<Rc<Published>> {
        let revocations = self.revocations.borrow();
        Rc::new(published).without(|kid| revocations.has_key(kid))
    }

    async fn serve<H: Host>(
        self: &Rc<Self>,
        serve: Serve,
        host: &H,
        caller: Option<Arc<Verified>>,
        strict: bool,
    ) -> Result<Answer, Problem> {
        match (serve, caller) {
            (Serve::Health, _) => {
                let now = host.now();
                let copies = serde_json::json!({
                    "status": "ok",
                    "keysAgeSecs": self.keys.borrow().age_secs(now),
                    "revocationsAgeSecs": self.revocations.borrow().age_secs(now),
                    "pagesAgeSecs": self.pages.borrow().age_secs(now),
                });
                Ok(json(copies.to_string()))
            }
            (Serve::Jwks, _) => Ok(jwks(
                &*self.keys(host, host.now()).await?,
                host.header("if-none-match").as_deref(),
            )),
            (Serve::Validate, Some(caller)) => Ok(json(valid(&caller))),
            (Serve::Validate, None) => apart(self.validate(host, strict)).await.map(json),
        }
    }

    /// Whether the token in the body is good.
    async fn validate<H: Host>(self: &Rc<Self>, host: &H, strict: bool) -> Result<String, Problem> {
        let content_type = host.header("content-type").unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "send application/json",
            ));
        }
        let body = host.body(MAX_BODY_BYTES).await.map_err(|why| match why {
            Unread::TooLarge => onward::too_large(MAX_BODY_BYTES as u64),
            Unread::Broken => {
                Problem::new(Code::InvalidRequest, "the body ended early or is no UTF-8")
            }
        })?;
        let Validate { token } = api::parse(body.as_bytes())?;
        let believed = self.believe(host, token.as_str(), strict).await?;
        Ok(match believed {
            Ok(verified) => valid(&verified),
            Err(why) => serde_json::json!({"valid": false, "error": why.to_string()}).to_string(),
        })
    }
}
