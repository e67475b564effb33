//! An origin whose letters land in a folder, a browser that keeps its cookies, and a reader.

use axum::http::{HeaderMap, Request, StatusCode, header};
use origin::mail;
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;

use crate::support::{Answer, Origin, PASSWORD};

pub const HOME: &str = "http://127.0.0.1:8787";
pub const REGISTER: &str = "/api/v1/auth/register";
pub const LOGIN: &str = "/api/v1/auth/login";
pub const FORGOT: &str = "/api/v1/auth/forgot-password";
pub const RESET: &str = "/api/v1/auth/reset-password";
pub const RESEND: &str = "/api/v1/auth/resend-verification";
pub const VERIFY: &str = "/api/v1/auth/verify-email";
pub const MAGIC: &str = "/api/v1/auth/magic-link";
pub const MAGIC_VERIFY: &str = "/api/v1/auth/magic-link/verify";
pub const NEW_PASSWORD: &str = "battery staple";

/// An origin and its letters.
pub struct PostOffice {
    pub origin: Origin,
    folder: TempDir,
}

/// A letter, its parts decoded.
#[derive(Debug)]
pub struct Letter {
    pub raw: String,
}

/// Keeps the cookies that it is given.
#[derive(Clone, Default)]
pub struct Browser(pub Vec<(String, String)>);

impl PostOffice {
    /// Addresses must be verified.
    pub async fn open(db: &PgPool) -> Self {
        Self::open_with(db, &["--require-email-verification=true"]).await
    }

    pub async fn open_with(db: &PgPool, flags: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mail_dir = format!("--mail-dir={}", folder.path().display());
        let flags: Vec<&str> = flags.iter().copied().chain([mail_dir.as_str()]).collect();
        Self {
            origin: Origin::start_with(db, &flags).await,
            folder,
        }
    }

    /// Sends all that is due, and takes the letters out of the folder, the first one first.
    pub async fn letters(&self) -> Vec<Letter> {
        let mail = self.origin.app.mail.as_ref().expect("mail is configured");
        while mail::send_next(&self.origin.app, mail)
            .await
            .expect("a queue")
        {}
        let files = std::fs::read_dir(self.folder.path()).expect("a folder");
        let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        paths.sort();
        let read = |path: std::path::PathBuf| {
            let raw = std::fs::read_to_string(&path).expect("a letter");
            std::fs::remove_file(path).expect("it can go");
            Letter { raw: decode(&raw) }
        };
        paths.into_iter().map(read).collect()
    }

    /// The one letter that is due.
    pub async fn letter(&self) -> Letter {
        let mut letters = self.letters().await;
        assert_eq!(letters.len(), 1, "{letters:?}");
        letters.remove(0)
    }

    /// Asks for a link, and reads it.
    pub async fn link(&self, path: &str, email: &str) -> String {
        let answer = self.origin.post(path, None, &json!({"email": email})).await;
        assert_eq!(answer.body, json!({"success": true}));
        let letters = self.letters().await;
        let mut links = letters
            .iter()
            .filter(|letter| letter.raw.contains("?token="));
        let link = links.next().expect("a link").token();
        assert!(links.next().is_none(), "{letters:?}");
        link
    }

    /// A call of a program that has this browser's cookies.
    pub async fn post(&self, browser: &mut Browser, path: &str, body: &Value) -> Answer {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::COOKIE, browser.cookies());
        let request = request.body(body.to_string().into()).expect("a request");
        let answer = self.origin.send(request).await;
        browser.keep(&answer.headers);
        answer
    }

    /// The button of a page is pressed.
    pub async fn press(
        &self,
        browser: &mut Browser,
        path: &str,
        origin: &str,
        form: &str,
    ) -> Answer {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::COOKIE, browser.cookies())
            .header(header::ORIGIN, origin);
        let request = request.body(form.to_owned().into()).expect("a request");
        let answer = self.origin.send(request).await;
        browser.keep(&answer.headers);
        answer
    }

    /// A page is looked at.
    pub async fn look(&self, browser: &Browser, path: &str) -> Answer {
        let request = Request::get(path).header(header::COOKIE, browser.cookies());
        self.origin
            .send(request.body(axum::body::Body::empty()).expect("a request"))
            .await
    }

    pub async fn register(&self, browser: &mut Browser, email: &str) -> String {
        let body = json!({"email": email, "password": PASSWORD, "name": "Ada <b>"});
        let answer = self.post(browser, REGISTER, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        crate::support::text(&answer.body["user"]["id"])
    }

    /// Somebody with a verified address.
    pub async fn join(&self, email: &str) -> crate::support::Person {
        let mut browser = Browser::default();
        self.register(&mut browser, email).await;
        let token = self.letter().await.token();
        let answer = self
            .post(&mut browser, VERIFY, &json!({"token": token}))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        self.origin.login(email).await
    }
}

impl Letter {
    /// The secret of its link.
    #[track_caller]
    pub fn token(&self) -> String {
        let (_, rest) = self.raw.split_once("?token=").expect("a link");
        let is_secret = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        rest.chars()
            .take_while(|letter| is_secret(*letter))
            .collect()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        let head = self.raw.split("\r\n\r\n").next().unwrap_or_default();
        head.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or_default()
    }
}

impl Browser {
    pub fn cookies(&self) -> String {
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    pub fn keep(&mut self, headers: &HeaderMap) {
        for cookie in headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().expect("text");
            let (pair, attributes) = cookie.split_once(';').expect("attributes");
            assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Lax"));
            let (name, value) = pair.split_once('=').expect("a pair");
            self.0.retain(|(known, _)| known != name);
            self.0.push((name.to_owned(), value.to_owned()));
        }
    }
}

/// The letter with those parts decoded that are quoted-printable.
fn decode(raw: &str) -> String {
    let mark = "Content-Transfer-Encoding: quoted-printable";
    let mut parts = raw.split(mark);
    let first = parts.next().unwrap_or_default().to_owned();
    let decoded = parts.map(|part| {
        // Up to the next part, which says for itself how it is encoded. A line that goes on may
        // begin as a boundary does: a secret has dashes.
        let mut ends = part.match_indices("\r\n--").map(|(end, _)| end);
        let end = ends.find(|end| !part[..*end].ends_with('='));
        let end = end.unwrap_or(part.len());
        format!("{mark}{}{}", unquote(&part[..end]), &part[end..])
    });
    std::iter::once(first).chain(decoded).collect()
}

/// RFC 2045 §6.7.
fn unquote(text: &str) -> String {
    let joined = text.replace("=\r\n", "");
    let mut pieces = joined.split('=');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).expect("an escape"));
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn a_secret_that_goes_on_with_dashes_is_read_whole() {
    let mark = "Content-Transfer-Encoding: quoted-printable";
    let raw = format!("{mark}\r\n\r\nhttp://a/?token=3Dab=\r\n--cd\r\n--next\r\n{mark}\r\n\r\n=3D");
    let letter = Letter { raw: decode(&raw) };
    assert_eq!(letter.token(), "ab--cd");
    assert!(
        letter
            .raw
            .ends_with("\r\n--next\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=")
    );
}
