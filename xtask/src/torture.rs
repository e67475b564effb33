//! `cargo xtask torture`: a proof that the ledger neither loses nor doubles anything, whatever
//! crashes and wherever a connection breaks.
//!
//! Clients move the credits of few users through two origins ([`clients`]), over a network that
//! cuts connections ([`proxy`]), while origins are killed and Postgres crashes ([`chaos`]). What
//! was answered says what must be in the ledger ([`model`]); at the end that is compared with
//! all that is there (`judge`).

mod api;
mod chaos;
mod clients;
mod judge;
mod ledger;
mod model;
mod proxy;
mod rig;
mod stories;

use std::{
    collections::BTreeMap,
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Result, ensure};
use clap::Args;
use fastrand::Rng;
use shared::credits::Credits;
use sqlx::{Connection, PgConnection};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};

use crate::{steps::say, tools, up};

use api::{Api, SHORT_HOLD};
use chaos::Strikes;
use clients::{CLIENTS, Client, Tally};
use judge::{Difference, Fault, judge};
use model::{Expected, Record};
use rig::{Rig, SIGNUP_BONUS};
use stories::PEOPLE;

/// How to torture.
#[derive(Args)]
pub struct Torture {
    /// How long
    // Long holds must outlast it.
    #[arg(long, default_value_t = 1_200, value_parser = clap::value_parser!(u64).range(20..=3_000))]
    seconds: u64,
    /// The plan of an earlier run, which printed it; a new one by default
    ///
    /// It decides what each client asks for, and when and where things are made to fail. How
    /// fast each of it happens it cannot decide, and so neither who is hit by what: the same seed
    /// repeats the plan, and not the run.
    #[arg(long)]
    seed: Option<u64>,
}

impl Torture {
    /// The form of it that is one test among others.
    pub const SHORT: Self = Self {
        seconds: 25,
        seed: None,
    };
}

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// So many differences are shown.
const SHOWN: usize = 50;

/// Tortures, judges, and fails with what differs.
pub async fn torture(options: Torture) -> Result<()> {
    let seed = match options.seed {
        Some(seed) => seed,
        None => getrandom::u64()?,
    };
    say(&format!(
        "torture --seconds {} --seed {seed}",
        options.seconds
    ));
    tools::install_node_modules().await?;
    tools::run(&mut tools::cargo(&["build", "--package", "origin"])).await?;
    // Postgres may run as another user, who has to walk in.
    let open = Permissions::from_mode(0o711);
    let mut data = tempfile::Builder::new();
    let data = data
        .prefix("tollgate-torture-")
        .permissions(open)
        .tempdir()?;
    let mut rng = Rng::with_seed(seed);
    let mut rig = Rig::prepare(data.path(), &mut rng).await?;
    let length = Duration::from_secs(options.seconds);
    let ended = tokio::select! {
        ended = run(&mut rig, &mut rng, length) => ended,
        told = up::told_to_stop() => told,
    };
    rig.stop().await;
    if ended.is_err() {
        say(&format!(
            "the logs and the data are in {}",
            data.keep().display()
        ));
    }
    say(&format!("seed {seed}"));
    ended
}

