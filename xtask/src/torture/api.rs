//! The origin as its clients reach it: over a network that breaks, with tokens that age.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{RequestBuilder, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use shared::credits::Credits;
use tests::{Event, StripeFake};
use tokio::time::sleep;

use super::{
    ledger::{Balance, Ledger, Row},
    model::{Kind, Operation, PACKAGE, Verdict},
    rig::ORIGINS,
};

/// How long a client waits for an answer. The origin may take longer, and does it all the same.
const PATIENCE: Duration = Duration::from_secs(8);
/// What is asked until it is answered is asked this often.
const ATTEMPTS: u32 = 600;
const PAUSE: Duration = Duration::from_millis(100);
const PASSWORD: &str = "correct horse battery";
const FIRST_PAGE: &str = "/api/v1/credits/transactions?limit=100";
/// Over before the run is.
pub const SHORT_HOLD: Duration = Duration::from_secs(1);
/// Over after every run. There are none that are longer.
pub const LONG_HOLD: Duration = Duration::from_hours(1);

/// Clients of both replicas, for all of its people.
pub struct Api {
    http: reqwest::Client,
    bases: [String; ORIGINS],
    /// Where its people pay.
    pub stripe: Arc<StripeFake>,
    people: Vec<Person>,
    /// Who may grant and refund.
    admin: usize,
    heard: Mutex<BTreeMap<String, u64>>,
}

/// Somebody with an account.
struct Person {
    id: String,
    email: String,
    token: RwLock<String>,
}

impl Api {
    /// Registers so many people and signs them in. The last of them is to become the admin.
    pub async fn register(
        bases: [String; ORIGINS],
        stripe: Arc<StripeFake>,
        people: usize,
    ) -> Result<Self> {
        let mut api = Self {
            // A connection for every request: where it breaks is the fate of that request alone.
            http: reqwest::Client::builder()
                .pool_max_idle_per_host(0)
                .timeout(PATIENCE)
                .build()?,
            bases,
            stripe,
            people: Vec::new(),
            admin: people - 1,
            heard: Mutex::default(),
        };
        for number in 0..people {
            let email = format!("user-{number}@example.org");
            let body = json!({"email": email, "password": PASSWORD});
            let answer = api.post("/api/v1/auth/register", "", &body, 0).await?;
            let registered: Registered = read(StatusCode::CREATED, &answer)?;
            api.people.push(Person {
                id: registered.user.id,
                email,
                token: RwLock::default(),
            });
            api.sign_in(number).await?;
        }
        Ok(api)
    }

    /// The admin-to-be's id.
    pub fn admin_id(&self) -> &str {
        &self.people[self.admin].id
    }

    /// How often each status and code was answered to operations.
    pub fn heard(&self) -> BTreeMap<String, u64> {
        self.heard.lock().expect("no holder panics").clone()
    }

    /// Gets a new token.
    pub async fn sign_in(&self, user: usize) -> Result<()> {
        let person = &self.people[user];
        let body = json!({"email": person.email, "password": PASSWORD});
        for attempt in 0..ATTEMPTS {
            let replica = attempt as usize % ORIGINS;
            let answer = self.post("/api/v1/auth/login", "", &body, replica).await;
            if let Ok(answer) = answer
                && !answer.status.is_server_error()
            {
                let signed_in: SignedIn = read(StatusCode::OK, &answer)?;
                *person.token.write().expect("no holder panics") = signed_in.access_token;
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        bail!("nobody could sign in for a minute");
    }

    /// Asks for it once. A token that is over says nothing about what was asked.
    pub async fn ask(&self, operation: &Operation, replica: usize) -> Result<Verdict> {
        let (path, body) = self.request(operation);
        let asker = match operation.kind {
            Kind::Refund { .. } | Kind::Grant { .. } => self.admin,
            _ => operation.user,
        };
        for _ in 0..3 {
            let answer = self.post(&path, &self.token(asker), &body, replica).await;
            let (heard, verdict) = match answer {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                    self.sign_in(asker).await?;
                    continue;
                }
                Ok(answer) => verdict(&answer),
                Err(_) => ("no answer".to_owned(), Verdict::Unclear),
            };
            self.count(heard);
            return Ok(verdict);
        }
        bail!("a token that was just made is refused");
    }

    /// Delivers an event of Stripe's once; whether it was accepted.
    pub async fn deliver(&self, event: &Event, replica: usize) -> bool {
        let request = self
            .http
            .post(format!("{}/api/v1/webhooks/stripe", self.bases[replica]))
            .header("stripe-signature", self.stripe.sign(&event.body))
            .body(event.body.clone());
        let status = receive(request).await.map(|answer| answer.status);
        let heard = status.as_ref().map_or("no answer", StatusCode::as_str);
        self.count(format!("{heard} to an event"));
        matches!(status, Ok(StatusCode::OK))
    }

    /// Everything that somebody's ledger says. For a network that is sound.
    pub async fn ledger(&self, user: usize) -> Result<Ledger> {
        self.sign_in(user).await?;
        let token = self.token(user);
        let balance = self.get("/api/v1/credits/balance", &token).await?;
        let balance: Balance = read(StatusCode::OK, &balance)?;
        let mut rows: Vec<Row> = Vec::new();
        let mut page = Some(FIRST_PAGE.to_owned());
        while let Some(path) = page {
            let answer = self.get(&path, &token).await?;
            rows.extend(read::<Vec<Row>>(StatusCode::OK, &answer)?);
            page = answer.next;
        }
        rows.reverse();
        Ok(Ledger { balance, rows })
    }

    /// The call and its body.
    fn request(&self, operation: &Operation) -> (String, Value) {
        let Operation { name, app, .. } = operation;
        let user = &self.people[operation.user].id;
        let (path, mut body) = match &operation.kind {
            Kind::Spend { keyed } => {
                let key = keyed.then_some(name);
                let body = json!({"appId": app, "description": name, "idempotencyKey": key});
                ("use".to_owned(), body)
            }
            Kind::Hold { expires } => {
                let expires_in = if *expires { SHORT_HOLD } else { LONG_HOLD };
                let mut body = json!({"appId": app, "description": name, "idempotencyKey": name});
                body["expiresIn"] = expires_in.as_secs().into();
                ("holds".to_owned(), body)
            }
            Kind::Capture { hold } => (format!("holds/{hold}/capture"), json!({})),
            Kind::Void { hold } => (format!("holds/{hold}/void"), json!({})),
            Kind::Refund { charge } => {
                let mut body = json!({"userId": user, "reason": name, "referenceId": name});
                body["transactionId"] = charge.as_str().into();
                ("refunds".to_owned(), body)
            }
            Kind::Grant { kind } => {
                let mut body = json!({"userId": user, "reason": name, "referenceId": name});
                body["kind"] = (*kind).into();
                ("grants".to_owned(), body)
            }
            Kind::Buy { .. } => ("purchases".to_owned(), json!({"packageId": PACKAGE})),
        };
        if let Some(amount) = operation.amount {
            body["amount"] = json!(amount);
        }
        (format!("/api/v1/credits/{path}"), body)
    }
}

/// Sending and receiving.
impl Api {
    fn count(&self, heard: String) {
        let mut counts = self.heard.lock().expect("no holder panics");
        *counts.entry(heard).or_default() += 1;
    }

