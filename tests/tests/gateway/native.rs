//! The core in this process: the third host, whose clock can be set.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use anyhow::Result;
use axum::http::{HeaderName, Request, Response};
use chrono::{DateTime, TimeDelta, Utc};
use edge::{
    config::Config,
    gateway::{Answered, Gateway},
    host::{Answer, Ask, COST, Document, Forward, Head, Host, NotReached, Outcome, Unread},
    numbers::Report,
};
use shared::{
    gcra::{Decision, Quota},
    jwks::Key,
};
use tokio::time::{sleep, timeout};

use crate::{setting::Setting, suite::send};

/// An edge that remembers, as an isolate does.
pub struct Edge {
    gateway: Rc<Gateway>,
    world: Rc<World>,
}

/// What is around the requests.
struct World {
    now: Cell<DateTime<Utc>>,
    next_id: Cell<u64>,
    later: RefCell<Vec<Pin<Box<dyn Future<Output = ()>>>>>,
    /// What edges keep for each other.
    kept: RefCell<HashMap<String, String>>,
    /// How often one of them asked for it.
    recalls: Cell<usize>,
    /// What was told of its numbers.
    reports: RefCell<Vec<String>>,
}

impl Edge {
    /// An edge that has seen nothing yet, on this machine's clock as it stands.
    pub fn new(setting: &Setting) -> Self {
        let world = World {
            now: Cell::new(tests::now()),
            next_id: Cell::default(),
            later: RefCell::default(),
            kept: RefCell::default(),
            recalls: Cell::default(),
            reports: RefCell::default(),
        };
        Self::within(Rc::new(world), |name| setting.var(name))
    }

    /// Another edge in the same place that has seen nothing yet, with the same clock and cache.
    pub fn cold(&self, var: impl Fn(&str) -> Option<String>) -> Self {
        Self::within(self.world.clone(), var)
    }

    fn within(world: Rc<World>, var: impl Fn(&str) -> Option<String>) -> Self {
        let config = Config::read(var).expect("a setting that holds together");
        Self {
            gateway: Gateway::new(config),
            world,
        }
    }

    /// Changes what is kept, as somebody else could who writes into the same cache.
    pub fn tamper(&self, change: impl FnOnce(&mut HashMap<String, String>)) {
        change(&mut self.world.kept.borrow_mut());
    }

    /// How often what is kept was asked for.
    pub fn recalls(&self) -> usize {
        self.world.recalls.get()
    }

    /// What was told of its numbers.
    pub fn reports(&self) -> Vec<String> {
        self.world.reports.take()
    }

    /// Lets time pass.
    pub fn pass(&self, secs: i64) {
        let now = self.world.now.get();
        self.world.now.set(now + TimeDelta::seconds(secs));
    }

    /// Asks it, and then lets it do what it put off.
    pub async fn ask(&self, address: IpAddr, request: Request<String>) -> Result<Response<String>> {
        let uri = request.uri();
        let head = Head {
            method: request.method().to_string(),
            path: uri.path().to_owned(),
            query: uri
                .query()
                .map_or_else(String::new, |query| format!("?{query}")),
            address,
            origin: header(&request, "origin"),
        };
        let host = Native(self.world.clone(), Rc::new(request));
        let answer = match self.gateway.pass(&host, &head).await {
            Outcome::Answer(answer) => response(answer),
            Outcome::Forward(forward) => host.forward(&self.gateway, forward).await,
        };
        loop {
            let later = self.world.later.take();
            if later.is_empty() {
                break answer;
            }
            for work in later {
                work.await;
            }
        }
    }
}

/// One request in this process.
#[derive(Clone)]
struct Native(Rc<World>, Rc<Request<String>>);

