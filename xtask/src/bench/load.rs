//! A load generator of a thread a connection, and an origin that does next to nothing. Both use
//! the standard library alone.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use shared::revocations::PATH;

/// As the origin tells it.
const NOTHING_REVOKED: &str =
    r#"{"cursor":0,"more":false,"ageMillis":0,"floor":0,"revocations":[]}"#;
/// How many connections ask at once.
const CONNECTIONS: usize = 16;

/// Sends `requests` over [`CONNECTIONS`] for this long, in turn, each at most `times` times;
/// returns how many were answered a second. Any answer but 200 is an error.
pub fn drive(address: &str, requests: &[String], times: usize, within: Duration) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let mut connections = open(address, CONNECTIONS)?;
    let begun = Instant::now();
    let answered = together(&mut connections, |_, connection| {
        let mut answered = 0_u32;
        while begun.elapsed() < within {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn / requests.len() >= times {
                break;
            }
            let request = requests[turn % requests.len()].as_bytes();
            connection.ask(request)?.ok()?;
            answered += 1;
        }
        Ok(answered)
    })?;
    let answered: u32 = answered.iter().sum();
    Ok(f64::from(answered) / begun.elapsed().as_secs_f64())
}

/// Sends so many of `requests` a second, in turn, whether earlier ones were answered or not as long as a
/// connection is free; returns how long the slowest but one in a hundred took from when it was due.
pub fn drive_at(
    address: &str,
    requests: &[String],
    a_second: f64,
    within: Duration,
) -> Result<Duration> {
    let next = AtomicU32::new(0);
    let mut connections = open(address, CONNECTIONS)?;
    let begun = Instant::now();
    let waits = together(&mut connections, |_, connection| {
        let mut waits = Vec::new();
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let after = Duration::from_secs_f64(f64::from(turn) / a_second);
            if after >= within {
                return Ok(waits);
            }
            let due = begun + after;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let request = &requests[turn as usize % requests.len()];
            connection.ask(request.as_bytes())?.ok()?;
            waits.push(due.elapsed());
        }
    })?;
    let mut waits = waits.concat();
    waits.sort_unstable();
    let at = waits.len() * 99 / 100;
    waits.get(at).copied().context("nothing was sent")
}

/// Opens so many connections.
pub fn open(address: &str, connections: usize) -> Result<Vec<Connection>> {
    (0..connections)
        .map(|_| Connection::open(address))
        .collect()
}

/// Lets each connection, and its number, do the same in a thread of its own.
pub fn together<T: Send>(
    connections: &mut [Connection],
    work: impl Fn(usize, &mut Connection) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = connections
            .iter_mut()
            .enumerate()
            .map(|(number, connection)| scope.spawn(move || work(number, connection)))
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .map(|done| done.expect("connections do not panic"))
            .collect()
    })
}

/// An HTTP/1.1 connection, which has one request under way at a time.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it came.
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its status line and headers.
    pub head: &'a str,
    /// Its body, chunked if it came so.
    pub body: &'a [u8],
}

impl Connection {
    fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends a request as it goes over the wire and reads the answer to its end.
    pub fn ask(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        let Self { stream, buffer } = self;
        stream.write_all(request)?;
        buffer.clear();
        while Answer::whole(buffer)?.is_none() {
            read_more(stream, buffer)?;
        }
        Answer::whole(buffer)?.context("it was whole")
    }
}

impl<'a> Answer<'a> {
    /// What has come, if it is all of it.
    pub fn whole(come: &'a [u8]) -> Result<Option<Self>> {
        let Some(ends_at) = end_of_head(come) else {
            return Ok(None);
        };
        let (head, body) = come.split_at(ends_at);
        let head = str::from_utf8(head)?;
        let is_whole = if let Some(length) = header(head, "content-length") {
            body.len() >= length.parse()?
        } else {
            let is_chunked = header(head, "transfer-encoding").is_some();
            ensure!(is_chunked, "an answer says how long it is");
            come.ends_with(b"\r\n0\r\n\r\n")
        };
        if !is_whole {
            return Ok(None);
        }
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        Ok(Some(Self {
            status: status.context("an answer has a status")?,
            head,
            body,
        }))
    }
}

impl Answer<'_> {
    /// An error unless it succeeded.
    pub fn ok(self) -> Result<Self> {
        ensure!((200..300).contains(&self.status), "{}", self.shown());
        Ok(self)
    }

    /// All of it, for an error.
    pub fn shown(&self) -> String {
        format!(
            "an answer was {}{}",
            self.head,
            String::from_utf8_lossy(self.body)
        )
    }
}

/// A GET of `path` with `token`, as it goes over the wire.
pub fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\r\n")
}

/// A POST of `body` to `path`, as it goes over the wire.
pub fn post(path: &str, body: &serde_json::Value) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Sends a body of `size` bytes to `path`; returns how many of it went a second.
pub fn upload(address: &str, path: &str, token: &str, size: usize) -> Result<f64> {
    let mut connection = Connection::open(address)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\ncontent-length: {size}\r\n\r\n"
    );
    let part = vec![b'x'; 65_536];
    let begun = Instant::now();
    connection.stream.write_all(head.as_bytes())?;
    for at in (0..size).step_by(part.len()) {
        let at_once = part.len().min(size - at);
        connection.stream.write_all(&part[..at_once])?;
    }
    connection.ask(b"")?.ok()?;
    Ok(f64::from(u32::try_from(size)?) / begun.elapsed().as_secs_f64())
}

/// Answers key sets with `jwks`, feeds with no revocation, and everything else with a small JSON, for
/// ever; returns its address.
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

/// Bodies have a length, and are read and forgotten.
fn answer_all(mut stream: TcpStream, jwks: &str) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let ends_at = read_head(&mut stream, &mut buffer)?;
        let head = str::from_utf8(&buffer[..ends_at])?;
        if let Some(length) = header(head, "content-length") {
            let mut left = length
                .parse::<usize>()?
                .saturating_sub(buffer.len() - ends_at);
            let mut part = vec![0; 65_536];
            while left > 0 {
                let at_once = left.min(part.len());
                let count = stream.read(&mut part[..at_once])?;
                ensure!(count > 0, "the connection was closed in the middle");
                left -= count;
            }
        }
        let body = match head.split(' ').nth(1) {
            Some(path) if path.ends_with("/jwks") => jwks,
            Some(path) if path.starts_with(PATH) => NOTHING_REVOKED,
            _ => r#"{"balance":0}"#,
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
    }
}

/// Reads until a head is complete and says where it ends; there may be more behind it in
/// `buffer`.
fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<usize> {
    loop {
        read_more(stream, buffer)?;
        if let Some(ends_at) = end_of_head(buffer) {
            return Ok(ends_at);
        }
    }
}

fn end_of_head(come: &[u8]) -> Option<usize> {
    // A pattern, since a comparison of slices calls `memcmp` for each byte of a head.
    let is_end = |window: &[u8]| matches!(window, [b'\r', b'\n', b'\r', b'\n']);
    Some(come.windows(4).position(is_end)? + 4)
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    let mut part = [0; 4096];
    let count = stream.read(&mut part)?;
    ensure!(count > 0, "the connection was closed in the middle");
    buffer.extend_from_slice(&part[..count]);
    Ok(())
}

/// A header's value; a name is in any case.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(": ")?;
        field.eq_ignore_ascii_case(name).then_some(value)
    })
}
