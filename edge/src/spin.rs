//! Spin. The only file that names `spin_sdk`.
//!
//! The component is exported on WASI's own resources and not through the SDK's handler macro,
//! which copies every header of every request. So the gateway is given the one header that it
//! asks for, and a body that only passes goes from host to host as a handle, unread.
//!
//! Spin puts the client's address behind whatever a client sent under the same name, so the last
//! `spin-client-addr` is the only one that is believed. It serves some 128 requests with one
//! instance and then starts another: so long lasts what the gateway remembers.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::{Future, poll_fn},
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    gcra::{Decision, Quota},
    jwks::Key,
};
use spin_sdk::{
    http,
    redis::{self, RedisParameter, RedisResult},
    variables,
    wasip3::{
        clocks::{monotonic_clock::wait_for, system_clock},
        exports::http::handler::Guest,
        http::{
            client,
            service::export,
            types::{ErrorCode, Fields, Method, Request, Response, Scheme, Trailers},
        },
        random::random::get_random_u64,
        spawn, wit_future, wit_stream,
    },
    wit_bindgen::{FutureReader, StreamReader, StreamResult},
};
use uuid::Builder;

use crate::{
    config::Config,
    gateway::{Answered, Gateway},
    host::{
        Answer, Ask, COST, Document, Forward, Head, Headers, Host, NotReached, Outcome, Unread,
    },
    numbers::Report,
};

/// What the origin tells is no larger: a key set has half a kilobyte, a page of revocations has
/// less than 600.
const MAX_DOCUMENT_BYTES: usize = 1_024 * 1_024;
/// A body is given room for so much at a time.
const PART_BYTES: usize = 64 * 1_024;
/// The header in which Spin tells who asks, as `address:port`.
const CLIENT_ADDRESS: &str = "spin-client-addr";
/// What the edge is told, by the names that it goes by in the core; `spin.toml` has them in
/// lower case.
const VARIABLES: [&str; 10] = [
    "PUBLIC_URL",
    "ORIGIN_URL",
    "TOKEN_AUDIENCE",
    "EDGE_PROOF_KEY",
    "UPSTREAM_PROOF_KEYS",
    "LIMIT_SCALE",
    "REVOCATIONS_REFRESH_SECS",
    "REVOCATIONS_LIMIT_SECS",
    "POLICY",
    REDIS_URL,
];
/// Where exact quotas are counted; nowhere, if it is empty.
const REDIS_URL: &str = "REDIS_URL";
/// How long a request waits for Redis, and how long it is let alone when it did not answer.
const REDIS_PATIENCE_MILLIS: u32 = 1_000;
const REDIS_PAUSE: TimeDelta = TimeDelta::seconds(1);

type Part = (StreamReader<u8>, LastPart);
type LastPart = FutureReader<Result<Option<Trailers>, ErrorCode>>;

thread_local! {
    static GATEWAY: OnceCell<Rc<Gateway>> = const { OnceCell::new() };
    static REDIS: OnceCell<Redis> = const { OnceCell::new() };
}

/// The place that counts exactly.
#[derive(Clone)]
struct Redis {
    url: Rc<str>,
    away_until: Rc<Cell<DateTime<Utc>>>,
}

struct Edge;

export!(Edge);

impl Guest for Edge {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let host = Spin::new(request);
        let gateway = match gateway().await {
            Ok(gateway) => gateway,
            Err(why) => {
                host.log(&format!("the edge cannot start: {why}"));
                return Ok(respond(Answer::misconfigured(&host.new_request_id())));
            }
        };
        let head = host.head();
        Ok(match gateway.pass(&host, &head).await {
            Outcome::Answer(answer) => respond(answer),
            Outcome::Forward(forward) => {
                let (answer, cost) = host
                    .forward(&gateway, &forward)
                    .await
                    .unwrap_or_else(|why| {
                        host.log(&format!(
                            "request_id={} no answer: {why:?}",
                            forward.request_id
                        ));
                        let answer = respond(Answer::not_reached(why, &forward.request_id));
                        (with_headers(answer, &forward.answer_headers), None)
                    });
                if let Some(settlement) = forward.settlement {
                    let answered = Answered {
                        status: answer.get_status_code(),
                        cost: cost.and_then(|cost| String::from_utf8(cost).ok()),
                    };
                    let again = host.clone();
                    host.later(async move { gateway.settle(&again, settlement, answered).await });
                }
                answer
            }
        })
    }
}

