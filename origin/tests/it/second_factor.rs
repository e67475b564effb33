//! Enrolling a second factor, changing it, removing it, and what of it is kept.

use std::{
    env, io,
    process::Command,
    sync::{Arc, Mutex},
};

use axum::http::{Method, StatusCode};
use futures_util::future::join;
use origin::rim;
use serde_json::{Value, json};
use sqlx::PgPool;
use totp_rs::{Builder, Secret};

use crate::support::{Answer, Origin, PASSWORD, Person, count, text, waiting};

pub const LOGIN: &str = "/api/v1/auth/login";
pub const TOTP: &str = "/api/v1/auth/mfa/totp";
const CONFIRM: &str = "/api/v1/auth/mfa/totp/confirm";
const RECOVERY_CODES: &str = "/api/v1/auth/mfa/recovery-codes";

/// Somebody with a second factor.
pub struct Guarded {
    pub person: Person,
    pub app: Authenticator,
    pub codes: Vec<String>,
}

/// An authenticator app.
pub struct Authenticator(totp_rs::Totp);

impl Authenticator {
    pub fn new(secret: &str) -> Self {
        let secret = Secret::try_from_base32(secret).expect("base32");
        Self(Builder::new().with_secret(secret).build().expect("a rule"))
    }

    /// The code of so many steps from now.
    pub fn code(&self, steps: i64) -> String {
        let secs = rim::now().timestamp() + 30 * steps;
        self.0
            .generate(secs.try_into().expect("a time"))
            .to_string()
    }

    /// A code that stays good for at least a step, wherever in a step we are.
    pub fn good(&self) -> String {
        self.code(1)
    }

    /// A code that is not good in any step around.
    pub fn wrong(&self) -> String {
        let near: Vec<String> = (-3..=3).map(|steps| self.code(steps)).collect();
        let all = (0..).map(|code| format!("{code:06}"));
        all.into_iter()
            .find(|code| !near.contains(code))
            .expect("one of eight")
    }
}

/// As if no code had been used for long.
pub async fn time_passes(db: &PgPool) {
    change(db, "UPDATE auth.totp SET last_step = 0").await;
}

pub async fn change(db: &PgPool, statement: &'static str) {
    sqlx::query(statement).execute(db).await.expect("a change");
}

