//! The queue of mails, and servers that do not want them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use origin::mail;
use serde_json::json;
use sqlx::PgPool;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    post_office::{FORGOT, MAGIC, NEW_PASSWORD, RESET},
    support::{Origin, count},
};

/// How the server takes one letter.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Accepts,
    SaysNotNow,
    Refuses,
    KnowsUsNot,
    HangsUp,
    /// It has taken the letter, and the answer is lost.
    HangsUpAfterwards,
}

/// A mail server.
#[derive(Clone, Default)]
struct Server {
    connections: Arc<AtomicUsize>,
    moods: Arc<Mutex<VecDeque<Mood>>>,
    letters: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(db: &PgPool, flags: &[&str]) -> (Self, Origin) {
        let server = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().talk(stream));
            }
        });
        let origin = Self::origin(db, port, flags).await;
        (server, origin)
    }

    async fn origin(db: &PgPool, port: u16, flags: &[&str]) -> Origin {
        let url = format!("--smtp-url=smtp://127.0.0.1:{port}");
        let ours = [url.as_str(), "--mail-from=Tollgate <no-reply@example.org>"];
        let flags: Vec<&str> = flags.iter().copied().chain(ours).collect();
        Origin::start_with(db, &flags).await
    }

    fn will(&self, moods: &[Mood]) {
        self.moods.lock().expect("a lock").extend(moods);
    }

    fn letters(&self) -> Vec<String> {
        self.letters.lock().expect("a lock").clone()
    }

    async fn talk(self, stream: TcpStream) -> std::io::Result<()> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 here\r\n").await?;
        let mut mood = Mood::Accepts;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let answer = match line.split([' ', '\r']).next().unwrap_or_default() {
                "EHLO" => "250-here\r\n250 8BITMIME\r\n",
                "MAIL" => {
                    let next = self.moods.lock().expect("a lock").pop_front();
                    mood = next.unwrap_or(Mood::Accepts);
                    match mood {
                        Mood::KnowsUsNot => "535 who are you\r\n",
                        _ => "250 yes\r\n",
                    }
                }
                "RCPT" => match mood {
                    Mood::SaysNotNow => "451 later\r\n",
                    Mood::Refuses => "550 no such person as ada@example.org\r\n",
                    Mood::HangsUp => return Ok(()),
                    _ => "250 yes\r\n",
                },
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let mut letter = Vec::new();
                    while !letter.ends_with(b"\r\n.\r\n") {
                        letter.push(stream.read_u8().await?);
                    }
                    let letter = String::from_utf8(letter).expect("text");
                    self.letters.lock().expect("a lock").push(letter);
                    if matches!(mood, Mood::HangsUpAfterwards) {
                        return Ok(());
                    }
                    "250 taken\r\n"
                }
                "QUIT" => return Ok(()),
                _ => "250 yes\r\n",
            };
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}

async fn send(origin: &Origin) -> bool {
    let mail = origin.app.mail.as_ref().expect("mail is configured");
    mail::send_next(&origin.app, mail).await.expect("a queue")
}

/// The minutes until the next attempt are over.
async fn pass_the_time(db: &PgPool) {
    sqlx::query("UPDATE auth.outbox SET due_at = now()")
        .execute(db)
        .await
        .expect("it is due");
}

async fn ask(origin: &Origin, email: &str) {
    let answer = origin.post(FORGOT, None, &json!({"email": email})).await;
    assert_eq!(answer.body, json!({"success": true}));
}

const WAITING: &str = "SELECT count(*) FROM auth.outbox";
const MINUTES: &str =
    "SELECT round(extract(epoch FROM due_at - now()) / 60)::bigint FROM auth.outbox";

fn token(letter: &str) -> String {
    let (_, rest) = letter.split_once("?token=").expect("a link");
    let is_secret = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    rest.chars()
        .take_while(|letter| is_secret(*letter))
        .collect()
}