/// The instance's gateway. One that cannot start is tried again by the next request: what gives
/// the variables may have been away.
async fn gateway() -> Result<Rc<Gateway>, String> {
    if let Some(gateway) = GATEWAY.with(|gateway| gateway.get().cloned()) {
        return Ok(gateway);
    }
    let mut values = Vec::new();
    for name in VARIABLES {
        match variables::get(name.to_lowercase()).await {
            Ok(value) => values.push((name, value)),
            Err(variables::Error::Undefined(_)) => {}
            Err(why) => return Err(format!("{name} cannot be read: {why}")),
        }
    }
    let var = |name: &str| {
        let found = values.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone())
    };
    let config = Config::read(var).map_err(|why| why.to_string())?;
    if let Some(url) = var(REDIS_URL).filter(|url| !url.is_empty()) {
        let away_until = Rc::new(Cell::new(DateTime::UNIX_EPOCH));
        let url = url.into();
        REDIS.with(|redis| redis.get_or_init(|| Redis { url, away_until }).clone());
    }
    Ok(GATEWAY.with(|gateway| gateway.get_or_init(|| Gateway::new(config)).clone()))
}

/// One request on Spin.
#[derive(Clone)]
struct Spin(Rc<Parts>);

struct Parts {
    headers: Fields,
    /// Until its body is read or handed on.
    request: RefCell<Option<Request>>,
}

impl Spin {
    fn new(request: Request) -> Self {
        Self(Rc::new(Parts {
            headers: request.get_headers(),
            request: RefCell::new(Some(request)),
        }))
    }

    fn take(&self) -> Request {
        let request = self.0.request.take();
        request.expect("a body is read or handed on once")
    }

    fn head(&self) -> Head {
        let request = self.0.request.borrow();
        let request = request.as_ref().expect("the head is read first");
        let method = http::Method::try_from(request.get_method());
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let address = self.0.headers.get(CLIENT_ADDRESS).pop();
        let address = address.and_then(|text| str::from_utf8(&text).ok()?.parse().ok());
        Head {
            method: method.map_or_else(|_| String::new(), |method| method.to_string()),
            path: path.to_owned(),
            query: query.to_owned(),
            address: address.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer: SocketAddr| peer.ip()),
            origin: self.header("origin"),
        }
    }

    /// Hands the request on, and the answer back, with what that says of its cost.
    async fn forward(
        &self,
        gateway: &Gateway,
        forward: &Forward,
    ) -> Result<(Response, Option<Vec<u8>>), NotReached> {
        let request = self.take();
        let mut headers = self.0.headers.copy_all();
        headers.retain(|(name, _)| goes_on(name) && !forward.dropped.contains(name));
        headers.extend(owned(&forward.headers));
        let method = request.get_method();
        // Trailers might name what we have dropped.
        let (body, _trailers) = Request::consume_body(request, accepted());
        let onward = request_to(&forward.url, &method, &headers, Some(body), no_trailers());
        let answer = async { client::send(onward?).await };
        let begun = self.now();
        let answer = within(forward.timeout_secs * 1_000, answer).await;
        gateway.took(self.now() - begun, matches!(answer, Some(Ok(_))));
        match answer {
            Some(Ok(answer)) if forward.answer_headers.is_empty() => Ok((answer, None)),
            Some(Ok(answer)) => {
                let cost = answer.get_headers().get(COST).pop();
                Ok((with_headers(answer, &forward.answer_headers), cost))
            }
            Some(Err(ErrorCode::ConnectionTimeout | ErrorCode::HttpResponseTimeout)) | None => {
                Err(NotReached::TimedOut)
            }
            Some(Err(_)) => Err(NotReached::Refused),
        }
    }
}

