//! The load: people who spend, refresh and look, and one who signs in again and again. What they asked and what
//! they heard is kept; whatever they were not told is asked again, as a well-made client does.

use std::{
    collections::BTreeMap,
    fmt::Display,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

const PASSWORD: &str = "correct horse battery";
/// Between what one of them asks and the next.
const PACE: Duration = Duration::from_millis(15);
/// Before something is asked again.
const PAUSE: Duration = Duration::from_millis(200);
/// Nobody waits longer; an origin answers sooner.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is asked again is asked for so long.
const AGAIN: Duration = Duration::from_mins(2);
/// What everybody has to spend.
pub const BONUS: u64 = 1_000_000;

/// What one request heard.
#[derive(Clone)]
pub struct Heard {
    /// What was asked for.
    pub call: &'static str,
    /// When it was asked.
    pub begun: Instant,
    /// When it was answered, or given up.
    pub ended: Instant,
    /// The status and the code, or that there was no answer.
    pub answer: String,
}

impl Heard {
    /// Whether it is what the client wanted.
    pub fn is_good(&self) -> bool {
        self.answer.starts_with('2')
    }
}

/// People at work.
pub struct Load {
    stop: watch::Sender<bool>,
    people: JoinSet<Result<Person>>,
    heard: Log,
}

/// Everything that was heard.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Heard>>>);

/// Somebody with an account.
pub struct Person {
    http: reqwest::Client,
    base: String,
    log: Log,
    email: String,
    access: String,
    refresh: String,
    /// What was acknowledged.
    spent: u64,
}

impl Load {
    /// Registers people by these numbers and lets them begin.
    pub async fn start(base: &str, people: Range<usize>) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let log = Log::default();
        let mut tasks = JoinSet::new();
        for number in people.clone() {
            let person = Person::register(base, number, log.clone()).await?;
            let stopped = stopped.clone();
            tasks.spawn(async move {
                if number == people.start {
                    person.sign_in_again(stopped).await
                } else {
                    person.live(stopped).await
                }
            });
        }
        Ok(Self {
            stop,
            people: tasks,
            heard: log,
        })
    }

    /// Waits until nobody has anything under way, and compares what was acknowledged with what is there.
    pub async fn end(mut self) -> Result<Told> {
        self.stop.send_replace(true);
        while let Some(person) = self.people.join_next().await {
            person??.compare().await?;
        }
        Ok(Told(self.heard.all()))
    }
}

impl Log {
    fn all(&self) -> Vec<Heard> {
        self.0.lock().expect("no holder panics").clone()
    }

    fn keep(&self, heard: Heard) {
        self.0.lock().expect("no holder panics").push(heard);
    }
}

impl Person {
    /// A new account, signed in.
    pub async fn register(base: &str, number: usize, log: Log) -> Result<Self> {
        let mut person = Self {
            http: reqwest::Client::builder().timeout(PATIENCE).build()?,
            base: base.to_owned(),
            log,
            email: format!("user-{number}@example.org"),
            access: String::new(),
            refresh: String::new(),
            spent: 0,
        };
        let body = json!({"email": person.email, "password": PASSWORD});
        let (answer, _) = person
            .ask("register", "/api/v1/auth/register", Some(&body))
            .await;
        ensure!(answer.is_good(), "registering: {}", answer.answer);
        person.sign_in().await?;
        Ok(person)
    }

    /// The token of now.
    pub fn access(&self) -> &str {
        &self.access
    }

    /// Spends, refreshes and looks, until told to stop.
    async fn live(mut self, stopped: watch::Receiver<bool>) -> Result<Self> {
        for turn in 0_u64.. {
            if *stopped.borrow() {
                break;
            }
            match turn % 8 {
                0 => self.refresh().await?,
                4 => self.look().await?,
                _ => self.spend(turn).await?,
            }
            sleep(PACE).await;
        }
        Ok(self)
    }

    async fn sign_in_again(mut self, stopped: watch::Receiver<bool>) -> Result<Self> {
        while !*stopped.borrow() {
            self.sign_in().await?;
            sleep(PACE * 4).await;
        }
        Ok(self)
    }

    async fn spend(&mut self, turn: u64) -> Result<()> {
        let key = format!("{}-{turn}", self.email);
        let body =
            json!({"amount": 1, "appId": "app", "description": "a picture", "idempotencyKey": key});
        self.until_done("spend", "/api/v1/credits/use", Some(body))
            .await?;
        self.spent += 1;
        Ok(())
    }

    async fn look(&mut self) -> Result<()> {
        self.until_done("look", "/api/v1/credits/balance", None)
            .await
            .map(drop)
    }

    /// Signs in, however often that must be tried.
    pub async fn sign_in(&mut self) -> Result<()> {
        let body = json!({"email": self.email, "password": PASSWORD});
        let pair = self
            .until_done("sign-in", "/api/v1/auth/login", Some(body))
            .await?;
        self.take(&pair)
    }

