//! Whoever guesses passwords waits, and nobody else does.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Path},
    http::{Request, header},
    routing::get,
};
use futures_util::future::join_all;
use serde_json::json;
use sha1::{Digest, Sha1};
use sqlx::PgPool;
use tokio::net::TcpListener;

use crate::support::{Answer, Origin, PASSWORD, count};

const LOGIN: &str = "/api/v1/auth/login";
const REGISTER: &str = "/api/v1/auth/register";
const WRONG: &str = "wrong horse";
/// Of an account: five are free, and the sixth is what brings the first wait.
const UNTIL_A_WAIT: usize = 6;

/// Hashes of another service: bcrypt with a cost of 4, and PBKDF2 with many rounds.
/// Whose passwords they are counts for nothing, how long they take does: the slow one takes
/// several times as long as all else that a request does, on a machine that is busy too.
const FAST: &str = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
const SLOW: &str = "$pbkdf2-sha256$i=99999,l=32$c2l4dGVlbiBieXRlcyBvaw$ptC31WcrIu8vobeNmAXW9rpZ5E4T2srS8/KfngxDyeA";

/// Tries a password from an address, from a browser with this cookie.
async fn attempt(
    origin: &Origin,
    (email, password): (&str, &str),
    address: Option<&str>,
    cookie: Option<&str>,
) -> Answer {
    let mut request = Request::post(LOGIN).header(header::CONTENT_TYPE, "application/json");
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let body = json!({"email": email, "password": password}).to_string();
    let mut request = request.body(Body::from(body)).expect("a request");
    if let Some(address) = address {
        let peer = SocketAddr::new(address.parse().expect("an address"), 4_000);
        request.extensions_mut().insert(ConnectInfo(peer));
    }
    origin.send(request).await
}

async fn guess(origin: &Origin, email: &str) -> Answer {
    attempt(origin, (email, WRONG), None, None).await
}

/// As if all that was counted had been so long ago.
async fn later(db: &PgPool, secs: i32) {
    sqlx::query("UPDATE auth.failures SET at = at - make_interval(secs => $1)")
        .bind(secs)
        .execute(db)
        .await
        .expect("time passes");
}

/// As if all that was counted had been at this moment, however slow the machine is.
async fn just_now(db: &PgPool) {
    sqlx::query("UPDATE auth.failures SET at = clock_timestamp()")
        .execute(db)
        .await
        .expect("no time passes");
}

/// As many attempts as are compared of 30 at once when `free` bring no wait: one more, and one more
/// for each wait that ends meanwhile, which on a slow machine may be.
async fn compared_at_once<F: Future<Output = Answer>>(free: usize, attempt: impl Fn() -> F) {
    let begun = Instant::now();
    let answers = join_all((0..30).map(|_| attempt())).await;
    let compared = answers.iter().filter(|answer| answer.status == 401).count();
    let waited: Vec<u64> = (0..30).map(|wait| (1 << wait) - 1).collect();
    let over = waited.partition_point(|secs| *secs <= begun.elapsed().as_secs());
    assert!((1..=over).contains(&(compared - free)), "{compared}");
}