impl Host for Spin {
    fn now(&self) -> DateTime<Utc> {
        let now = system_clock::now();
        DateTime::from_timestamp(now.seconds, now.nanoseconds)
            .expect("the platform's clock is within the years that chrono counts")
    }

    fn new_request_id(&self) -> String {
        let random = u128::from(get_random_u64()) << 64 | u128::from(get_random_u64());
        Builder::from_random_bytes(random.to_ne_bytes())
            .into_uuid()
            .to_string()
    }

    /// Several of one name are one list (RFC 9110 §5.3), of cookies with semicolons (RFC 9113 §8.2.3).
    fn header(&self, name: &str) -> Option<String> {
        let values = self.0.headers.get(name);
        (!values.is_empty()).then_some(())?;
        let between = if name == "cookie" { "; " } else { ", " };
        String::from_utf8(values.join(between.as_bytes())).ok()
    }

    fn header_names(&self) -> String {
        let mut lines = String::new();
        for (name, _) in self.0.headers.copy_all() {
            lines.push_str(&name.to_ascii_lowercase());
            lines.push('\n');
        }
        lines
    }

    fn has_signed(&self, key: &Key, message: &[u8], signature: &[u8; 64]) -> bool {
        key.has_signed(message, signature)
    }

    async fn body(&self, limit: usize) -> Result<String, Unread> {
        read(Request::consume_body(self.take(), accepted()), limit).await
    }

    async fn fetch(&self, ask: Ask) -> Result<Document, String> {
        let mut headers: Vec<_> = owned(&ask.headers).collect();
        let body = ask.body.map(|text| {
            headers.push(("content-type".to_owned(), b"application/json".to_vec()));
            written(text)
        });
        let method = if ask.method == "POST" {
            Method::Post
        } else {
            Method::Get
        };
        let request = request_to(&ask.url, &method, &headers, body, no_trailers());
        let fetched = within(ask.timeout_millis, async {
            let answer = client::send(request?).await?;
            let status = answer.get_status_code();
            let etag = answer.get_headers().get("etag").pop().unwrap_or_default();
            let body = read(
                Response::consume_body(answer, accepted()),
                MAX_DOCUMENT_BYTES,
            )
            .await;
            Ok::<_, ErrorCode>((status, etag, body))
        });
        match fetched.await.ok_or("no answer in time")? {
            Ok((status, etag, Ok(body))) => Ok(Document {
                status,
                body,
                etag: String::from_utf8(etag).unwrap_or_default(),
            }),
            Ok((_, _, Err(why))) => Err(format!("its body: {why:?}")),
            Err(why) => Err(format!("{why:?}")),
        }
    }

    /// In Redis, if there is one.
    async fn admit(&self, key: &str, quota: Quota) -> Result<Option<Decision>, String> {
        let Some(redis) = REDIS.with(|redis| redis.get().cloned()) else {
            return Ok(None);
        };
        if self.now() < redis.away_until.get() {
            return Ok(None);
        }
        let asked = within(REDIS_PATIENCE_MILLIS, redis.admit(key, quota)).await;
        let decided = asked.unwrap_or_else(|| Err("no answer in time".to_owned()));
        if decided.is_err() {
            redis.away_until.set(self.now() + REDIS_PAUSE);
        }
        decided.map(Some).map_err(|why| format!("Redis: {why}"))
    }

    /// Nothing is: see [`keep`](Self::keep).
    async fn kept(&self, _name: &str, _timeout_millis: u32) -> Result<Option<String>, String> {
        Ok(None)
    }

