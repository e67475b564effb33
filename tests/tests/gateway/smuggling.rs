//! What does not come by any client library, sent to the built worker byte by byte: requests that two
//! servers might tell apart in different places (RFC 9112 §11.2), and answers without an end.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tests::{Issuer, Stub, Worker};
use tokio::task::spawn_blocking;

use crate::{script, setting::Setting};

const POLICY: &str = r#"{
    "upstreams": {"notes": {"url": "APP"}},
    "routes": [
        {"path": "/health", "methods": ["GET"], "serve": "health"},
        {"path": "/open", "methods": ["GET", "POST"], "upstream": "notes"},
        {"path": "/small", "methods": ["POST"], "upstream": "notes", "max_body": 10}
    ]
}"#;
/// What must never be taken for a request of its own: no route leads there.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
/// Nothing takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;

async fn start(app: &str, issuer: &Issuer, origin: &Stub) -> Result<Worker> {
    let setting = Setting::new(issuer.url(), origin, POLICY.replace("APP", app));
    Worker::start(&script(&setting)?).await
}

fn connect(worker: &Worker) -> Result<TcpStream> {
    let stream = TcpStream::connect(worker.url.trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The statuses of all that is answered until the connection ends, which the request asks for.
fn answers(worker: &Worker, request: &[u8]) -> Result<Vec<u16>> {
    let mut stream = connect(worker)?;
    // Whoever has refused it may not read it to its end.
    let _ = stream.write_all(request);
    let mut told = Vec::new();
    let _ = stream.read_to_end(&mut told);
    let told = String::from_utf8_lossy(&told).into_owned();
    let lines = told.split("HTTP/1.1 ").skip(1);
    let statuses = lines.map(|line| line.get(..3).and_then(|status| status.parse().ok()));
    statuses.collect::<Option<_>>().context(told)
}

/// A request whose body may be one of its own, to who reads its headers otherwise.
fn post(headers: &str, body: &str) -> String {
    format!("POST /open HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n\r\n{body}")
}

/// No body, to who reads it in chunks.
fn chunked() -> String {
    format!("0\r\n\r\n{SMUGGLED}")
}

/// What must be refused.
fn refused() -> Vec<(&'static str, String)> {
    let (length, chunked) = (SMUGGLED.len(), chunked());
    vec![
        (
            "two lengths",
            post(
                &format!("content-length: 0\r\ncontent-length: {length}"),
                SMUGGLED,
            ),
        ),
        (
            "two lengths in one",
            post(&format!("content-length: 0, {length}"), SMUGGLED),
        ),
        (
            "a length with a sign",
            post(&format!("content-length: +{length}"), SMUGGLED),
        ),
        ("a negative length", post("content-length: -1", SMUGGLED)),
        (
            "a length in hexadecimal",
            post("content-length: 0x10", SMUGGLED),
        ),
        (
            "a length past 2^64",
            post("content-length: 18446744073709551617", SMUGGLED),
        ),
        (
            "another coding",
            post("transfer-encoding: xchunked", &chunked),
        ),
        (
            "a coding after chunked",
            post("transfer-encoding: chunked, identity", &chunked),
        ),
        (
            "a space before the colon",
            post("transfer-encoding : chunked", &chunked),
        ),
        (
            "NUL in a header",
            post("x-a: b\0c\r\ncontent-length: 0", SMUGGLED),
        ),
        (
            "a chunk that is no number",
            post("transfer-encoding: chunked", &format!("zz\r\n{chunked}")),
        ),
        (
            "a chunk past 2^64",
            post(
                "transfer-encoding: chunked",
                &format!("fffffffffffffffff\r\n{chunked}"),
            ),
        ),
        ("a method with a space before it", format!(" {SMUGGLED}")),
        (
            "a version of its own",
            "GET /open HTTP/9.9\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(),
        ),
    ]
}

/// What may be one request.
fn at_most_one() -> Vec<(&'static str, String)> {
    let chunked = chunked();
    let both = format!(
        "content-length: {}\r\ntransfer-encoding: chunked",
        chunked.len()
    );
    let long = "a".repeat(64 * 1_024);
    vec![
        (
            "a header of 64 KiB",
            post(&format!("x-a: {long}\r\ncontent-length: 0"), ""),
        ),
        ("a length and a coding", post(&both, &chunked)),
        (
            "a folded header",
            post(
                "x-a: b\r\n content-length: 0\r\ncontent-length: 0",
                SMUGGLED,
            ),
        ),
        (
            "two codings",
            post(
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
                &chunked,
            ),
        ),
        (
            "a body behind a GET",
            format!("GET /open HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n{SMUGGLED}"),
        ),
        (
            "a length of another name",
            post("content_length: 0\r\nconnection: close", SMUGGLED),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_hides_in_another() -> Result<()> {
    let issuer = Issuer::new("http://127.0.0.1:8787", 7);
    let (origin, app) = (Stub::start(issuer.jwks())?, Stub::start(issuer.jwks())?);
    let worker = start(&app.url, &issuer, &origin).await?;
    spawn_blocking(move || -> Result<()> {
        for (name, request) in refused() {
            let statuses = answers(&worker, request.as_bytes()).context(name)?;
            let is_refused = statuses.iter().all(|status| (400..600).contains(status));
            assert!(is_refused && statuses.len() <= 1, "{name}: {statuses:?}");
            let seen = app.take();
            assert!(seen.is_empty(), "{name}: {seen:?}");
        }
        for (name, request) in at_most_one() {
            let statuses = answers(&worker, request.as_bytes()).context(name)?;
            assert!(statuses.len() <= 1, "{name}: {statuses:?}");
            let seen = app.take();
            assert!(seen.len() <= 1, "{name}: {seen:?}");
            assert!(
                seen.iter().all(|seen| seen.target == "/open"),
                "{name}: {seen:?}"
            );
        }
        let lives = "GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        assert_eq!(answers(&worker, lives.as_bytes())?, [200], "it lives on");
        Ok(())
    })
    .await?
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_size_of_a_body_counts_it_is_said() -> Result<()> {
    let issuer = Issuer::new("http://127.0.0.1:8787", 7);
    let (origin, app) = (Stub::start(issuer.jwks())?, Stub::start(issuer.jwks())?);
    let worker = start(&app.url, &issuer, &origin).await?;
    let small = |headers: &str, body: &str| post(headers, body).replace("/open", "/small");
    let get = |headers: &str, body: &str| post(headers, body).replace("POST", "GET");
    spawn_blocking(move || -> Result<()> {
        for (request, status, reaches) in [
            (small("content-length: 3", "abc"), 200, 1),
            (get("content-length: 0", ""), 200, 1),
            (get("content-length: 3", "abc"), 400, 0),
            (
                get("transfer-encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
                400,
                0,
            ),
            (small("content-length: 11", "eleven byte"), 413, 0),
            (
                small("transfer-encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
                411,
                0,
            ),
            (
                post("transfer-encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
                200,
                1,
            ),
        ] {
            assert_eq!(answers(&worker, request.as_bytes())?, [status], "{request}");
            assert_eq!(app.take().len(), reaches, "{request}");
        }
        Ok(())
    })
    .await?
}

/// An app that answers with 2 GB, until nobody takes them; returns how many it got rid of.
fn endless() -> Result<(String, thread::JoinHandle<u64>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let app = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the edge");
        let mut head = [0; 16 * 1_024];
        let _ = stream.read(&mut head);
        let size = 2 * 1_024 * MIB;
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
        let part = vec![b'x'; 64 * 1_024];
        let mut sent = 0;
        while sent < size && stream.write_all(&part).is_ok() {
            sent += part.len() as u64;
        }
        sent
    });
    Ok((url, app))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_two_gigabytes_is_kept_nowhere_and_ends_with_its_client() -> Result<()> {
    let issuer = Issuer::new("http://127.0.0.1:8787", 7);
    let origin = Stub::start(issuer.jwks())?;
    let (url, app) = endless()?;
    let worker = start(&url, &issuer, &origin).await?;
    spawn_blocking(move || -> Result<()> {
        let before = worker.resident_bytes()?;
        let mut stream = connect(&worker)?;
        stream.write_all(b"GET /open HTTP/1.1\r\nhost: a\r\n\r\n")?;
        let mut part = vec![0; 256 * 1_024];
        let mut read = 0;
        while read < 256 * MIB {
            let count = stream.read(&mut part)?;
            ensure!(count > 0, "it ended after {read} bytes");
            read += count as u64;
        }
        let grown = worker.resident_bytes()?.saturating_sub(before) / MIB;
        assert!(grown < 64, "of 256 MiB it kept {grown}");
        drop(stream);
        let sent = app.join().expect("the app") / MIB;
        assert!(sent < 512, "it went on to send {sent} MiB to nobody");
        let lives = "GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        assert_eq!(answers(&worker, lives.as_bytes())?, [200], "it lives on");
        Ok(())
    })
    .await?
}
