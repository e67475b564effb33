//! Cloudflare Workers. The only file that names `worker`.
//!
//! What crosses between JavaScript and Wasm is what costs, so a request crosses once: the entry
//! calls [`answer`] with the host's own objects, and gets back a `Response`, or a promise when
//! something had to be waited for. The gateway is polled once by hand, and becomes a promise
//! only if it is not done by then.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    rc::Rc,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    gcra::{self, Decision, Quota},
    jwks::Key,
};
use worker::{
    Context, DurableObject, Env, Request, Response, State, console_error, console_log,
    durable_object,
    js_sys::{self, JSON, Reflect},
    wasm_bindgen::{self, JsCast, JsValue, prelude::wasm_bindgen},
    wasm_bindgen_futures::{JsFuture, future_to_promise},
    web_sys, worker_sys,
};

use crate::{
    config::Config,
    gateway::{Answered, Gateway, Settlement},
    host::{
        Answer, Ask, COST, Document, Forward, Head, Headers, Host, NotReached, Outcome, Unread,
    },
    numbers::Report,
};

/// No copy in the cache is larger: all revocations that an isolate keeps have 8 MB.
const MAX_COPY_BYTES: usize = 16 * 1_024 * 1_024;
/// After so long the cache may forget a copy: keys serve no longer.
const COPY_MAX_AGE_SECS: u32 = 86_400;
/// The binding of the Durable Objects that count exactly.
const LIMITS: &str = "LIMITS";

#[wasm_bindgen(raw_module = "../host.mjs")]
extern "C" {
    /// `text` is the headers, so many characters, and the body behind them.
    fn respond(status: u16, headers: usize, text: &str) -> web_sys::Response;
    #[wasm_bindgen(js_name = headerNames)]
    fn header_names(request: &web_sys::Request) -> String;
    #[wasm_bindgen(js_name = handOn)]
    fn hand_on(
        request: &web_sys::Request,
        url: &str,
        dropped: &str,
        headers: &str,
        answer_headers: &str,
        timeout_millis: u32,
        request_id: &str,
    ) -> js_sys::Promise;
    #[wasm_bindgen(js_name = readBody, catch)]
    fn read_body(request: &web_sys::Request, limit: usize) -> Result<js_sys::Promise, JsValue>;
    #[wasm_bindgen(js_name = fetchText)]
    fn fetch_text(
        method: &str,
        url: &str,
        headers: &str,
        body: Option<&str>,
        timeout_millis: u32,
    ) -> js_sys::Promise;
    /// A text, or undefined when there is none or it is longer than `limit` bytes.
    fn kept(name: &str, limit: usize, timeout_millis: u32) -> js_sys::Promise;
    fn keep(name: &str, text: &str, max_age_secs: u32) -> js_sys::Promise;
    fn pause(millis: u32) -> js_sys::Promise;
    #[wasm_bindgen(js_name = publicKey)]
    fn public_key(bytes: &[u8]) -> JsValue;
    #[wasm_bindgen(js_name = hasSigned)]
    fn has_signed(key: &JsValue, message: &[u8], signature: &[u8]) -> bool;
    /// Writes a data point where the environment has a dataset, else the line to the log.
    fn report(env: &JsValue, values: &[f64], line: &str);
    #[wasm_bindgen(js_name = randomId)]
    fn random_id() -> String;
}

thread_local! {
    static GATEWAY: OnceCell<Result<Rc<Gateway>, String>> = const { OnceCell::new() };
    /// The platform's form of our public keys, of which there are three or so.
    static PUBLIC_KEYS: RefCell<Vec<([u8; 32], JsValue)>> = const { RefCell::new(Vec::new()) };
}

/// Answers a request with a `Response`, or with a promise of one. Its head is the method, URL, client's
/// address, `Origin` and `Authorization`, a line each: the headers that most routes need come along in
/// the same crossing.
#[wasm_bindgen]
pub fn answer(
    head: &[u8],
    request: web_sys::Request,
    env: Env,
    context: worker_sys::Context,
) -> JsValue {
    let gateway = match GATEWAY.with(|gateway| gateway.get_or_init(|| start(&env)).clone()) {
        Ok(gateway) => gateway,
        Err(why) => return misconfigured(&why),
    };
    let (head, authorization) = read_head(head);
    let host = Workers(Rc::new(Parts {
        request,
        authorization,
        env,
        context,
    }));
    let mut path = Box::pin(async move {
        let outcome = gateway.pass(&host, &head).await;
        host.act(gateway, outcome)
    });
    match poll_once(path.as_mut()) {
        Poll::Ready(done) => done,
        Poll::Pending => {
            future_to_promise(
                async move { JsFuture::from(js_sys::Promise::resolve(&path.await)).await },
            )
            .into()
        }
    }
}

/// What a client gets when nobody behind the edge answered.
#[wasm_bindgen]
pub fn not_reached(timed_out: bool, request_id: &str) -> web_sys::Response {
    let why = if timed_out {
        NotReached::TimedOut
    } else {
        NotReached::Refused
    };
    response(&Answer::not_reached(why, request_id))
}

