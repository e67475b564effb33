//! Accounts that come from another service, by `origin users import`.

use origin::{Imported, import_users};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Origin, PASSWORD, assert_ledger_adds_up, count};

/// What other programs made of [`PASSWORD`]: libxcrypt's `crypt`, and Node's `crypto` with the
/// parameters of Better Auth and of Django.
const HASHES: [&str; 5] = [
    "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e",
    "$2a$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
    "00112233445566778899aabbccddeeff:13af89ff6a88bb0fb3277e79ba724c6c0731b15919ca892969d63abd1534b867d110179e3bc8af39995ede0f9b2ac14b2b97573df10ba3802c498dbeb61e4f64",
    "pbkdf2_sha256$1000$saltsalt$qQDPSZa3Ormyy9oK1Pu0ZLLwP2Svzmx3yu8OvDdq/J0=",
    "$pbkdf2-sha512$i=1000,l=64$c2l4dGVlbiBieXRlcyBvaw$ptC31WcrIu8vobeNmAXW9rpZ5E4T2srS8/KfngxDyeBPCt71EVKiVS5+JogM4VX3GqOfUeU6OHd96qo0eH6lLQ",
];

/// Of a password with a ligature, which Better Auth takes apart (NFKC) before it hashes.
const LIGATURE: &str = "ffeeddccbbaa99887766554433221100:9a8fec214cb9188b5f8b8837fa697966199c8085d3e59bc75de4a5ef5d55066e5c45647fde7e49f0613329a6f08cbf7e75995fa04be52fbe780f9a09fb599142";

async fn import(origin: &Origin, db: &PgPool, lines: &str) -> Imported {
    let key = &origin.app.config.remembering.email_hash_key;
    let mut connection = db.acquire().await.expect("a connection");
    import_users(&mut connection, key, lines.as_bytes())
        .await
        .expect("the lines are read")
}

fn line(email: &str, hash: &str) -> String {
    json!({"email": email, "passwordHash": hash}).to_string() + "\n"
}

async fn sign_in(origin: &Origin, email: &str, password: &str) -> u16 {
    let body = json!({"email": email, "password": password});
    let answer = origin.post("/api/v1/auth/login", None, &body).await;
    answer.status.as_u16()
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_moves_in_signs_in_as_before_and_gets_todays_hash(db: PgPool) {
    let origin = Origin::start(&db).await;
    let email = |number: usize| format!("p{number}@example.org");
    let lines: String = (0..)
        .zip(HASHES)
        .map(|(number, hash)| line(&email(number), hash))
        .collect();
    let imported = import(&origin, &db, &lines).await;
    assert_eq!(
        imported,
        Imported {
            made: 5,
            there: 0,
            wrong: vec![]
        }
    );

    let foreign = "SELECT count(*) FROM auth.passwords WHERE phc NOT LIKE '$argon2id$%'";
    for number in 0..HASHES.len() {
        assert_eq!(
            sign_in(&origin, &email(number), "wrong horse").await,
            401,
            "{number}"
        );
    }
    assert_eq!(count(&db, foreign).await, 5);
    for number in 0..HASHES.len() {
        assert_eq!(
            sign_in(&origin, &email(number), PASSWORD).await,
            200,
            "{number}"
        );
    }
    assert_eq!(count(&db, foreign).await, 0);
    for number in 0..HASHES.len() {
        assert_eq!(
            sign_in(&origin, &email(number), PASSWORD).await,
            200,
            "{number}"
        );
        assert_eq!(
            sign_in(&origin, &email(number), "wrong horse").await,
            401,
            "{number}"
        );
    }
    assert_ledger_adds_up(&db).await;
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_password_is_taken_apart_as_better_auth_does(db: PgPool) {
    let origin = Origin::start(&db).await;
    import(&origin, &db, &line("ada@example.org", LIGATURE)).await;
    assert_eq!(
        sign_in(&origin, "ada@example.org", "\u{fb01}ne horse").await,
        200
    );
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_line_that_is_wrong_is_told_and_the_others_go_on(db: PgPool) {
    let origin = Origin::start(&db).await;
    let good = |email: &str| line(email, HASHES[0]);
    let bad = |hash: &str| line("eve@example.org", hash);
    let lines = [
        good("ada@example.org"),
        "{\"email\": \n".to_owned(),
        "\n".to_owned(),
        json!({"email": "nobody", "passwordHash": HASHES[0], "extra": 1}).to_string() + "\n",
        bad("plain text"),
        bad("$2b$31$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"),
        bad("$2b$04$short"),
        bad("$argon2id$v=19$m=1048576,t=9,p=1$c2l4dGVlbiBieXRlcyBvaw$c2l4dGVlbiBieXRlcyBvaw"),
        bad("pbkdf2_sha256$9999999$saltsalt$qQDPSZa3Ormyy9oK1Pu0ZLLwP2Svzmx3yu8OvDdq/J0="),
        bad("$scrypt$ln=30,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"),
        format!("{}\n", "x".repeat(40_000)),
        good("ADA@example.org"),
        "\u{feff}".to_owned() + &good("bob@example.org"),
        good("bob@example.org").trim_end().to_owned(),
    ]
    .concat();
    let imported = import(&origin, &db, &lines).await;
    assert_eq!((imported.made, imported.there), (2, 1));
    let numbers: Vec<u64> = imported.wrong.iter().map(|(number, _)| *number).collect();
    assert_eq!(
        numbers,
        [2, 4, 5, 6, 7, 8, 9, 10, 11, 13],
        "{:?}",
        imported.wrong
    );
    let told = imported
        .wrong
        .iter()
        .map(|(_, why)| why.as_str())
        .collect::<Vec<_>>()
        .join("\n");
    assert!(told.contains("email must be an e-mail address"), "{told}");
    assert!(told.contains("extra is not a field"), "{told}");
    assert!(!told.contains("plain text"), "{told}");

    let again = import(&origin, &db, &good("ada@example.org")).await;
    assert_eq!(
        again,
        Imported {
            made: 0,
            there: 1,
            wrong: vec![]
        }
    );
}

/// The bonus was theirs where they come from; whoever leaves does not get one by coming back.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn who_moves_in_keeps_id_name_and_verification_and_has_no_bonus(db: PgPool) {
    let origin = Origin::start_with(
        &db,
        &["--require-email-verification=true", "--mail-dir=/dev/null"],
    )
    .await;
    let id = "018f4e6a-0000-7000-8000-00000000000a";
    let account = |email: &str, id: Value, verified: bool| {
        json!({"email": email, "passwordHash": HASHES[0], "id": id, "name": "Ada", "emailVerified": verified,
               "createdAt": "2020-01-02T03:04:05Z"})
        .to_string()
            + "\n"
    };
    let lines = account("ada@example.org", json!(id), true)
        + &account("eve@example.org", Value::Null, false);
    assert_eq!(import(&origin, &db, &lines).await.made, 2);
    let ada = origin.login("ada@example.org").await;
    assert_eq!(ada.id, id);
    assert!((origin.spendable(&ada).await - 5.0).abs() < f64::EPSILON);
    assert_eq!(sign_in(&origin, "eve@example.org", PASSWORD).await, 403);
    let kept = "SELECT count(*) FROM auth.users WHERE name = 'Ada' AND created_at = '2020-01-02T03:04:05Z'";
    assert_eq!(count(&db, kept).await, 2);
    assert_eq!(
        count(&db, "SELECT count(*) FROM auth.signup_bonuses").await,
        2
    );
    assert_ledger_adds_up(&db).await;
}