    /// Spin has no cache. Its key-value store is a grant that the manifest would have to give, an
    /// import that other WASI hosts refuse, and by default a file that a write waits for.
    fn keep(&self, _name: String, _text: impl FnOnce() -> Option<String> + 'static) {}

    async fn pause(&self, millis: u32) {
        wait(millis).await;
    }

    fn later(&self, work: impl Future<Output = ()> + 'static) {
        spawn(work);
    }

    fn report(&self, report: &Report) {
        eprintln!("{}", report.line());
    }

    fn log(&self, line: &str) {
        eprintln!("{line}");
    }
}

impl Redis {
    /// What it says of one request.
    async fn admit(&self, key: &str, quota: Quota) -> Result<Decision, String> {
        let said = |why: redis::Error| format!("{why:?}");
        let connection = redis::Connection::open(&self.url).await.map_err(said)?;
        let eval = quota.eval(&format!("tollgate:edge:{key}"));
        let eval = eval.map(|text| RedisParameter::Binary(text.into_bytes()));
        match *connection.execute("EVAL", eval).await.map_err(said)? {
            [RedisResult::Int64(now), RedisResult::Int64(ahead)] => Ok(quota.told(now, ahead)),
            ref other => Err(format!("it says {other:?}")),
        }
    }
}

/// Whether a header of the client's may go on: neither Spin's own remarks, nor the authority, which is
/// the next one's from here.
fn goes_on(name: &str) -> bool {
    !name.starts_with("spin-") && name != "host"
}

/// A body that is written while it is read.
fn written(text: String) -> StreamReader<u8> {
    let (mut writer, body) = wit_stream::new();
    spawn(async move {
        writer.write_all(text.into_bytes()).await;
    });
    body
}

fn owned(headers: &Headers) -> impl Iterator<Item = (String, Vec<u8>)> {
    headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
}

/// A request to `url`, which the configuration made.
fn request_to(
    url: &str,
    method: &Method,
    headers: &[(String, Vec<u8>)],
    body: Option<StreamReader<u8>>,
    trailers: LastPart,
) -> Result<Request, ErrorCode> {
    let headers = Fields::from_list(headers).map_err(|_| ErrorCode::HttpProtocolError)?;
    let (request, _sent) = Request::new(headers, body, trailers, None);
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let scheme = if scheme == "http" {
        Scheme::Http
    } else {
        Scheme::Https
    };
    let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    request
        .set_method(method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(target)))
        .map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    Ok(request)
}

/// An answer made at the edge.
fn respond(answer: Answer) -> Response {
    let headers: Vec<_> = owned(&answer.headers).collect();
    let headers = Fields::from_list(&headers).expect("the edge writes headers that are such");
    let (response, _sent) = Response::new(headers, Some(written(answer.body)), no_trailers());
    let set = response.set_status_code(answer.status);
    set.expect("the edge answers with statuses that are such");
    response
}

/// The same answer, its body unread, with further headers.
fn with_headers(answer: Response, further: &Headers) -> Response {
    let headers = answer.get_headers().clone();
    let _ = headers.delete(COST);
    for (name, value) in owned(further) {
        // What an answer varies by adds up.
        let set = if name == "vary" {
            headers.append(&name, &value)
        } else {
            headers.set(&name, &[value])
        };
        set.expect("the edge writes headers that are such");
    }
    let status = answer.get_status_code();
    let (body, trailers) = Response::consume_body(answer, accepted());
    let (answer, _sent) = Response::new(headers, Some(body), trailers);
    let set = answer.set_status_code(status);
    set.expect("it had this status before");
    answer
}

/// A body as text, of at most `limit` bytes.
async fn read((mut body, trailers): Part, limit: usize) -> Result<String, Unread> {
    let mut bytes = Vec::new();
    while bytes.len() <= limit {
        // As much is read as there is room.
        bytes.reserve_exact(PART_BYTES.min(limit + 1 - bytes.len()));
        let (state, read) = body.read(bytes).await;
        bytes = read;
        if state == StreamResult::Dropped {
            trailers.await.map_err(|_| Unread::Broken)?;
            return String::from_utf8(bytes).map_err(|_| Unread::Broken);
        }
    }
    Err(Unread::TooLarge)
}

/// That we have nothing against a body.
fn accepted() -> FutureReader<Result<(), ErrorCode>> {
    wit_future::new(|| Ok(())).1
}

fn no_trailers() -> LastPart {
    wit_future::new(|| Ok(None)).1
}

/// What `work` comes to, unless it takes longer.
async fn within<T>(millis: u32, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut late = pin!(wait(millis));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => late.as_mut().poll(context).map(|()| None),
    })
    .await
}

async fn wait(millis: u32) {
    wait_for(u64::from(millis) * 1_000_000).await;
}