    /// Refreshes, however often that must be tried; who is refused signs in again.
    pub async fn refresh(&mut self) -> Result<()> {
        let body = json!({"refreshToken": self.refresh});
        let until = Instant::now() + AGAIN;
        while Instant::now() < until {
            let (heard, pair) = self
                .ask("refresh", "/api/v1/auth/refresh", Some(&body))
                .await;
            if heard.is_good() {
                return self.take(&pair);
            }
            if heard.answer.starts_with("401") {
                return Box::pin(self.sign_in()).await;
            }
            sleep(PAUSE).await;
        }
        bail!("nobody could refresh for {AGAIN:?}")
    }

    fn take(&mut self, pair: &Value) -> Result<()> {
        let text = |name: &str| pair[name].as_str().map(str::to_owned).context("a token");
        self.access = text("accessToken")?;
        self.refresh = text("refreshToken")?;
        Ok(())
    }

    /// Asks until it is done, by a new token where the one of before is refused.
    async fn until_done(
        &mut self,
        call: &'static str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value> {
        let until = Instant::now() + AGAIN;
        let mut last = String::new();
        while Instant::now() < until {
            let (heard, answer) = self.ask(call, path, body.as_ref()).await;
            if heard.is_good() {
                return Ok(answer);
            }
            if heard.answer.starts_with("401") {
                Box::pin(self.refresh()).await?;
            }
            last = heard.answer;
            sleep(PAUSE).await;
        }
        bail!("{call} was not done for {AGAIN:?}: {last}")
    }

    /// Asks once.
    async fn ask(&self, call: &'static str, path: &str, body: Option<&Value>) -> (Heard, Value) {
        let url = format!("{}{path}", self.base);
        let request = match body {
            Some(body) => self.http.post(url).json(body),
            None => self.http.get(url),
        };
        let begun = Instant::now();
        let (answer, value) = match request.bearer_auth(&self.access).send().await {
            Ok(answer) => {
                let status = answer.status();
                match answer.json::<Value>().await {
                    Ok(value) if status.is_success() => (status.as_u16().to_string(), value),
                    Ok(value) => (said(status, value["code"].as_str()), value),
                    Err(_) => (said(status, None), Value::Null),
                }
            }
            Err(why) if why.is_timeout() => ("no answer in time".to_owned(), Value::Null),
            Err(_) => ("no answer".to_owned(), Value::Null),
        };
        let ended = Instant::now();
        let heard = Heard {
            call,
            begun,
            ended,
            answer,
        };
        self.log.keep(heard.clone());
        (heard, value)
    }

    /// What was acknowledged is what is gone.
    async fn compare(mut self) -> Result<()> {
        let balance = self
            .until_done("look", "/api/v1/credits/balance", None)
            .await?;
        // The bonus is free.
        let left = balance["freeCreditsRemaining"]
            .as_f64()
            .context("a balance")?;
        #[expect(clippy::cast_precision_loss, reason = "a million is exact")]
        let expected = (BONUS - self.spent) as f64;
        ensure!(
            (left - expected).abs() < 0.000_5,
            "{} has {left} in place of {expected}",
            self.email
        );
        Ok(())
    }
}

fn said(status: StatusCode, code: Option<&str>) -> String {
    let code = code.unwrap_or("without a problem");
    format!("{} {code}", status.as_u16())
}

/// All that was heard.
pub struct Told(Vec<Heard>);

impl Told {
    /// Fails where a token was refused, or something was a fault of the origin's.
    pub fn no_wrong_answer(&self) -> Result<()> {
        let is_wrong =
            |heard: &&Heard| heard.answer.starts_with('4') || heard.answer.starts_with("500");
        let wrong = self.0.iter().find(is_wrong);
        wrong.map_or(Ok(()), |wrong| {
            bail!("{} was answered {}", wrong.call, wrong.answer)
        })
    }

    /// What was not good.
    pub fn bad(&self) -> impl Iterator<Item = &Heard> {
        self.0.iter().filter(|heard| !heard.is_good())
    }

    /// How long after this moment the last of what was bad ended.
    pub fn over_after(&self, moment: Instant) -> Duration {
        let last = self.bad().map(|heard| heard.ended).max();
        last.map_or(Duration::ZERO, |last| {
            last.saturating_duration_since(moment)
        })
    }

    /// The longest that anybody waited for an answer.
    pub fn longest(&self) -> Duration {
        let took = |heard: &Heard| heard.ended - heard.begun;
        self.0.iter().map(took).max().unwrap_or_default()
    }

    /// How many were asked and answered well between two moments.
    pub fn good_between(&self, from: Instant, to: Instant) -> usize {
        let is_within =
            |heard: &&Heard| heard.is_good() && heard.begun >= from && heard.ended <= to;
        self.0.iter().filter(is_within).count()
    }
}

impl Display for Told {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut answers: BTreeMap<&str, u64> = BTreeMap::new();
        for heard in self.bad() {
            *answers.entry(&heard.answer).or_default() += 1;
        }
        write!(out, "{} requests", self.0.len())?;
        if answers.is_empty() {
            return write!(out, ", each answered well");
        }
        let answers: Vec<_> = answers
            .iter()
            .map(|(answer, times)| format!("{times} × {answer}"))
            .collect();
        write!(out, ", of which {}", answers.join(", "))
    }
}