/// Notes how long an answer from behind the edge took to begin, or that there was none.
#[wasm_bindgen]
pub fn took(millis: u32, answered: bool) {
    GATEWAY.with(|gateway| {
        if let Some(Ok(gateway)) = gateway.get() {
            gateway.took(TimeDelta::milliseconds(millis.into()), answered);
        }
    });
}

fn read_head(head: &[u8]) -> (Head, Option<String>) {
    let text = str::from_utf8(head).expect("an encoder writes UTF-8");
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, url, address) = (line(), line(), line());
    let (origin, authorization) = (line(), line());
    let target = url
        .split_once(':')
        .and_then(|(_, rest)| rest.strip_prefix("//"))
        .and_then(|rest| rest.find('/').map(|slash| &rest[slash..]));
    let target = target.expect("the runtime gives an absolute URL with a path");
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let head = Head {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        address: address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        origin: (!origin.is_empty()).then(|| origin.to_owned()),
    };
    let authorization = (!authorization.is_empty()).then(|| authorization.to_owned());
    (head, authorization)
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

#[cold]
#[inline(never)]
fn start(env: &Env) -> Result<Rc<Gateway>, String> {
    std::panic::set_hook(Box::new(|panic| console_error!("{panic}")));
    let var = |name: &str| {
        let value = Reflect::get(env, &name.into())
            .ok()
            .filter(|value| !value.is_undefined() && !value.is_null())?;
        value
            .as_string()
            .or_else(|| JSON::stringify(&value).ok()?.as_string())
    };
    Config::read(var)
        .map(Gateway::new)
        .map_err(|why| why.to_string())
}

fn misconfigured(why: &str) -> JsValue {
    console_error!("the edge cannot start: {why}");
    response(&Answer::misconfigured(&random_id())).into()
}

fn response(answer: &Answer) -> web_sys::Response {
    let mut text = lines(&answer.headers);
    let headers = text.encode_utf16().count();
    text.push_str(&answer.body);
    respond(answer.status, headers, &text)
}

/// Headers as one text: a name and a value a line, so that they cross at once.
fn lines(headers: &Headers) -> String {
    headers
        .iter()
        .flat_map(|(name, value)| [name, "\n", value, "\n"])
        .collect()
}

/// One request on Workers.
#[derive(Clone)]
struct Workers(Rc<Parts>);

struct Parts {
    request: web_sys::Request,
    authorization: Option<String>,
    env: Env,
    context: worker_sys::Context,
}

impl Workers {
    fn act(&self, gateway: Rc<Gateway>, outcome: Outcome) -> JsValue {
        match outcome {
            Outcome::Answer(answer) => response(&answer).into(),
            Outcome::Forward(forward) => {
                let answer = self.forward(&forward);
                match forward.settlement {
                    Some(settlement) => self.settle(gateway, settlement, answer).into(),
                    None => answer.into(),
                }
            }
        }
    }

    /// The same answer; what it costs is settled when it begins. The runtime is told at once to let that
    /// go on, also without a client.
    fn settle(
        &self,
        gateway: Rc<Gateway>,
        settlement: Settlement,
        answer: js_sys::Promise,
    ) -> js_sys::Promise {
        let host = self.clone();
        let settled = future_to_promise(async move {
            let answer = JsFuture::from(answer).await;
            let answered = match &answer {
                Ok(answer) => {
                    let response: &web_sys::Response = answer.unchecked_ref();
                    let cost = response.headers().get(COST).ok().flatten();
                    let _ = response.headers().delete(COST);
                    let status = response.status();
                    Answered { status, cost }
                }
                // The host could not make an answer of it.
                Err(_) => Answered {
                    status: 502,
                    cost: None,
                },
            };
            let again = host.clone();
            host.later(async move { gateway.settle(&again, settlement, answered).await });
            answer
        });
        let waited_for = JsFuture::from(settled.clone());
        self.later(async move {
            let _ = waited_for.await;
        });
        settled
    }

    fn forward(&self, forward: &Forward) -> js_sys::Promise {
        hand_on(
            &self.0.request,
            &forward.url,
            &forward.dropped.join("\n"),
            &lines(&forward.headers),
            &lines(&forward.answer_headers),
            forward.timeout_secs * 1_000,
            &forward.request_id,
        )
    }
}

impl Host for Workers {
    fn now(&self) -> DateTime<Utc> {
        now()
    }

    fn new_request_id(&self) -> String {
        random_id()
    }

    fn header(&self, name: &str) -> Option<String> {
        match name {
            "authorization" => self.0.authorization.clone(),
            _ => self.0.request.headers().get(name).ok().flatten(),
        }
    }

    fn header_names(&self) -> String {
        header_names(&self.0.request)
    }

    fn has_signed(&self, key: &Key, message: &[u8], signature: &[u8; 64]) -> bool {
        PUBLIC_KEYS.with_borrow_mut(|known| {
            let at = known
                .iter()
                .position(|(bytes, _)| bytes == key.as_bytes())
                .unwrap_or_else(|| {
                    known.truncate(15);
                    known.insert(0, (*key.as_bytes(), public_key(key.as_bytes())));
                    0
                });
            has_signed(&known[at].1, message, signature)
        })
    }