impl Native {
    async fn forward(&self, gateway: &Rc<Gateway>, forward: Forward) -> Result<Response<String>> {
        let mut onward = Request::clone(&self.1);
        *onward.uri_mut() = forward.url.parse()?;
        let headers = self.1.headers().iter();
        // The authority is the next one's from here.
        let headers = headers.filter(|(name, _)| *name != "host");
        let headers =
            headers.filter(|(name, _)| !forward.dropped.iter().any(|other| name.as_str() == other));
        *onward.headers_mut() = headers
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for (name, value) in &forward.headers {
            onward.headers_mut().insert(*name, value.parse()?);
        }
        let within = Duration::from_secs(forward.timeout_secs.into());
        let not_reached = |why| response(Answer::not_reached(why, &forward.request_id));
        let answer = timeout(within, send(onward)).await;
        gateway.took(TimeDelta::milliseconds(3), matches!(answer, Ok(Ok(_))));
        let mut answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => not_reached(NotReached::Refused)?,
            Err(_) => not_reached(NotReached::TimedOut)?,
        };
        let cost = answer.headers_mut().remove(COST);
        if let Some(settlement) = forward.settlement {
            let answered = Answered {
                status: answer.status().as_u16(),
                cost: cost.and_then(|cost| cost.to_str().ok().map(str::to_owned)),
            };
            let (gateway, again) = (gateway.clone(), self.clone());
            self.later(async move { gateway.settle(&again, settlement, answered).await });
        }
        for (name, value) in &forward.answer_headers {
            if *name == "vary" {
                answer.headers_mut().append(*name, value.parse()?);
            } else {
                answer.headers_mut().insert(*name, value.parse()?);
            }
        }
        Ok(answer)
    }
}

fn response(answer: Answer) -> Result<Response<String>> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(HeaderName::from_static(name), &*value);
    }
    Ok(response.body(answer.body)?)
}

/// Several of one name are one list.
fn header(request: &Request<String>, name: &str) -> Option<String> {
    let values = request.headers().get_all(name).iter();
    let values: Vec<_> = values
        .map(|value| value.to_str())
        .collect::<Result<_, _>>()
        .ok()?;
    (!values.is_empty()).then(|| values.join(if name == "cookie" { "; " } else { ", " }))
}

impl Host for Native {
    fn now(&self) -> DateTime<Utc> {
        self.0.now.get()
    }

    fn new_request_id(&self) -> String {
        self.0.next_id.update(|id| id + 1);
        format!("request-{}", self.0.next_id.get())
    }

    fn header(&self, name: &str) -> Option<String> {
        header(&self.1, name)
    }

    fn header_names(&self) -> String {
        let names = self.1.headers().keys();
        names.flat_map(|name| [name.as_str(), "\n"]).collect()
    }

    fn has_signed(&self, key: &Key, message: &[u8], signature: &[u8; 64]) -> bool {
        key.has_signed(message, signature)
    }

    async fn body(&self, limit: usize) -> Result<String, Unread> {
        let body = self.1.body();
        if body.len() > limit {
            return Err(Unread::TooLarge);
        }
        Ok(body.clone())
    }

    async fn fetch(&self, ask: Ask) -> Result<Document, String> {
        let mut request = Request::builder().method(ask.method).uri(&ask.url);
        for (name, value) in &ask.headers {
            request = request.header(*name, &**value);
        }
        if ask.body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(ask.body.unwrap_or_default());
        let request = request.map_err(|why| why.to_string())?;
        let within = Duration::from_millis(ask.timeout_millis.into());
        let answer = timeout(within, send(request)).await;
        let answer = answer.map_err(|why| why.to_string())?;
        let (parts, body) = answer.map_err(|why| why.to_string())?.into_parts();
        let etag = parts
            .headers
            .get("etag")
            .and_then(|etag| etag.to_str().ok());
        Ok(Document {
            status: parts.status.as_u16(),
            body,
            etag: etag.unwrap_or_default().to_owned(),
        })
    }

    async fn admit(&self, _key: &str, _quota: Quota) -> Result<Option<Decision>, String> {
        Ok(None)
    }

    async fn kept(&self, name: &str, _timeout_millis: u32) -> Result<Option<String>, String> {
        self.0.recalls.update(|recalls| recalls + 1);
        Ok(self.0.kept.borrow().get(name).cloned())
    }

    fn keep(&self, name: String, text: impl FnOnce() -> Option<String> + 'static) {
        let world = self.0.clone();
        self.later(async move {
            if let Some(text) = text() {
                world.kept.borrow_mut().insert(name, text);
            }
        });
    }

    async fn pause(&self, millis: u32) {
        sleep(Duration::from_millis(millis.into())).await;
    }

    fn later(&self, work: impl Future<Output = ()> + 'static) {
        self.0.later.borrow_mut().push(Box::pin(work));
    }

    fn report(&self, report: &Report) {
        self.0.reports.borrow_mut().push(report.line());
    }

    fn log(&self, line: &str) {
        println!("{line}");
    }
}
