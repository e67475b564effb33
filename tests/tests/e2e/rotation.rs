//! Keys that rotate while they are in use: the built worker before an origin of the test's own, whose
//! operator rotates its keys, and services that verify by themselves with `jose`.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, btree_map::Entry},
    env,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::future::{try_join, try_join_all};
use serde_json::json;
use tests::{Answer, Client, Issuer};
use tokio::{sync::Mutex, time::sleep};

use crate::{
    rig::{BOUND, Person, VALIDATE, until, within},
    twin::Twin,
    verifier::{Said, Verifier},
};

const JWKS: &str = "/.well-known/jwks.json";
const LANES: usize = 3;
const ROTATIONS: usize = 2;
/// The origin looks at its keys every 30 s.
const RELOADED_WITHIN: Duration = Duration::from_secs(45);

struct World {
    twin: Twin,
    services: Mutex<Verifier>,
    /// A token of each key that has signed one, in the order in which they were seen.
    signed: RefCell<Vec<(String, Person)>>,
    checked: Cell<usize>,
    is_over: Cell<bool>,
}

impl World {
    async fn start() -> Result<Self> {
        let twin = Twin::apart("rotation", 1_000, &[]).await?;
        Ok(Self {
            services: Mutex::new(Verifier::start(&twin.edge, &env::var("EDGE_URL")?)?),
            twin,
            signed: RefCell::default(),
            checked: Cell::new(0),
            is_over: Cell::new(false),
        })
    }

    /// The edge believes this token. Whose it says it is, and what the services say.
    async fn ask(&self, person: &Person) -> Result<(String, Said)> {
        let answer = person.get(VALIDATE).await?;
        ensure!(answer.status == 200, "the edge: {answer:?}");
        let sub = answer.body["payload"]["sub"].as_str();
        let sub = sub.context("a subject")?.to_owned();
        let said = self.services.lock().await.verify(&person.access).await?;
        Ok((sub, said))
    }

    /// The edge and both services believe this token; which key has signed it.
    async fn is_good(&self, person: &Person) -> Result<String> {
        let (sub, Said { kid, warm, cold }) = self.ask(person).await?;
        ensure!(warm == sub && cold == sub, "kept: {warm}, fetched: {cold}");
        self.checked.update(|checked| checked + 1);
        Ok(kid)
    }

    /// Signs in and refreshes, over and over.
    async fn lane(&self) -> Result<()> {
        let ada = Person::sign_up_at(self.twin.edge.clone()).await?;
        let mut kept: BTreeMap<String, Person> = BTreeMap::new();
        while !self.is_over.get() {
            let session = ada.on("one of many").await?;
            self.is_good(&session).await?;
            let session = session.refreshed().await?;
            let kid = self.is_good(&session).await?;
            for (of, person) in &kept {
                ensure!(self.is_good(person).await? == *of);
            }
            match kept.entry(kid) {
                Entry::Occupied(_) => {
                    let out = session.post("/api/v1/auth/logout", json!({})).await?;
                    ensure!(out.status == 200, "{out:?}");
                }
                Entry::Vacant(first) => {
                    self.note(first.key(), &session);
                    first.insert(session);
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn note(&self, kid: &str, person: &Person) {
        if !self.has_signed(kid) {
            let mut signed = self.signed.borrow_mut();
            signed.push((kid.to_owned(), person.clone()));
        }
    }

    fn has_signed(&self, kid: &str) -> bool {
        self.signed.borrow().iter().any(|(of, _)| of == kid)
    }

    async fn publishes(at: &Client, path: &str, kid: &str) -> Result<bool> {
        let set = Answer::to(at.get(path)).await?.ok();
        let keys = set.body["keys"].as_array().context("a key set")?;
        Ok(keys.iter().any(|key| key["kid"] == kid))
    }

    /// Rotates the keys once, and waits until the next one signs.
    async fn rotate(&self) -> Result<()> {
        let listed = self.twin.operate(&["keys", "rotate"]).await?;
        let next = listed.lines().find(|line| line.contains(" next "));
        let next = next.and_then(|line| line.split_whitespace().next());
        let next = next.with_context(|| format!("a next key: {listed}"))?;
        let origin = Client::new(&self.twin.origin_url);
        within(RELOADED_WITHIN, "the origin publishes it", async || {
            let path = "/api/v1/auth/jwks";
            Self::publishes(&origin, path, next).await.unwrap_or(false)
        })
        .await;
        // In a day every cache comes by. Here the edge is brought to it by a key that nobody has; the
        // service that keeps its copy has to find out by itself.
        let nobody = Issuer::new(&env::var("EDGE_URL")?, 99).token();
        until("the edge publishes it", async || {
            let ask = Answer::to(self.twin.edge.get(VALIDATE).bearer_auth(&nobody)).await;
            let is_refused = ask.is_ok_and(|answer| answer.status == 401);
            is_refused
                && Self::publishes(&self.twin.edge, JWKS, next)
                    .await
                    .unwrap_or(false)
        })
        .await;
        ensure!(!self.has_signed(next), "it signs before its time");
        self.twin.pass_notice().await?;
        within(RELOADED_WITHIN, "it signs", async || self.has_signed(next)).await;
        Ok(())
    }

    async fn rotate_all(&self) -> Result<()> {
        until("the first key signs", async || {
            !self.signed.borrow().is_empty()
        })
        .await;
        for _ in 0..ROTATIONS {
            self.rotate().await?;
        }
        self.is_over.set(true);
        Ok(())
    }
}

#[tokio::test]
async fn keys_rotate_under_load_and_a_stolen_one_is_dropped() -> Result<()> {
    let world = World::start().await?;
    let lanes = try_join_all((0..LANES).map(|_| world.lane()));
    try_join(lanes, world.rotate_all()).await?;
    let signed = world.signed.take();
    assert_eq!(signed.len(), 1 + ROTATIONS, "each key has signed");
    println!("{} tokens of {} keys", world.checked.get(), signed.len());

    let (stolen, of_stolen) = signed.last().context("a key")?;
    let (_, before) = &signed[signed.len() - 2];
    world.is_good(of_stolen).await?;
    world.twin.operate(&["keys", "revoke", stolen]).await?;
    let (refused, lag) = of_stolen.refusal().await?;
    refused.is_problem(401, "INVALID_TOKEN");
    assert!(lag <= BOUND, "{lag:?}");
    assert!(!World::publishes(&world.twin.edge, JWKS, stolen).await?);
    let said = world
        .services
        .lock()
        .await
        .verify(&of_stolen.access)
        .await?;
    assert_eq!(said.cold, "ERR_JWKS_NO_MATCHING_KEY");

    // Nobody is signed out by it, and what other keys have signed is as good as before. The key in its
    // place was announced to nobody: who keeps a key set finds it when the library lets them.
    world.is_good(before).await?;
    let (sub, said) = world.ask(&of_stolen.refreshed().await?).await?;
    assert_ne!(said.kid, *stolen);
    assert_eq!(said.cold, sub);
    Ok(())
}