async fn run(rig: &mut Rig, rng: &mut Rng, length: Duration) -> Result<()> {
    rig.start().await?;
    let bonus = SIGNUP_BONUS.to_string().parse::<Credits>()?;
    rig.offer().await?;
    let api = Arc::new(Api::register(rig.bases(), rig.stripe(), PEOPLE + 1).await?);
    promote(rig.database_url(), api.admin_id()).await?;
    api.sign_in(PEOPLE).await?;

    let begun = Instant::now();
    let (tally, strikes) = (Arc::new(Tally::default()), Strikes::default());
    let client = |name| Client::new(name, api.clone(), tally.clone(), begun + length);
    let mut records = client("first".to_owned())
        .impoverish(rng.fork(), bonus)
        .await?;
    let mut clients: JoinSet<_> = (0..CLIENTS)
        .map(|number| client(number.to_string()).run(rng.fork(), begun + length))
        .collect();
    let cuts = rig.cuts();
    let tell = async {
        let mut ticks = interval(TELL_EVERY);
        loop {
            ticks.tick().await;
            tell_progress(begun.elapsed(), &tally, &strikes, cuts());
        }
    };
    let storm = async {
        rig.set_faulty(true);
        chaos::rage(rig, rng.fork(), length, &strikes).await?;
        rig.set_faulty(false);
        while let Some(asked) = clients.join_next().await {
            records.extend(asked??);
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = storm => ended?,
        () = tell => {}
    }
    tell_progress(begun.elapsed(), &tally, &strikes, cuts());

    let short_holds_end = Instant::now() + SHORT_HOLD;
    rig.settle().await?;
    sleep_until(short_holds_end).await;
    let mut differences = differences(&api, bonus, &records).await?;
    let left_open = rig.left_open()?;
    if left_open > 0 {
        differences.push(Difference {
            fault: Fault::Wrong,
            what: format!(
                "a transaction was left open {left_open} times, with others writing in it"
            ),
        });
    }
    tell_summary(&api, &records, &differences);
    say(rig.verify().await?.trim_end());
    ensure!(
        differences.is_empty(),
        "{} things differ",
        differences.len()
    );
    Ok(())
}

/// There is no call that makes an admin.
async fn promote(database_url: &str, id: &str) -> Result<()> {
    let mut database = PgConnection::connect(database_url).await?;
    sqlx::query("UPDATE auth.users SET role = 'admin' WHERE id = $1::uuid")
        .bind(id)
        .execute(&mut database)
        .await?;
    Ok(())
}

/// What differs, of all users, each with their name.
async fn differences(api: &Api, bonus: Credits, records: &[Record]) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for user in 0..=PEOPLE {
        let theirs: Vec<_> = records
            .iter()
            .filter(|record| record.operation.user == user)
            .collect();
        for mut difference in judge(bonus, &theirs, &api.ledger(user).await?) {
            difference.what.insert_str(0, &format!("user {user}: "));
            found.push(difference);
        }
    }
    let faults = api
        .heard()
        .into_iter()
        .filter(|(answer, _)| answer.starts_with("500"));
    found.extend(faults.map(|(answer, times)| Difference {
        fault: Fault::Wrong,
        what: format!("{answer} was answered {times} times"),
    }));
    Ok(found)
}

fn tell_progress(since: Duration, tally: &Tally, strikes: &Strikes, [client, database]: [u64; 2]) {
    let (asked, done) = (tally.asked.load(Relaxed), tally.done.load(Relaxed));
    let retried = tally.retried.load(Relaxed);
    let (kills, crashes) = (strikes.kills.load(Relaxed), strikes.crashes.load(Relaxed));
    say(&format!(
        "{:>5} s  {asked} operations, {done} acknowledged, {retried} retried; {kills} origins killed, \
         Postgres crashed {crashes} times, {client} + {database} connections cut",
        since.as_secs()
    ));
}

fn tell_summary(api: &Api, records: &[Record], differences: &[Difference]) {
    let mut kinds: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for record in records {
        let [asked, done, replays] = kinds.entry(record.operation.kind.name()).or_default();
        *asked += 1;
        *done += u64::from(record.done.is_some());
        *replays += u64::from(record.replays);
    }
    for (kind, [asked, done, replays]) in kinds {
        say(&format!(
            "{kind:<8} {asked} asked, {done} acknowledged, {replays} replays"
        ));
    }
    for (answer, times) in api.heard() {
        say(&format!("answered {answer}: {times}"));
    }
    let count = |is: fn(&Record) -> bool| records.iter().filter(|record| is(record)).count();
    say(&format!(
        "{} unclear and cleared, {} left open: there once or not at all",
        count(|record| record.unclear > 0 && record.expected() != Expected::AtMostOnce),
        count(|record| record.expected() == Expected::AtMostOnce),
    ));
    for Difference { fault, what } in differences.iter().take(SHOWN) {
        say(&format!("{fault:?}: {what}"));
    }
    let count = |fault| {
        differences
            .iter()
            .filter(|difference| difference.fault == fault)
            .count()
    };
    say(&format!(
        "lost {}, doubled {}, there uncalled {}, wrong {}, balances that differ {}",
        count(Fault::Lost),
        count(Fault::Doubled),
        count(Fault::Uncalled),
        count(Fault::Wrong),
        count(Fault::Balance),
    ));
}
