//! A load generator of a thread a connection, and an origin that does next to nothing. Both use
//! the standard library alone, which is optimised even when we are not.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// How many connections ask at once.
const CONNECTIONS: usize = 16;

/// Sends `requests` over [`CONNECTIONS`] for this long, in turn, each at most `times` times;
/// returns how many were answered a second. Any answer but 200 is an error.
pub fn drive(address: &str, requests: &[String], times: usize, within: Duration) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let connection = || -> Result<u32> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        let mut answered = 0;
        while begun.elapsed() < within {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn / requests.len() >= times {
                break;
            }
            stream.write_all(requests[turn % requests.len()].as_bytes())?;
            read_answer(&mut stream, &mut buffer)?;
            answered += 1;
        }
        Ok(answered)
    };
    let answered: Result<Vec<u32>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(connection)).collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|answered| answered.expect("connections do not panic"))
            .collect()
    });
    let answered: u32 = answered?.iter().sum();
    Ok(f64::from(answered) / begun.elapsed().as_secs_f64())
}

/// A GET of `path` with `token`, as it goes over the wire.
pub fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\r\n")
}

/// Answers key sets with `jwks` and everything else with a small JSON, for ever; returns its
/// address.
pub fn serve_origin(jwks: String) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let jwks = jwks.clone();
            thread::spawn(move || answer_all(stream, &jwks));
        }
    });
    Ok(address)
}

/// Requests have no bodies here: the end of the head is the end.
fn answer_all(mut stream: TcpStream, jwks: &str) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let head = read_head(&mut stream, &mut buffer)?;
        let is_jwks = head
            .split(' ')
            .nth(1)
            .is_some_and(|path| path.ends_with("/jwks"));
        let body = if is_jwks { jwks } else { r#"{"balance":0}"# };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
    }
}

/// Reads one answer to its end and checks its status.
fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let head = read_head(stream, buffer)?;
    let ends_at = head.len();
    let ok = head.starts_with("HTTP/1.1 200");
    let length = header(head, "content-length").and_then(|length| length.parse::<usize>().ok());
    let is_chunked = header(head, "transfer-encoding").is_some();
    ensure!(ok, "a worker answered {}", String::from_utf8_lossy(buffer));
    if is_chunked {
        while !buffer.ends_with(b"\r\n0\r\n\r\n") {
            read_more(stream, buffer)?;
        }
        return Ok(());
    }
    let length = length.context("an answer says how long it is")?;
    while buffer.len() < ends_at + length {
        read_more(stream, buffer)?;
    }
    Ok(())
}

/// Reads until a head is complete; there may be more behind it in `buffer`.
fn read_head<'a>(stream: &mut TcpStream, buffer: &'a mut Vec<u8>) -> Result<&'a str> {
    loop {
        read_more(stream, buffer)?;
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(str::from_utf8(&buffer[..at + 4])?);
        }
    }
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    let mut part = [0; 4096];
    let count = stream.read(&mut part)?;
    ensure!(count > 0, "the connection was closed in the middle");
    buffer.extend_from_slice(&part[..count]);
    Ok(())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}
