//! Stripe, as far as Tollgate knows it: checkout sessions made through its API, what people then
//! do with their money, and the events that tell of it. Delivered as the real ones are: signed,
//! more than once, at once, to whichever replica, in any order, and again until accepted.

mod session;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use anyhow::{Result, ensure};
use axum::{
    Form, Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::{future::join_all, stream};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::now;

pub use session::Session;

/// How often events are delivered again before the receiver counts as broken.
const MOST_ROUNDS: usize = 50;

/// A Stripe account in test mode. It stops when it is dropped.
pub struct StripeFake {
    /// Where its API is: `STRIPE_API_BASE`.
    pub url: String,
    books: Shared,
    webhook_secret: String,
    http: reqwest::Client,
    server: JoinHandle<()>,
}

/// An event, as it is delivered however often.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// Its type: `checkout.session.completed`.
    pub r#type: String,
    /// All of it, in JSON.
    pub body: String,
}

/// What goes wrong when a session is made.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// An answer of this status, which repeats the key as the worst of servers would.
    Status(u16),
    /// The session is made, and the line is cut before its answer is whole.
    HangUp,
}

#[derive(Default)]
struct Books {
    key: String,
    sessions: Vec<Session>,
    faults: VecDeque<Fault>,
    events: i64,
}

type Shared = Arc<Mutex<Books>>;