fn wait_secs(answer: &Answer) -> u64 {
    answer.is_problem(429, "RATE_LIMITED");
    let text = answer.headers["retry-after"].to_str().expect("text");
    text.parse().expect("seconds")
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_wait_doubles_with_each_failure_and_is_the_same_for_nobodys_address(db: PgPool) {
    let origin = Origin::start_with(&db, &["--limit-scale=1"]).await;
    origin.register("ada@example.org").await;
    for email in ["ada@example.org", "nobody@example.org"] {
        for _ in 0..UNTIL_A_WAIT {
            guess(&origin, email)
                .await
                .is_problem(401, "INVALID_CREDENTIALS");
        }
    }
    for expected in [1, 2, 4, 8, 16] {
        for email in ["ada@example.org", "nobody@example.org"] {
            just_now(&db).await;
            let refused = guess(&origin, email).await;
            assert_eq!(wait_secs(&refused), expected, "{email}");
            // The right password waits too, or an answer would tell that it is right.
            let refused = attempt(&origin, (email, PASSWORD), None, None).await;
            assert_eq!(wait_secs(&refused), expected, "{email}");
        }
        just_now(&db).await;
        later(&db, i32::try_from(expected).expect("small")).await;
        for email in ["ada@example.org", "nobody@example.org"] {
            guess(&origin, email)
                .await
                .is_problem(401, "INVALID_CREDENTIALS");
        }
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_waits_longer_than_half_an_hour_and_failures_are_forgotten(db: PgPool) {
    let origin = Origin::start_with(&db, &["--limit-scale=1"]).await;
    origin.register("ada@example.org").await;
    for _ in 0..UNTIL_A_WAIT {
        guess(&origin, "ada@example.org").await;
    }
    sqlx::query("UPDATE auth.failures SET level = 1e9, at = now()")
        .execute(&db)
        .await
        .expect("very many");
    assert_eq!(wait_secs(&guess(&origin, "ada@example.org").await), 1_800);

    sqlx::query("UPDATE auth.failures SET level = 10, at = now()")
        .execute(&db)
        .await
        .expect("some");
    later(&db, 10 * 30 * 60).await;
    for _ in 0..UNTIL_A_WAIT {
        guess(&origin, "ada@example.org")
            .await
            .is_problem(401, "INVALID_CREDENTIALS");
    }
    just_now(&db).await;
    assert_eq!(wait_secs(&guess(&origin, "ada@example.org").await), 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn attempts_at_once_are_no_way_around(db: PgPool) {
    let origin = Origin::start_with(&db, &["--limit-scale=1"]).await;
    origin.register("ada@example.org").await;
    compared_at_once(UNTIL_A_WAIT - 1, || guess(&origin, "ada@example.org")).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_owner_signs_in_from_a_known_device_whoever_guesses(db: PgPool) {
    let origin = Origin::start_with(&db, &["--limit-scale=1"]).await;
    origin.register("ada@example.org").await;
    origin.register("eve@example.org").await;
    let ada = ("ada@example.org", PASSWORD);
    let cookie = |answer: &Answer| {
        let cookie = answer.headers["set-cookie"].to_str().expect("text");
        cookie.split(';').next().unwrap_or_default().to_owned()
    };
    let adas = cookie(&attempt(&origin, ada, None, None).await);
    let eves = cookie(&attempt(&origin, ("eve@example.org", PASSWORD), None, None).await);
    for number in 0..200 {
        // From everywhere, Ada's own network included.
        let address = format!("192.0.2.{number}");
        attempt(&origin, ("ada@example.org", WRONG), Some(&address), None).await;
    }
    let from = Some("192.0.2.1");
    assert_eq!(attempt(&origin, ada, from, Some(&adas)).await.status, 200);
    for unknown in [None, Some(eves.as_str()), Some("tollgate=made-up")] {
        just_now(&db).await;
        wait_secs(&attempt(&origin, ada, from, unknown).await);
    }
    // A stolen cookie is no way around: its device has a count of its own.
    let ada_wrong = ("ada@example.org", WRONG);
    compared_at_once(10, || attempt(&origin, ada_wrong, from, Some(&adas))).await;
    // Nor is a session that has ended.
    sqlx::query("UPDATE auth.sessions SET revoked_at = now()")
        .execute(&db)
        .await
        .expect("an end");
    just_now(&db).await;
    wait_secs(&attempt(&origin, ada, from, Some(&adas)).await);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_tries_many_accounts_waits_by_address_and_by_network(db: PgPool) {
    let origin = Origin::start_with(&db, &["--limit-scale=1"]).await;
    let stuff = async |address: &str, number: usize| {
        let email = format!("p{number}@example.org");
        attempt(&origin, (&email, WRONG), Some(address), None).await
    };
    for number in 0..31 {
        assert_eq!(
            stuff("2001:db8:1:1::1", number).await.status,
            401,
            "{number}"
        );
    }
    just_now(&db).await;
    // Another address of the same host, which has 2⁶⁴ of them.
    wait_secs(&stuff("2001:db8:1:1::2", 31).await);
    assert_eq!(stuff("2001:db8:1:2::1", 31).await.status, 401);

    // The rest of the network: 32 so far.
    for number in 32..151 {
        let address = format!("2001:db8:1:{number:x}::1");
        assert_eq!(stuff(&address, number).await.status, 401, "{number}");
    }
    just_now(&db).await;
    wait_secs(&stuff("2001:db8:1:ffff::1", 151).await);
    assert_eq!(stuff("2001:db8:2:1::1", 151).await.status, 401);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_was_right_or_was_never_compared_counts_for_nothing(db: PgPool) {
    let origin = Origin::start_with(
        &db,
        &[
            "--limit-scale=1",
            "--password-workers=1",
            "--password-queue=0",
            "--argon2-memory-kib=16384",
        ],
    )
    .await;
    origin.register("ada@example.org").await;
    let right = || {
        attempt(
            &origin,
            ("ada@example.org", PASSWORD),
            Some("192.0.2.7"),
            None,
        )
    };
    let mut full = 0;
    // As many as the queue takes of those that come at once, and later the others.
    for _ in 0..10 {
        let answers = join_all((0..UNTIL_A_WAIT).map(|_| right())).await;
        full += answers.iter().filter(|answer| answer.status == 503).count();
        assert!(
            answers
                .iter()
                .all(|answer| [200, 503].contains(&answer.status.as_u16()))
        );
    }
    assert!(full > 0, "the queue was never full");
    let counted = "SELECT count(*) FROM auth.failures WHERE level > 0.01";
    assert_eq!(count(&db, counted).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_counts_name_nobody(db: PgPool) {
    let origin = Origin::start_with(&db, &["--limit-scale=1"]).await;
    attempt(&origin, ("ada@example.org", WRONG), Some("192.0.2.7"), None).await;
    let named = "SELECT count(*) FROM auth.failures f
                 WHERE encode(key, 'escape') LIKE '%ada%' OR encode(key, 'escape') LIKE '%192.0%' OR length(key) <> 16";
    assert_eq!(count(&db, named).await, 0);
    assert_eq!(count(&db, "SELECT count(*) FROM auth.failures").await, 3);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_password_that_everybody_tries_is_refused(db: PgPool) {
    let origin = Origin::start_with(&db, &["--limit-scale=1"]).await;
    for common in ["password", "PASSWORD", "iloveyou"] {
        let body = json!({"email": "ada@example.org", "password": common});
        let refused = origin.post(REGISTER, None, &body).await;
        refused.is_problem(422, "PASSWORD_TOO_COMMON");
    }
    assert_eq!(count(&db, "SELECT count(*) FROM auth.users").await, 0);
}

/// The service learns five digits of a hash. When it is away, nobody's sign-up waits for it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_password_of_a_breach_is_refused_and_nobody_learns_it(db: PgPool) {
    let digest = hex::encode_upper(Sha1::digest("breached horse"));
    let padding = hex::encode_upper(Sha1::digest("padding horse"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (seen, suffixes) = (
        asked.clone(),
        [digest[5..].to_owned(), padding[5..].to_owned()],
    );
    let range = async move |Path(prefix): Path<String>| {
        seen.lock().expect("a list").push(prefix);
        format!("{:0>35}:3\r\n{}:7\r\n{}:0", "1", suffixes[0], suffixes[1])
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = Router::new().route("/range/{prefix}", get(range));
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let flag = format!("--breach-api-base=http://{address}");
    let origin = Origin::start_with(&db, &[&flag]).await;
    let register = async |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        origin.post(REGISTER, None, &body).await
    };
    register("ada@example.org", "breached horse")
        .await
        .is_problem(422, "PASSWORD_TOO_COMMON");
    assert_eq!(
        register("ada@example.org", "padding horse").await.status,
        201
    );
    assert_eq!(register("bob@example.org", PASSWORD).await.status, 201);
    for prefix in asked.lock().expect("a list").iter() {
        assert_eq!(prefix.len(), 5);
    }
    assert_eq!(asked.lock().expect("a list").len(), 3);

    serving.abort();
    let _ = serving.await;
    assert_eq!(
        register("eve@example.org", "breached horse").await.status,
        201
    );
}

/// The median of several each, in turns: an address takes the same time to refuse whether it is known
/// or not, and whoever made its hash.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn every_refusal_takes_the_same_time_whose_hash_it_is(db: PgPool) {
    let origin = Origin::start_with(&db, &["--argon2-memory-kib=4096", "--argon2-passes=2"]).await;
    let emails = [
        "nobody@example.org",
        "ada@example.org",
        "fast@example.org",
        "slow@example.org",
        "linked@example.org",
    ];
    for email in &emails[1..] {
        origin.register(email).await;
    }
    for (email, phc) in [("fast@example.org", FAST), ("slow@example.org", SLOW)] {
        sqlx::query("UPDATE auth.passwords SET phc = $2 WHERE user_id = (SELECT id FROM auth.users WHERE email = $1)")
            .bind(email)
            .bind(phc)
            .execute(&db)
            .await
            .expect("a hash of another service");
    }
    sqlx::query("DELETE FROM auth.passwords WHERE user_id = (SELECT id FROM auth.users WHERE email = 'linked@example.org')")
        .execute(&db)
        .await
        .expect("no password");
    // From the first one on, all are as slow.
    guess(&origin, "slow@example.org").await;
    let mut taken = emails.map(|_| Vec::new());
    for _ in 0..9 {
        for (taken, email) in taken.iter_mut().zip(emails) {
            sqlx::query("DELETE FROM auth.failures")
                .execute(&db)
                .await
                .expect("no wait");
            let begun = Instant::now();
            guess(&origin, email)
                .await
                .is_problem(401, "INVALID_CREDENTIALS");
            taken.push(begun.elapsed());
        }
    }
    let medians: [Duration; 5] = taken.map(|mut taken| {
        taken.sort_unstable();
        taken[taken.len() / 2]
    });
    for (median, email) in medians.iter().zip(emails) {
        let ratio = median.as_secs_f64() / medians[0].as_secs_f64();
        assert!((0.67..1.5).contains(&ratio), "{email}: {medians:?}");
    }
}