fn message_id(letter: &str) -> &str {
    let line = letter.lines().find(|line| line.starts_with("Message-ID:"));
    line.expect("a Message-ID")
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_mail_outlives_a_server_that_fails(db: PgPool) {
    let (server, origin) = Server::start(&db, &[]).await;
    origin.register("ada@example.org").await;
    ask(&origin, "ada@example.org").await;
    server.will(&[Mood::SaysNotNow, Mood::HangsUp, Mood::KnowsUsNot]);
    for minutes in [1, 2, 4] {
        assert!(send(&origin).await);
        assert!(!send(&origin).await, "not at once");
        assert_eq!(count(&db, MINUTES).await, minutes);
        assert!(server.letters().is_empty());
        pass_the_time(&db).await;
    }
    assert!(send(&origin).await);
    let letters = server.letters();
    assert_eq!((letters.len(), count(&db, WAITING).await), (1, 0));
    let body = json!({"token": token(&letters[0]), "newPassword": NEW_PASSWORD});
    assert_eq!(origin.post(RESET, None, &body).await.status, 200);
}

/// No answer that comes late is taken for the next letter's.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_letter_has_its_connection_for_itself(db: PgPool) {
    let (server, origin) = Server::start(&db, &[]).await;
    for person in ["ada@example.org", "bob@example.org"] {
        origin.register(person).await;
        ask(&origin, person).await;
        assert!(send(&origin).await);
    }
    assert_eq!(server.letters().len(), 2);
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_mail_that_nobody_will_ever_take_is_dropped(db: PgPool) {
    let (server, origin) = Server::start(&db, &[]).await;
    origin.register("ada@example.org").await;
    ask(&origin, "ada@example.org").await;
    server.will(&[Mood::Refuses]);
    assert!(send(&origin).await);
    assert_eq!((server.letters().len(), count(&db, WAITING).await), (0, 0));
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_mail_that_helps_nobody_any_more_is_dropped(db: PgPool) {
    let (server, origin) = Server::start(&db, &[]).await;
    origin.register("ada@example.org").await;
    ask(&origin, "ada@example.org").await;
    sqlx::query("UPDATE auth.outbox SET expires_at = now()")
        .execute(&db)
        .await
        .expect("too late");
    assert!(send(&origin).await);
    assert_eq!((server.letters().len(), count(&db, WAITING).await), (0, 0));
}

/// Rather twice than never; and then the later link is the good one.
#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_mail_whose_answer_was_lost_leaves_again_under_the_same_name(db: PgPool) {
    let (server, origin) = Server::start(&db, &[]).await;
    origin.register("ada@example.org").await;
    ask(&origin, "ada@example.org").await;
    server.will(&[Mood::HangsUpAfterwards]);
    assert!(send(&origin).await);
    pass_the_time(&db).await;
    assert!(send(&origin).await);
    let letters = server.letters();
    assert_eq!(letters.len(), 2);
    assert_eq!(message_id(&letters[0]), message_id(&letters[1]));
    for (letter, status) in letters.iter().zip([400, 200]) {
        let body = json!({"token": token(letter), "newPassword": NEW_PASSWORD});
        assert_eq!(origin.post(RESET, None, &body).await.status, status);
    }
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn many_senders_send_each_mail_once(db: PgPool) {
    let (server, origin) = Server::start(&db, &[]).await;
    for i in 0..12 {
        let email = format!("ada{i}@example.org");
        origin.register(&email).await;
        ask(&origin, &email).await;
    }
    let sender = async || while send(&origin).await {};
    join_all((0..4).map(|_| sender())).await;
    let letters = server.letters();
    let mut names: Vec<&str> = letters.iter().map(|letter| message_id(letter)).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!((letters.len(), names.len()), (12, 12));
    assert_eq!(count(&db, WAITING).await, 0);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn a_sender_that_died_leaves_its_mail_to_the_others(db: PgPool) {
    let (server, origin) = Server::start(&db, &[]).await;
    origin.register("ada@example.org").await;
    ask(&origin, "ada@example.org").await;
    let claimed = "SELECT count(*) FROM auth.claim_mail()";
    assert_eq!(count(&db, claimed).await, 1, "a sender takes it, and dies");
    assert_eq!(count(&db, claimed).await, 0, "it has a minute");
    pass_the_time(&db).await;
    assert!(send(&origin).await);
    assert_eq!(server.letters().len(), 1);
}

#[sqlx::test(migrator = "origin::MIGRATOR")]
async fn nobody_is_drowned_in_links(db: PgPool) {
    let (server, origin) = Server::start(&db, &["--limit-scale=1"]).await;
    origin.register("ada@example.org").await;
    for _ in 0..25 {
        ask(&origin, "ada@example.org").await;
    }
    while send(&origin).await {}
    assert_eq!(server.letters().len(), 20);
    assert_eq!(count(&db, WAITING).await, 0);
    // What a stranger asks for uses up nothing else.
    let body = json!({"email": "ada@example.org"});
    origin.post(MAGIC, None, &body).await;
    while send(&origin).await {}
    assert_eq!(server.letters().len(), 21);
}
