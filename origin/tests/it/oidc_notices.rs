//! Who is told of a sign-out does not wait for those that do not answer.

use origin::oidc;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

use crate::{
    oidc_flow::{ADA, Party, Spec},
    session_to_token::Tab,
    support::Origin,
};

/// A client that is told at this listener.
async fn client(db: &PgPool, id: &str) -> (Party, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let spec = Spec {
        backchannel: Some(format!("http://127.0.0.1:{port}/logout")),
        ..Spec::default()
    };
    (Party::add(db, id, spec).await, listener)
}

/// Ada has signed out, and both clients are to hear of it, this one first.
async fn scene(db: &PgPool, first: &str) -> (Origin, [TcpListener; 2]) {
    let origin = Origin::start(db).await;
    origin.register(ADA).await;
    let tab = Tab::sign_in(&origin, ADA).await;
    let mut listeners = Vec::new();
    for id in ["one", "two"] {
        let (party, listener) = client(db, id).await;
        party.tokens(&origin, &tab, "openid").await;
        listeners.push(listener);
    }
    let body = serde_json::json!({});
    origin
        .post("/api/v1/auth/logout", Some(&tab.person.access), &body)
        .await;
    let first = format!(
        "UPDATE auth.logout_notices SET due_at = now() - interval '1 minute' WHERE client_id = '{first}'"
    );
    let done = sqlx::query(AssertSqlSafe(first)).execute(db).await;
    assert_eq!(done.expect("a notice").rows_affected(), 1);
    let listeners = <[_; 2]>::try_from(listeners).expect("two");
    (origin, listeners)
}

/// Who asks there, after their request has come, which nobody answers.
async fn hears(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut some = [0; 16];
    stream.read_exact(&mut some).await.expect("a request");
    stream
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_client_that_does_not_answer_holds_up_no_other(db: PgPool) {
    let (origin, [one, two]) = scene(&db, "one").await;
    let telling = tokio::spawn(oidc::tell(origin.app.clone()));
    let waits = hears(&one).await;
    hears(&two).await;
    let mut rest = vec![0; 65_536];
    loop {
        match waits.try_read(&mut rest) {
            Ok(0) => panic!("the other one heard only when this one was given up"),
            Ok(_) => {}
            Err(why) => {
                assert_eq!(why.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    telling.abort();
}

/// What was not heard, and is to be sent again later, keeps the rest of the same client's back.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn many_notices_to_a_client_that_does_not_hear_come_after_those_to_others(db: PgPool) {
    let (origin, [_one, two]) = scene(&db, "one").await;
    let many = "INSERT INTO auth.logout_notices (client_id, user_id, session_id, attempts, due_at)
        SELECT client_id, user_id, session_id, 1, now() + interval '30 seconds'
        FROM auth.logout_notices, generate_series(1, 4) WHERE client_id = 'one'";
    sqlx::query(many).execute(&db).await.expect("notices");
    tokio::select! {
        told = oidc::send_next(&origin.app) => panic!("the other one was told: {told:?}"),
        _ = hears(&two) => {}
    }
}