impl StripeFake {
    /// Starts an account whose secret key is `key`, and which signs with `webhook_secret`.
    pub async fn start(key: &str, webhook_secret: &str) -> Result<Self> {
        let books = Shared::new(Mutex::new(Books {
            key: key.to_owned(),
            ..Books::default()
        }));
        let router = Router::new()
            .route("/v1/checkout/sessions", post(create))
            .with_state(books.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            url,
            books,
            webhook_secret: webhook_secret.to_owned(),
            http: reqwest::Client::new(),
            server,
        })
    }

    /// Lets the next attempts to make a session fail, one after the other.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        held(&self.books).faults.extend(faults);
    }

    /// The sessions that were made so far.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        held(&self.books).sessions.clone()
    }

    /// The id of the session that was made for a purchase.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn session_of(&self, purchase: &str) -> String {
        let books = held(&self.books);
        let mut sessions = books.sessions.iter();
        let session = sessions.find(|session| session.form["metadata[purchaseId]"] == purchase);
        session.expect("a session of this purchase").id.clone()
    }

    /// Pays it, by card or, after [`Self::pay_later`], by the bank at last.
    #[must_use]
    pub fn pay(&self, session: &str) -> Vec<Event> {
        self.change(session, |session| {
            let told = if session.is_complete {
                "checkout.session.async_payment_succeeded"
            } else {
                "checkout.session.completed"
            };
            session.complete();
            session.is_paid = true;
            vec![
                ("charge.succeeded", session.charge()),
                ("payment_intent.succeeded", session.intent()),
                (told, session.checkout("complete")),
            ]
        })
    }

    /// Completes it by a payment that takes days.
    #[must_use]
    pub fn pay_later(&self, session: &str) -> Vec<Event> {
        self.change(session, |session| {
            session.complete();
            vec![("checkout.session.completed", session.checkout("complete"))]
        })
    }

    /// The payment that took days does not come.
    #[must_use]
    pub fn fail(&self, session: &str) -> Vec<Event> {
        self.change(session, |session| {
            vec![(
                "checkout.session.async_payment_failed",
                session.checkout("complete"),
            )]
        })
    }

    /// Nobody paid in time.
    #[must_use]
    pub fn expire(&self, session: &str) -> Vec<Event> {
        self.change(session, |session| {
            vec![("checkout.session.expired", session.checkout("expired"))]
        })
    }

    /// Pays a part back, or all.
    #[must_use]
    pub fn refund(&self, session: &str, cents: i64) -> Vec<Event> {
        self.change(session, |session| {
            let id = format!("re_{}_{}", session.id, session.refunds.len());
            session.refunds.push((id, cents, true));
            let last = session.refunds.len() - 1;
            vec![
                ("charge.refunded", session.charge()),
                ("refund.created", session.refund(last)),
            ]
        })
    }

    /// The latest refund does not arrive: its money is back in the account.
    #[must_use]
    pub fn fail_refund(&self, session: &str) -> Vec<Event> {
        self.change(session, |session| {
            let last = session.refunds.len() - 1;
            session.refunds[last].2 = false;
            vec![
                ("refund.failed", session.refund(last)),
                ("charge.refund.updated", session.refund(last)),
            ]
        })
    }

    /// The bank asks, and takes nothing yet.
    #[must_use]
    pub fn inquire(&self, session: &str) -> Vec<Event> {
        self.change(session, |session| {
            session.disputes += 1;
            vec![(
                "charge.dispute.created",
                session.dispute("warning_needs_response"),
            )]
        })
    }

    /// The bank takes the money back.
    #[must_use]
    pub fn dispute(&self, session: &str) -> Vec<Event> {
        self.change(session, |session| {
            session.disputes += 1;
            let dispute = session.dispute("needs_response");
            vec![
                ("charge.dispute.created", dispute.clone()),
                ("charge.dispute.funds_withdrawn", dispute),
            ]
        })
    }

    /// The latest dispute ends well.
    #[must_use]
    pub fn win(&self, session: &str) -> Vec<Event> {
        self.change(session, |session| {
            let dispute = session.dispute("won");
            vec![
                ("charge.dispute.funds_reinstated", dispute.clone()),
                ("charge.dispute.closed", dispute),
            ]
        })
    }

    /// The latest dispute does not end well.
    #[must_use]
    pub fn lose(&self, session: &str) -> Vec<Event> {
        self.change(session, |session| {
            vec![("charge.dispute.closed", session.dispute("lost"))]
        })
    }

    /// An event of any type about any object.
    #[must_use]
    pub fn event(&self, r#type: &str, object: &Value) -> Event {
        held(&self.books).event(r#type, object)
    }

    /// The `Stripe-Signature` of a body, as of now.
    #[must_use]
    pub fn sign(&self, body: &str) -> String {
        self.sign_at(body, now().timestamp())
    }

    /// The same as of another second since 1970.
    #[must_use]
    pub fn sign_at(&self, body: &str, seconds: i64) -> String {
        signature(&self.webhook_secret, body, seconds)
    }

    /// Delivers an event once; gives the status of the answer.
    pub async fn deliver(&self, event: &Event, url: &str) -> Result<u16> {
        let request = self
            .http
            .post(url)
            .header("content-type", "application/json; charset=utf-8")
            .header("stripe-signature", self.sign(&event.body));
        let answer = request.body(event.body.clone()).send().await?;
        Ok(answer.status().as_u16())
    }

    /// Delivers events as they come in bad weather: each up to three times, in any order, all at
    /// once, each time to any of `urls`; and again until every delivery was accepted.
    pub async fn deliver_badly(&self, events: &[Event], urls: &[String], seed: u64) -> Result<()> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut due: Vec<&Event> = Vec::new();
        for event in events {
            due.extend(std::iter::repeat_n(event, random.usize(1..=3)));
        }
        for _ in 0..MOST_ROUNDS {
            random.shuffle(&mut due);
            let deliveries = due
                .iter()
                .map(|event| self.deliver(event, &urls[random.usize(..urls.len())]));
            let answers = join_all(deliveries.collect::<Vec<_>>()).await;
            due = due
                .into_iter()
                .zip(answers)
                .filter(|(_, answer)| !matches!(answer, Ok(200)))
                .map(|(event, _)| event)
                .collect();
            if due.is_empty() {
                return Ok(());
            }
        }
        ensure!(due.is_empty(), "never accepted: {due:?}");
        Ok(())
    }

    fn change(
        &self,
        session: &str,
        change: impl FnOnce(&mut Session) -> Vec<(&'static str, Value)>,
    ) -> Vec<Event> {
        let mut books = held(&self.books);
        let mut sessions = books.sessions.iter_mut();
        let session = sessions
            .find(|known| known.id == session)
            .expect("a session that was made here");
        let objects = change(session);
        let events = objects.into_iter();
        events
            .map(|(r#type, object)| books.event(r#type, &object))
            .collect()
    }
}

impl Drop for StripeFake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Books {
    /// Later events are of a later second, so that each order of delivery has one meaning.
    fn event(&mut self, r#type: &str, object: &Value) -> Event {
        self.events += 1;
        let id = format!("evt_{}_{}", now().timestamp_micros(), self.events);
        let body = json!({
            "id": id,
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": now().timestamp() + self.events,
            "data": {"object": object},
            "livemode": false,
            "pending_webhooks": 1,
            "request": {"id": null, "idempotency_key": null},
            "type": r#type,
        });
        Event {
            id,
            r#type: r#type.to_owned(),
            body: body.to_string(),
        }
    }
}

/// `POST /v1/checkout/sessions`.
async fn create(
    State(books): State<Shared>,
    headers: HeaderMap,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    let mut books = held(&books);
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let fault = books.faults.pop_front();
    let sent = header("authorization");
    if let Some(Fault::Status(status)) = fault {
        return refusal(status, &format!("Something is wrong with {sent}"));
    }
    if sent != format!("Bearer {}", books.key) {
        return refusal(401, &format!("Invalid API Key provided: {sent}"));
    }
    let key = header("idempotency-key");
    let mut sessions = books.sessions.iter();
    let id = match sessions.find(|session| !key.is_empty() && session.made_with[1] == key) {
        Some(session) if session.form != form => {
            return refusal(400, "Keys for idempotent requests can only be used once");
        }
        Some(session) => session.id.clone(),
        None => {
            let id = format!(
                "cs_test_{}_{}",
                now().timestamp_micros(),
                books.sessions.len()
            );
            books.sessions.push(Session {
                id: id.clone(),
                form,
                made_with: [header("stripe-version"), key],
                ..Session::default()
            });
            id
        }
    };
    let url = format!("https://checkout.stripe.test/c/pay/{id}");
    let answer = json!({"id": id, "object": "checkout.session", "url": url});
    if matches!(fault, Some(Fault::HangUp)) {
        let cut = stream::iter([Ok("{\"id\":"), Err(std::io::Error::other("cut"))]);
        return Body::from_stream(cut).into_response();
    }
    Json(answer).into_response()
}

fn refusal(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let error = json!({"error": {"type": "api_error", "message": message}});
    (status, Json(error)).into_response()
}

/// `t=…,v1=…`, as Stripe signs.
fn signature(secret: &str, body: &str, at: i64) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex::encode(mac.finalize().into_bytes()))
}

fn held(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().expect("nobody panics while holding it")
}