async fn begin(origin: &Origin, person: &Person) -> Value {
    let answer = origin.post(TOTP, Some(&person.access), &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.body
}

async fn confirm(origin: &Origin, person: &Person, code: &str) -> Answer {
    origin
        .post(CONFIRM, Some(&person.access), &json!({"code": code}))
        .await
}

async fn remove(origin: &Origin, token: &str, code: &str) -> Answer {
    origin
        .call(Method::DELETE, TOTP, token, &json!({"code": code}))
        .await
}

fn codes(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let codes = answer.body["recoveryCodes"].as_array().expect("codes");
    codes.iter().map(text).collect()
}

/// Enrols an app, just now.
pub async fn enrol(origin: &Origin, person: &Person) -> (Authenticator, Vec<String>) {
    let app = Authenticator::new(&text(&begin(origin, person).await["secret"]));
    let codes = codes(&confirm(origin, person, &app.good()).await);
    (app, codes)
}

/// Joins and enrols, long ago.
pub async fn join_guarded(origin: &Origin, db: &PgPool, email: &str) -> Guarded {
    let person = origin.join(email).await;
    let (app, codes) = enrol(origin, &person).await;
    time_passes(db).await;
    Guarded { person, app, codes }
}

/// The first step of a sign-in; gives the token of the second.
pub async fn first_step(origin: &Origin, email: &str) -> String {
    let body = json!({"email": email, "password": PASSWORD});
    let answer = origin.post(LOGIN, None, &body).await;
    assert_eq!(answer.body["mfaRequired"], true, "{answer:?}");
    text(&answer.body["mfaToken"])
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn enrolling_shows_one_secret_in_three_ways_and_then_recovery_codes(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let shown = begin(&origin, &ada).await;
    let secret = text(&shown["secret"]);
    assert_eq!(secret.len(), 32);
    assert_eq!(
        shown["otpauthUri"],
        format!("otpauth://totp/127.0.0.1:ada%40example.org?secret={secret}&issuer=127.0.0.1")
    );
    let picture = text(&shown["qrCode"]);
    assert!(picture.starts_with("data:image/svg+xml;base64,"));

    let app = Authenticator::new(&secret);
    let codes = codes(&confirm(&origin, &ada, &app.good()).await);
    assert_eq!(codes.len(), 10);
    assert!(codes.iter().all(|code| code.len() == 19), "{codes:?}");
    confirm(&origin, &ada, &app.good())
        .await
        .is_problem(404, "NOT_FOUND");
    origin
        .post(TOTP, Some(&ada.access), &json!({}))
        .await
        .is_problem(409, "CONFLICT");
    let events = "SELECT string_agg(type, ' ' ORDER BY id) FROM auth.security_events WHERE outcome = 'success'";
    let events: String = sqlx::query_scalar(events)
        .fetch_one(&db)
        .await
        .expect("events");
    assert_eq!(
        events,
        "registered sign_in second_factor_begun second_factor_enrolled"
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn only_a_code_of_the_latest_secret_confirms_it(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    confirm(&origin, &ada, "123456")
        .await
        .is_problem(404, "NOT_FOUND");
    let first = Authenticator::new(&text(&begin(&origin, &ada).await["secret"]));
    let latest = Authenticator::new(&text(&begin(&origin, &ada).await["secret"]));
    for code in [
        first.good(),
        latest.wrong(),
        "aaaa-bbbb-cccc-dddd".to_owned(),
    ] {
        let refused = confirm(&origin, &ada, &code).await;
        refused.is_problem(400, "VALIDATION_FAILED");
        assert_eq!(refused.pointers(), ["/code"]);
    }
    origin.login("ada@example.org").await;
    codes(&confirm(&origin, &ada, &latest.good()).await);
}

/// It needed a recent sign-in, and does not wait for somebody without one.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn what_was_begun_must_be_confirmed_within_ten_minutes(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let app = Authenticator::new(&text(&begin(&origin, &ada).await["secret"]));
    change(
        &db,
        "UPDATE auth.totp SET created_at = created_at - interval '10 minutes'",
    )
    .await;
    confirm(&origin, &ada, &app.good())
        .await
        .is_problem(404, "NOT_FOUND");
    let app = Authenticator::new(&text(&begin(&origin, &ada).await["secret"]));
    codes(&confirm(&origin, &ada, &app.good()).await);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn removing_needs_a_code_and_signs_out_the_other_sessions(db: PgPool) {
    let origin = Origin::start(&db).await;
    let Guarded { person, app, .. } = join_guarded(&origin, &db, "ada@example.org").await;
    let eve = origin.join("eve@example.org").await;
    let half = first_step(&origin, "ada@example.org").await;
    let phone = finish(
        &origin,
        &first_step(&origin, "ada@example.org").await,
        &app.good(),
    )
    .await;
    let phone = text(&phone.body["accessToken"]);
    time_passes(&db).await;

    let refused = remove(&origin, &phone, &app.wrong()).await;
    refused.is_problem(400, "VALIDATION_FAILED");
    assert_eq!(refused.pointers(), ["/code"]);
    assert_eq!(remove(&origin, &phone, &app.good()).await.status, 200);

    let session = "/api/v1/auth/session";
    origin
        .get(session, &person.access)
        .await
        .is_problem(401, "SESSION_REVOKED");
    assert_eq!(origin.get(session, &phone).await.status, 200);
    assert_eq!(origin.get(session, &eve.access).await.status, 200);
    finish(&origin, &half, &app.good())
        .await
        .is_problem(401, "INVALID_MFA_TOKEN");
    remove(&origin, &phone, &app.good())
        .await
        .is_problem(404, "NOT_FOUND");
    origin.login("ada@example.org").await;
    let left =
        "SELECT (SELECT count(*) FROM auth.totp) + (SELECT count(*) FROM auth.recovery_codes)";
    assert_eq!(count(&db, left).await, 0);
    let removals = "SELECT count(*) FROM auth.security_events WHERE type = 'second_factor_removed'";
    assert_eq!(count(&db, removals).await, 1);
}

/// The second step of a sign-in.
pub async fn finish(origin: &Origin, mfa_token: &str, code: &str) -> Answer {
    let body = json!({"mfaToken": mfa_token, "code": code});
    origin.post("/api/v1/auth/login/mfa", None, &body).await
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn new_recovery_codes_void_the_old_ones(db: PgPool) {
    let origin = Origin::start(&db).await;
    let eve = join_guarded(&origin, &db, "eve@example.org").await;
    let ada = join_guarded(&origin, &db, "ada@example.org").await;
    let token = Some(ada.person.access.as_str());
    let fresh = codes(&origin.post(RECOVERY_CODES, token, &json!({})).await);
    let half = first_step(&origin, "ada@example.org").await;
    for void in [&ada.codes[0], &eve.codes[0]] {
        finish(&origin, &half, void)
            .await
            .is_problem(401, "INVALID_MFA_CODE");
    }
    assert_eq!(finish(&origin, &half, &fresh[9]).await.status, 200);
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.recovery_codes").await,
        19
    );

    let bob = origin.join("bob@example.org").await;
    origin
        .post(RECOVERY_CODES, Some(&bob.access), &json!({}))
        .await
        .is_problem(404, "NOT_FOUND");
}

/// Who deletes and then inserts without the factor's row would leave twenty.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn recovery_codes_that_are_made_at_once_are_ten_in_the_end(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, "ada@example.org").await;
    let token = Some(ada.person.access.as_str());
    let body = json!({});
    let make = || origin.post(RECOVERY_CODES, token, &body);
    let mut holder = db.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM auth.recovery_codes FOR UPDATE")
        .execute(&mut *holder)
        .await
        .expect("a lock");
    let release = async {
        waiting(&db, 2).await;
        holder.commit().await.expect("released");
    };
    let ((first, second), ()) = join(join(make(), make()), release).await;
    assert_ne!(codes(&first), codes(&second));
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.recovery_codes").await,
        10
    );
}

/// What a log line is written to.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether anybody wants a line is remembered for the whole process, by the first thread that comes
/// by, and other tests' threads want none. So this one has a process of its own.
#[test]
fn nothing_of_it_is_in_the_log_or_in_the_database_as_it_is() {
    let alone = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "second_factor::log_and_database", "--ignored"])
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&alone.stdout);
    assert!(
        alone.status.success() && told.contains("1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&alone.stderr)
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
#[ignore = "is run by the one above, in a process of its own"]
async fn log_and_database(db: PgPool) {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(log).expect("the only one");
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let secret = text(&begin(&origin, &ada).await["secret"]);
    let app = Authenticator::new(&secret);
    let shown = app.good();
    let recovery = codes(&confirm(&origin, &ada, &shown).await);
    let half = first_step(&origin, "ada@example.org").await;
    finish(&origin, &half, &app.wrong()).await;
    finish(&origin, &half, &recovery[0]).await;
    let left = first_step(&origin, "ada@example.org").await;

    let bytes = Secret::try_from_base32(&secret).expect("base32");
    let mut secrets = vec![hex::encode(bytes.as_bytes()), secret, half, left];
    for code in recovery {
        let letters = code.replace('-', "");
        secrets.extend([hex::encode(letters.as_bytes()), code, letters]);
    }
    let log = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
    assert!(
        log.contains("second_factor") || log.contains("mfa"),
        "{log}"
    );
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('auth', 'credits')",
    )
    .fetch_all(&db)
    .await
    .expect("tables");
    let mut stored = String::new();
    for table in tables {
        let rows = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t");
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(rows))
            .fetch_one(&db)
            .await
            .expect("rows");
        stored += &rows;
    }
    assert!(stored.contains(&ada.id));
    for secret in secrets {
        let secret = secret.to_lowercase();
        assert!(!log.to_lowercase().contains(&secret), "{secret} in {log}");
        assert!(
            !stored.to_lowercase().contains(&secret),
            "{secret} in {stored}"
        );
    }
    assert!(!log.contains(&format!(" {shown}")) && !log.contains(&format!("\"{shown}\"")));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn five_wrong_codes_end_an_enrolment(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    for wrong in [4, 5] {
        // One that is begun anew has its own five.
        let app = Authenticator::new(&text(&begin(&origin, &ada).await["secret"]));
        for _ in 0..wrong {
            let answer = confirm(&origin, &ada, &app.wrong()).await;
            answer.is_problem(400, "VALIDATION_FAILED");
        }
        if wrong == 5 {
            confirm(&origin, &ada, &app.good())
                .await
                .is_problem(404, "NOT_FOUND");
        }
    }
    let (app, _) = enrol(&origin, &ada).await;
    time_passes(&db).await;
    assert_eq!(
        remove(&origin, &ada.access, &app.good()).await.status,
        StatusCode::OK
    );
}
