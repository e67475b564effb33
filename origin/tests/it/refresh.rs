//! The five cases of a refresh, the borders of its grace, and a stampede.

use axum::http::StatusCode;
use futures_util::future::{join, join_all};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{Answer, Origin, count, text, waiting};

/// As if the last rotation had been so much earlier.
async fn pass(db: &PgPool, seconds: f64) {
    sqlx::query("UPDATE auth.sessions SET rotated_at = rotated_at - make_interval(secs => $1)")
        .bind(seconds)
        .execute(db)
        .await
        .expect("time passes");
}

#[track_caller]
fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    text(&answer.body["refreshToken"])
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_first_refresh_after_sign_in_rotates(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    let answer = origin.refresh(&person.refresh).await;
    assert_ne!(token(&answer), person.refresh);
    assert_eq!(answer.body["user"]["id"], person.id);
    let access = text(&answer.body["accessToken"]);
    assert_eq!(
        origin.get("/api/v1/auth/session", &access).await.status,
        StatusCode::OK
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_latest_token_rotates_once_in_a_grace(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    let second = token(&origin.refresh(&person.refresh).await);
    assert_eq!(
        token(&origin.refresh(&second).await),
        second,
        "within the grace: itself again"
    );
    pass(&db, 11.0).await;
    assert_ne!(
        token(&origin.refresh(&second).await),
        second,
        "after it: a new one"
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn the_token_before_converges_within_the_grace(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    let second = token(&origin.refresh(&person.refresh).await);
    pass(&db, 8.0).await;
    assert_eq!(token(&origin.refresh(&person.refresh).await), second);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_lost_answer_is_asked_for_again_and_its_token_is_dead(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    let lost = token(&origin.refresh(&person.refresh).await);
    pass(&db, 11.0).await;
    let third = token(&origin.refresh(&person.refresh).await);
    assert!(third != lost && third != person.refresh);
    assert_eq!(token(&origin.refresh(&third).await), third);
    origin
        .refresh(&lost)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    origin
        .refresh(&third)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn reuse_ends_the_family_and_is_written_down(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    let second = token(&origin.refresh(&person.refresh).await);
    pass(&db, 11.0).await;
    let third = token(&origin.refresh(&second).await);
    let answer = origin.refresh(&person.refresh).await;
    answer.is_problem(401, "INVALID_REFRESH_TOKEN");
    assert_eq!(answer.body["message"], "Invalid refresh token");
    origin
        .refresh(&third)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.security_events WHERE type = 'refresh_reuse'"
        )
        .await,
        1
    );
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.sessions WHERE revoked_at IS NULL"
        )
        .await,
        0
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn each_border_of_the_grace_belongs_to_it(db: PgPool) {
    for (counter, age, outcome) in [
        (7, None, "rotated"),
        (7, Some("0 s"), "repeated"),
        (7, Some("9.999999 s"), "repeated"),
        (7, Some("10 s"), "repeated"),
        (7, Some("10.000001 s"), "rotated"),
        (6, Some("0 s"), "raced"),
        (6, Some("10 s"), "raced"),
        (6, Some("10.000001 s"), "recovered"),
        (5, Some("0 s"), "reused"),
        (8, Some("0 s"), "reused"),
        (-1, Some("20 s"), "reused"),
    ] {
        let judged: String =
            sqlx::query_scalar("SELECT auth.judge_refresh($1, 7, 6, $2::text::interval, '10 s')")
                .bind(counter)
                .bind(age)
                .fetch_one(&db)
                .await
                .expect("a judgement");
        assert_eq!(judged, outcome, "{counter} after {age:?}");
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn two_hundred_refreshes_at_once_have_one_successor(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    let answers = join_all((0..200).map(|_| origin.refresh(&person.refresh))).await;
    let successor = token(&answers[0]);
    assert!(answers.iter().all(|answer| token(answer) == successor));
    assert_eq!(
        count(&db, "SELECT refresh_current::bigint FROM auth.sessions").await,
        1
    );
}

/// All of them are at the row before the first may have it: whoever judges before locking
/// would rotate too, and to the same counter, so that no answer would show it.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn of_refreshes_at_once_exactly_one_rotates(db: PgPool) {
    let origin = Origin::start(&db).await;
    origin.join("ada@example.org").await;
    let mut holder = db.begin().await.expect("a transaction");
    let session: Uuid = sqlx::query_scalar("SELECT id FROM auth.sessions FOR UPDATE")
        .fetch_one(&mut *holder)
        .await
        .expect("the session");
    let refreshes = join_all((0..6).map(|_| {
        sqlx::query_scalar::<_, String>(
            "SELECT outcome FROM auth.refresh($1, 0, '10 s', NULL, NULL)",
        )
        .bind(session)
        .fetch_one(origin.app.db.pool())
    }));
    let release = async {
        waiting(&db, 6).await;
        holder.commit().await.expect("released");
    };
    let (outcomes, ()) = join(refreshes, release).await;
    let mut outcomes: Vec<String> = outcomes
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("outcomes");
    outcomes.sort_unstable();
    assert_eq!(
        outcomes,
        ["raced", "raced", "raced", "raced", "raced", "rotated"]
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_token_of_another_making_writes_nothing(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    let other_key = "--refresh-token-keys=1:Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";
    let other = Origin::start_with(&db, &[other_key]).await;
    for bad in [person.refresh.as_str(), "", "x", &"A".repeat(71)] {
        other
            .refresh(bad)
            .await
            .is_problem(401, "INVALID_REFRESH_TOKEN");
    }
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.sessions WHERE revoked_at IS NOT NULL"
        )
        .await,
        0
    );
    assert_eq!(origin.refresh(&person.refresh).await.status, StatusCode::OK);
}

/// What a session's tokens are compared with is asked for until a good one has come, and then kept.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_stranger_keeps_nothing_in_memory(db: PgPool) {
    let origin = Origin::start(&db).await;
    let [ada, eve] = [
        origin.join("ada@example.org").await,
        origin.join("eve@example.org").await,
    ];
    let latest = text(&origin.refresh(&ada.refresh).await.body["refreshToken"]);
    let forged = format!("{}A{}", &eve.refresh[..60], &eve.refresh[61..]);
    origin
        .refresh(&forged)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    sqlx::query("REVOKE EXECUTE ON FUNCTION auth.refresh_salt FROM tollgate_app")
        .execute(&db)
        .await
        .expect("nobody may ask");
    assert_eq!(origin.refresh(&latest).await.status, StatusCode::OK);
    origin
        .refresh(&eve.refresh)
        .await
        .is_problem(500, "INTERNAL");
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_session_slides_and_ends_after_180_days_whatever_happens(db: PgPool) {
    let origin = Origin::start(&db).await;
    let person = origin.join("ada@example.org").await;
    sqlx::query("UPDATE auth.sessions SET expires_at = now() + interval '1 hour'")
        .execute(&db)
        .await
        .expect("later");
    let second = token(&origin.refresh(&person.refresh).await);
    let slid =
        "SELECT count(*) FROM auth.sessions WHERE expires_at > now() + interval '6 days 23 hours'";
    assert_eq!(count(&db, slid).await, 1);

    sqlx::query("UPDATE auth.sessions SET ends_at = now() + interval '2 days', expires_at = now() + interval '1 hour'")
        .execute(&db)
        .await
        .expect("near its end");
    pass(&db, 11.0).await;
    token(&origin.refresh(&second).await);
    assert_eq!(
        count(
            &db,
            "SELECT count(*) FROM auth.sessions WHERE expires_at = ends_at"
        )
        .await,
        1
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_session_refreshes_sixty_times_a_minute(db: PgPool) {
    let origin = Origin::start_with(&db, &["--limit-scale=1"]).await;
    let person = origin.join("ada@example.org").await;
    let answers = join_all((0..70).map(|_| origin.refresh(&person.refresh))).await;
    let refused: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS)
        .collect();
    assert!((5..=10).contains(&refused.len()), "{}", refused.len());
    refused[0].is_problem(429, "RATE_LIMITED");
    assert!(refused[0].headers.contains_key("retry-after"));
    assert_eq!(
        refused[0].headers["ratelimit-policy"],
        "\"refresh\";q=60;w=60"
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_refresh_of_a_disabled_account_writes_nothing(db: PgPool) {
    let origin = Origin::start(&db).await;
    let ada = origin.join("ada@example.org").await;
    let disable = "UPDATE auth.users SET status = 'banned'";
    sqlx::query(disable).execute(&db).await.expect("disabled");
    origin
        .refresh(&ada.refresh)
        .await
        .is_problem(401, "INVALID_REFRESH_TOKEN");
    let rotated = "SELECT count(*) FROM auth.sessions WHERE rotated_at IS NOT NULL";
    assert_eq!(count(&db, rotated).await, 0);
}
