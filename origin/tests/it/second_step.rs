//! Signing in with a second factor: what a code and the token of the second step are worth.

use axum::http::StatusCode;
use chrono::DateTime;
use futures_util::future::join;
use origin::rim;
use serde_json::json;
use sqlx::PgPool;

use crate::{
    second_factor::{Guarded, LOGIN, change, enrol, finish, first_step, join_guarded, time_passes},
    support::{Answer, Origin, PASSWORD, count, text, waiting},
};

const ADA: &str = "ada@example.org";

#[track_caller]
fn is_in(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    text(&answer.body["accessToken"])
}

async fn payload(origin: &Origin, token: &str) -> serde_json::Value {
    let answer = origin
        .post("/api/v1/auth/validate", None, &json!({"token": token}))
        .await;
    answer.body["payload"].clone()
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn signing_in_takes_both_steps_and_says_so(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    let body = json!({"email": ADA, "password": PASSWORD, "rememberMe": true,
                      "deviceId": "d1", "deviceName": "Ada's phone"});
    let asked = origin.post(LOGIN, None, &body).await;
    assert_eq!(asked.status, StatusCode::OK);
    let mfa_token = text(&asked.body["mfaToken"]);
    assert_eq!(
        asked.body,
        json!({"mfaRequired": true, "mfaToken": mfa_token, "methods": ["totp", "recovery"]})
    );
    assert!(!asked.headers.contains_key("set-cookie"));
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 1);

    // The first step was a while ago.
    for statement in [
        "UPDATE auth.passwords SET changed_at = changed_at - interval '4 minutes'",
        "UPDATE auth.half_sign_ins SET created_at = created_at - interval '4 minutes'",
    ] {
        change(&db, statement).await;
    }
    let before = rim::now().timestamp();
    let answer = finish(&origin, &mfa_token, &ada.app.good()).await;
    let token = is_in(&answer);
    assert_eq!(answer.body["user"]["id"], ada.person.id);
    assert!(answer.headers.contains_key("set-cookie"));
    let claims = payload(&origin, &token).await;
    assert_eq!(claims["amr"], json!(["pwd", "otp", "mfa"]));
    assert!(claims["auth_time"].as_i64() >= Some(before), "{claims}");

    let sessions = origin.get("/api/v1/auth/sessions", &token).await.body;
    let sessions = sessions.as_array().expect("a list");
    let session = sessions.iter().find(|session| session["current"] == true);
    let session = session.expect("this one");
    assert_eq!(
        (&session["deviceId"], &session["deviceName"]),
        (&json!("d1"), &json!("Ada's phone"))
    );
    let ends = DateTime::parse_from_rfc3339(&text(&session["expiresAt"])).expect("a time");
    assert!((ends.to_utc() - rim::now()).num_days() >= 29);
    let refreshed = origin.refresh(&text(&answer.body["refreshToken"])).await;
    let claims = payload(&origin, &is_in(&refreshed)).await;
    assert_eq!(claims["amr"], json!(["pwd", "otp", "mfa"]));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_has_no_second_factor_is_not_asked(db: PgPool) {
    let origin = Origin::start(&db).await;
    join_guarded(&origin, &db, ADA).await;
    let eve = origin.join("eve@example.org").await;
    let totp = "/api/v1/auth/mfa/totp";
    let begun = origin.post(totp, Some(&eve.access), &json!({})).await;
    assert_eq!(begun.status, StatusCode::OK);
    let eve = origin.login("eve@example.org").await;
    let claims = payload(&origin, &eve.access).await;
    assert_eq!(claims["amr"], json!(["pwd"]));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_code_is_good_once(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    let [first, second] = [
        first_step(&origin, ADA).await,
        first_step(&origin, ADA).await,
    ];
    let code = ada.app.good();
    is_in(&finish(&origin, &first, &code).await);
    // Neither it nor those of the steps before it.
    for code in [&code, &ada.app.code(0), &ada.app.code(-1)] {
        finish(&origin, &second, code)
            .await
            .is_problem(401, "INVALID_MFA_CODE");
    }
    time_passes(&db).await;
    is_in(&finish(&origin, &second, &ada.app.good()).await);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_code_that_enrolled_does_not_sign_in(db: PgPool) {
    let origin = Origin::start(&db).await;
    let (app, _) = enrol(&origin, &origin.join(ADA).await).await;
    let used = count(&db, "SELECT last_step FROM auth.totp").await;
    let half = first_step(&origin, ADA).await;
    finish(
        &origin,
        &half,
        &app.code(used - rim::now().timestamp() / 30),
    )
    .await
    .is_problem(401, "INVALID_MFA_CODE");
}

/// Both wait for the factor's row, and the first of them uses the code up.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn of_two_uses_of_a_code_at_once_one_wins(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    let [first, second] = [
        first_step(&origin, ADA).await,
        first_step(&origin, ADA).await,
    ];
    let code = ada.app.good();
    let [one, other] = at_once(&db, &origin, [(&first, &code), (&second, &code)]).await;
    let (won, lost) = if one.status == StatusCode::OK {
        (one, other)
    } else {
        (other, one)
    };
    is_in(&won);
    lost.is_problem(401, "INVALID_MFA_CODE");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn of_two_uses_of_a_token_at_once_one_wins_and_the_other_costs_no_code(db: PgPool) {
    let origin = Origin::start(&db).await;
    let Guarded { codes, .. } = join_guarded(&origin, &db, ADA).await;
    let half = first_step(&origin, ADA).await;
    let uses = [(half.as_str(), codes[0].as_str()), (&half, &codes[1])];
    let [one, other] = at_once(&db, &origin, uses).await;
    let (won, lost) = if one.status == StatusCode::OK {
        (one, other)
    } else {
        (other, one)
    };
    is_in(&won);
    lost.is_problem(401, "INVALID_MFA_TOKEN");
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.recovery_codes").await,
        9
    );
    assert_eq!(count(&db, "SELECT count(*) FROM auth.sessions").await, 2);
}

/// Two second steps that are both at the factor's row before either may have it.
async fn at_once(db: &PgPool, origin: &Origin, uses: [(&str, &str); 2]) -> [Answer; 2] {
    let mut holder = db.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM auth.totp FOR UPDATE")
        .execute(&mut *holder)
        .await
        .expect("a lock");
    let [(half, code), (other_half, other_code)] = uses;
    let both = join(
        finish(origin, half, code),
        finish(origin, other_half, other_code),
    );
    let release = async {
        waiting(db, 2).await;
        holder.commit().await.expect("released");
    };
    let ((one, other), ()) = join(both, release).await;
    [one, other]
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_code_passes_one_step_late_and_not_two(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    let half = first_step(&origin, ADA).await;
    finish(&origin, &half, &ada.app.code(-2))
        .await
        .is_problem(401, "INVALID_MFA_CODE");
    let step = || rim::now().timestamp() / 30;
    loop {
        let began = step();
        let answer = finish(&origin, &half, &ada.app.code(-1)).await;
        if answer.status == StatusCode::OK {
            break;
        }
        assert_ne!(step(), began, "unless a step ended meanwhile: {answer:?}");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn each_recovery_code_signs_in_once_however_it_is_written(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    let half = first_step(&origin, ADA).await;
    let code = &ada.codes[0];
    let last = if code.ends_with('a') { "b" } else { "a" };
    let mangled = format!("{}{last}", &code[..code.len() - 1]);
    finish(&origin, &half, &mangled)
        .await
        .is_problem(401, "INVALID_MFA_CODE");
    for no_code in [&code[..18], &code.replace('-', "_"), "", "12345", "1234567"] {
        let refused = finish(&origin, &half, no_code).await;
        refused.is_problem(400, "VALIDATION_FAILED");
        assert_eq!(refused.pointers(), ["/code"], "{no_code}");
    }
    let token = is_in(&finish(&origin, &half, code).await);
    assert_eq!(payload(&origin, &token).await["amr"], json!(["pwd", "mfa"]));
    let half = first_step(&origin, ADA).await;
    finish(&origin, &half, code)
        .await
        .is_problem(401, "INVALID_MFA_CODE");
    let loud = ada.codes[1].to_uppercase().replace('-', " ");
    is_in(&finish(&origin, &half, &loud).await);
    let used = "SELECT count(*) FROM auth.security_events WHERE type = 'recovery_code_used'";
    assert_eq!(count(&db, used).await, 2);
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.recovery_codes").await,
        8
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_token_of_a_second_step_is_for_one_use_and_one_person(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    let eve = join_guarded(&origin, &db, "eve@example.org").await;
    let half = first_step(&origin, ADA).await;
    for code in [&eve.app.good(), &eve.codes[0]] {
        finish(&origin, &half, code)
            .await
            .is_problem(401, "INVALID_MFA_CODE");
    }
    is_in(&finish(&origin, &half, &ada.codes[0]).await);
    for token in [half.as_str(), "", "made-up", &ada.person.access] {
        finish(&origin, token, &ada.codes[1])
            .await
            .is_problem(401, "INVALID_MFA_TOKEN");
    }
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.recovery_codes").await,
        19
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_token_of_a_second_step_ends_with_what_it_stands_on(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    for (what, end) in [
        (
            "five minutes",
            "UPDATE auth.half_sign_ins SET expires_at = expires_at - interval '5 minutes'",
        ),
        (
            "the password",
            "UPDATE auth.passwords SET changed_at = clock_timestamp()",
        ),
        ("the account", "UPDATE auth.users SET status = 'banned'"),
    ] {
        let half = first_step(&origin, ADA).await;
        change(&db, end).await;
        let refused = finish(&origin, &half, &ada.codes[0]).await;
        assert_eq!(refused.body["code"], "INVALID_MFA_TOKEN", "{what}");
        change(&db, "UPDATE auth.users SET status = 'active'").await;
    }
    for path in [
        "/api/v1/auth/logout-all",
        "/api/v1/auth/sessions/revoke-others",
    ] {
        let half = first_step(&origin, ADA).await;
        let other = is_in(&finish(&origin, &first_step(&origin, ADA).await, &ada.app.good()).await);
        time_passes(&db).await;
        let ended = origin.post(path, Some(&other), &json!({})).await;
        assert_eq!(ended.status, StatusCode::OK, "{path}");
        finish(&origin, &half, &ada.codes[0])
            .await
            .is_problem(401, "INVALID_MFA_TOKEN");
    }
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.recovery_codes").await,
        10
    );
}

/// A new hash of the same password is no new password.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn hashing_a_password_again_does_not_end_the_sign_in_that_does_it(db: PgPool) {
    let ada = join_guarded(&Origin::start(&db).await, &db, ADA).await;
    let stronger = Origin::start_with(&db, &["--argon2-memory-kib=128"]).await;
    let half = first_step(&stronger, ADA).await;
    let rehashed = "SELECT count(*) FROM auth.passwords WHERE phc LIKE '%m=128,%'";
    assert_eq!(count(&db, rehashed).await, 1);
    is_in(&finish(&stronger, &half, &ada.app.good()).await);
}

/// The second step ends first, so that its session is one of those that end.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn signing_out_everywhere_overtakes_no_second_step(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    let half = first_step(&origin, ADA).await;
    let mut holder = db.begin().await.expect("a transaction");
    sqlx::query("LOCK auth.sessions IN SHARE MODE")
        .execute(&mut *holder)
        .await
        .expect("a lock");
    let step = finish(&origin, &half, &ada.codes[0]);
    let end = async {
        waiting(&db, 1).await;
        origin
            .post(
                "/api/v1/auth/logout-all",
                Some(&ada.person.access),
                &json!({}),
            )
            .await
    };
    let release = async {
        waiting(&db, 2).await;
        holder.commit().await.expect("released");
    };
    let ((answer, _), ()) = join(join(step, end), release).await;
    is_in(&answer);
    let live = "SELECT count(*) FROM auth.sessions WHERE revoked_at IS NULL";
    assert_eq!(count(&db, live).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn wrong_codes_are_counted_until_a_right_code_and_not_a_right_password(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    let wrong = ada.app.wrong();
    for _ in 0..5 {
        // A right password each time.
        let half = first_step(&origin, ADA).await;
        finish(&origin, &half, &wrong)
            .await
            .is_problem(401, "INVALID_MFA_CODE");
    }
    let failures = "SELECT count(*) FROM auth.security_events WHERE type = 'second_factor' AND outcome = 'failure'";
    assert_eq!(count(&db, failures).await, 5);

    let half = first_step(&origin, ADA).await;
    let never = "aaaa-bbbb-cccc-dddd".to_owned();
    for code in [&ada.app.good(), &wrong, &never] {
        let refused = finish(&origin, &half, code).await;
        refused.is_problem(429, "RATE_LIMITED");
        let wait: u32 = refused.headers["retry-after"]
            .to_str()
            .expect("text")
            .parse()
            .expect("seconds");
        assert!((50..=60).contains(&wait), "{wait}");
    }
    assert_eq!(
        count(&db, "SELECT failures::bigint FROM auth.totp").await,
        5
    );

    pause_ends(&db).await;
    finish(&origin, &half, &wrong)
        .await
        .is_problem(401, "INVALID_MFA_CODE");
    let pause =
        "SELECT round(extract(epoch FROM refused_until - now()) / 60)::bigint FROM auth.totp";
    assert_eq!(count(&db, pause).await, 2);
    pause_ends(&db).await;
    is_in(&finish(&origin, &half, &ada.app.good()).await);
    assert_eq!(
        count(&db, "SELECT failures::bigint FROM auth.totp").await,
        0
    );
}

/// Nobody guesses 80 bits: whoever knows the password cannot keep the owner out.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_recovery_code_passes_in_a_pause_and_ends_it(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    let half = first_step(&origin, ADA).await;
    for _ in 0..5 {
        finish(&origin, &half, &ada.app.wrong()).await;
    }
    finish(&origin, &half, &ada.app.good())
        .await
        .is_problem(429, "RATE_LIMITED");
    is_in(&finish(&origin, &half, &ada.codes[0]).await);
    let half = first_step(&origin, ADA).await;
    is_in(&finish(&origin, &half, &ada.app.good()).await);
}

/// Guesses that come at once are judged one after the other.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn of_many_wrong_codes_at_once_five_are_looked_at(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = join_guarded(&origin, &db, ADA).await;
    let half = first_step(&origin, ADA).await;
    let wrong = ada.app.wrong();
    let mut holder = db.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM auth.totp FOR UPDATE")
        .execute(&mut *holder)
        .await
        .expect("a lock");
    let guesses = futures_util::future::join_all((0..7).map(|_| finish(&origin, &half, &wrong)));
    let release = async {
        waiting(&db, 7).await;
        holder.commit().await.expect("released");
    };
    let (answers, ()) = join(guesses, release).await;
    let looked_at = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!(looked_at, 5);
    assert_eq!(
        count(&db, "SELECT failures::bigint FROM auth.totp").await,
        5
    );
}

async fn pause_ends(db: &PgPool) {
    change(db, "UPDATE auth.totp SET refused_until = now()").await;
}