    fn token(&self, user: usize) -> String {
        let token = &self.people[user].token;
        token.read().expect("no holder panics").clone()
    }

    async fn get(&self, path: &str, token: &str) -> Result<Answer> {
        let request = self.http.get(format!("{}{path}", self.bases[0]));
        receive(request.bearer_auth(token)).await
    }

    async fn post(&self, path: &str, token: &str, body: &Value, replica: usize) -> Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.bases[replica]));
        receive(request.bearer_auth(token).json(body)).await
    }
}

/// What came back to one attempt.
struct Answer {
    status: StatusCode,
    replayed: bool,
    /// Where the next page is.
    next: Option<String>,
    body: Vec<u8>,
}

/// Sends a request and reads the answer to its end; an error when that does not come.
async fn receive(request: RequestBuilder) -> Result<Answer> {
    let answer = request.send().await?;
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let next = header("link").and_then(|link| link.strip_prefix('<')?.split('>').next());
    Ok(Answer {
        status: answer.status(),
        replayed: header("idempotency-replayed") == Some("true"),
        next: next.map(str::to_owned),
        body: answer.bytes().await?.into(),
    })
}

fn read<T: DeserializeOwned>(status: StatusCode, answer: &Answer) -> Result<T> {
    let Answer {
        status: was, body, ..
    } = answer;
    let text = String::from_utf8_lossy(body);
    ensure!(*was == status, "{was} in place of {status}: {text}");
    serde_json::from_slice(body).with_context(|| format!("an answer that cannot be read: {text}"))
}

/// What an answer says, in two words and as a verdict.
fn verdict(answer: &Answer) -> (String, Verdict) {
    let status = answer.status.as_u16();
    if answer.status.is_success() {
        let line = serde_json::from_slice(&answer.body).map(|moved: Moved| moved.line());
        let Ok(Some(Line { id, amount })) = line else {
            let what = format!("{status} with a body that cannot be read");
            return (what.clone(), Verdict::Refused(what));
        };
        let replayed = answer.replayed;
        let heard = if replayed { " replayed" } else { "" };
        return (
            format!("{status}{heard}"),
            Verdict::Done {
                id,
                amount,
                replayed,
            },
        );
    }
    let code = serde_json::from_slice(&answer.body).map(|problem: Problem| problem.code);
    let code = code.unwrap_or_else(|_| status.to_string());
    let verdict = if answer.status.is_server_error() {
        Verdict::Unclear
    } else {
        Verdict::Refused(code.clone())
    };
    (format!("{status} {code}"), verdict)
}

#[derive(Deserialize)]
struct Registered {
    user: User,
}

#[derive(Deserialize)]
struct User {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedIn {
    access_token: String,
}

/// An answer to whatever moves credits, or begins to.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Moved {
    hold: Option<Line>,
    transaction: Option<Line>,
    purchase_id: Option<String>,
}

impl Moved {
    /// A purchase that has only begun moves nothing yet.
    fn line(self) -> Option<Line> {
        let amount = Credits::ZERO;
        let begun = self.purchase_id.map(|id| Line { id, amount });
        self.hold.or(self.transaction).or(begun)
    }
}

#[derive(Deserialize)]
struct Line {
    id: String,
    amount: Credits,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
}