    async fn body(&self, limit: usize) -> Result<String, Unread> {
        let read = async { JsFuture::from(read_body(&self.0.request, limit)?).await };
        let text = read.await.map_err(|_| Unread::Broken)?;
        text.as_string().ok_or(Unread::TooLarge)
    }

    async fn fetch(&self, ask: Ask) -> Result<Document, String> {
        let fetched = fetch_text(
            ask.method,
            &ask.url,
            &lines(&ask.headers),
            ask.body.as_deref(),
            ask.timeout_millis,
        );
        let parts = JsFuture::from(fetched).await.map_err(said)?;
        let [status, etag, body] =
            [0, 1, 2].map(|index| parts.unchecked_ref::<js_sys::Array>().get(index));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a status has three digits"
        )]
        let status = status.as_f64().unwrap_or_default() as u16;
        Ok(Document {
            status,
            body: body.as_string().unwrap_or_default(),
            etag: etag.as_string().unwrap_or_default(),
        })
    }

    async fn admit(&self, key: &str, quota: Quota) -> Result<Option<Decision>, String> {
        let ask = async {
            let object = self.0.env.durable_object(LIMITS)?.get_by_name(key)?;
            let url = format!("http://limit/?{}/{}", quota.limit, quota.period_secs);
            object.fetch_with_str(&url).await?.json().await.map(Some)
        };
        ask.await.map_err(|why: worker::Error| why.to_string())
    }

    async fn kept(&self, name: &str, timeout_millis: u32) -> Result<Option<String>, String> {
        let text = JsFuture::from(kept(name, MAX_COPY_BYTES, timeout_millis)).await;
        text.map(|text| text.as_string()).map_err(said)
    }

    fn keep(&self, name: String, text: impl FnOnce() -> Option<String> + 'static) {
        let host = self.clone();
        self.later(async move {
            let Some(text) = text() else { return };
            if let Err(why) = JsFuture::from(keep(&name, &text, COPY_MAX_AGE_SECS)).await {
                host.log(&format!(
                    "{name} is not kept for other isolates: {}",
                    said(why)
                ));
            }
        });
    }

    async fn pause(&self, millis: u32) {
        let _ = JsFuture::from(pause(millis)).await;
    }

    fn later(&self, work: impl Future<Output = ()> + 'static) {
        Context::new(self.0.context.clone().unchecked_into()).wait_until(work);
    }

    fn report(&self, numbers: &Report) {
        report(&self.0.env, &numbers.0, &numbers.line());
    }

    fn log(&self, line: &str) {
        console_log!("{line}");
    }
}

/// What JavaScript threw, as it says it.
fn said(why: JsValue) -> String {
    why.unchecked_into::<js_sys::Object>().to_string().into()
}

/// Reads the clock. `SystemTime::now` panics here, and this one stands still between calls.
fn now() -> DateTime<Utc> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole milliseconds, exact below 2^53"
    )]
    let millis = js_sys::Date::now() as i64;
    DateTime::from_timestamp_millis(millis)
        .expect("the platform's clock is within the years that chrono counts")
}

/// The exact count of one key: a Durable Object, of which there is one in the world.
#[durable_object(alarm)]
pub struct Limiter {
    state: State,
    tat: Cell<Option<i64>>,
}

const TAT: &str = "tat";

impl DurableObject for Limiter {
    fn new(state: State, _env: Env) -> Self {
        Self {
            state,
            tat: Cell::new(None),
        }
    }

    /// Decides one request; the query of the URL is `limit/period`.
    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        let url = request.inner().url();
        let quota = url
            .split_once('?')
            .and_then(|(_, query)| query.split_once('/'))
            .and_then(|(limit, period)| {
                Some(Quota {
                    limit: limit.parse().ok()?,
                    period_secs: period.parse().ok()?,
                })
            })
            .ok_or_else(|| worker::Error::from("the query must be limit/period"))?;
        let storage = self.state.storage();
        if self.tat.get().is_none() {
            // The runtime lets no other request in while storage is read.
            self.tat.set(storage.get(TAT).await?.or(Some(0)));
        }
        let decision = gcra::admit(self.tat.get(), quota, now());
        if decision.admitted {
            self.tat.set(Some(decision.tat));
            storage.put(TAT, decision.tat).await?;
            if storage.get_alarm().await?.is_none() {
                storage
                    .set_alarm(Duration::from_secs(2 * u64::from(quota.period_secs)))
                    .await?;
            }
        }
        Response::from_json(&decision)
    }

    /// Forgets a key that has rested, so that one-time visitors cost no storage for ever.
    async fn alarm(&self) -> worker::Result<Response> {
        let storage = self.state.storage();
        let tat: Option<i64> = storage.get(TAT).await?;
        let resting = tat.and_then(DateTime::from_timestamp_micros);
        if let Some(full_again) = resting.filter(|full_again| *full_again > now()) {
            storage
                .set_alarm(full_again + TimeDelta::seconds(1))
                .await?;
        } else {
            storage.delete_all().await?;
            self.tat.set(None);
        }
        Response::empty()
    }
}
