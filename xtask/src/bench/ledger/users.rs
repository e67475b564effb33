//! Who spends: accounts that were made by the public API. Most have more credits than a bench
//! can spend, and a few have spent all that they had.

use std::{
    io::Write,
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};

use crate::bench::load::{Connection, open, post, together};

/// What everybody gets for signing up.
pub const SIGNUP_BONUS: u32 = 100_000_000;

const USERS: usize = 10_000;
const BROKE: usize = 500;
const CONNECTIONS: usize = 64;
const PASSWORD: &str = "a horse that counts";
/// Tokens live 15 minutes.
const SIGNED_IN_FOR: Duration = Duration::from_mins(8);

/// Everybody, signed in.
pub struct Users {
    /// Where the origin listens.
    pub address: String,
    /// Who can pay.
    pub rich: Vec<User>,
    /// Who cannot.
    pub broke: Vec<User>,
    signed_in: Instant,
}

impl Users {
    /// Registers everybody at the origin of this address, and signs them in.
    pub fn make(address: &str) -> Result<Self> {
        for_each(address, 0..USERS, |connection, index| {
            let body = json!({ "email": email(index), "password": PASSWORD });
            let request = post("/api/v1/auth/register", &body);
            connection.ask(request.as_bytes())?.ok()?;
            Ok(())
        })?;
        let users = Self::sign_in(address)?;
        for_each(address, 0..BROKE, |connection, index| {
            let mut request = Vec::new();
            let all = User::paying(&users.broke[index].token, SIGNUP_BONUS);
            all.charge(&mut request, 0);
            connection.ask(&request)?.ok()?;
            Ok(())
        })?;
        Ok(users)
    }

    /// Signs everybody in again when their tokens are old.
    pub fn stay_signed_in(&mut self) -> Result<()> {
        if self.signed_in.elapsed() > SIGNED_IN_FOR {
            *self = Self::sign_in(&self.address)?;
        }
        Ok(())
    }

    fn sign_in(address: &str) -> Result<Self> {
        let signed_in = Instant::now();
        let sign_in = |users| {
            for_each(address, users, |connection, index| {
                let body = json!({ "email": email(index), "password": PASSWORD });
                let request = post("/api/v1/auth/login", &body);
                let answer = connection.ask(request.as_bytes())?.ok()?;
                let tokens: Value = serde_json::from_slice(answer.body)?;
                let token = tokens["accessToken"].as_str();
                Ok(User::paying(token.context("login answers a token")?, 1))
            })
        };
        Ok(Self {
            address: address.to_owned(),
            broke: sign_in(0..BROKE)?,
            rich: sign_in(BROKE..USERS)?,
            signed_in,
        })
    }
}

/// One of them.
pub struct User {
    token: String,
    /// A request to charge them, but for what comes before it and its key.
    rest: Vec<u8>,
}

impl User {
    fn paying(token: &str, amount: u32) -> Self {
        let body = json!({ "amount": amount, "appId": "bench", "description": "one page" });
        let body = body.to_string();
        let length = body.len();
        let rest = format!(
            "\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        Self {
            token: token.to_owned(),
            rest: rest.into_bytes(),
        }
    }

    /// Writes a request to charge them once for this key, as it goes over the wire.
    pub fn charge(&self, request: &mut Vec<u8>, key: u64) {
        request.clear();
        request.extend_from_slice(
            b"POST /api/v1/credits/use HTTP/1.1\r\nhost: bench\r\nidempotency-key: ",
        );
        write!(request, "{key:016x}").expect("there is room in memory");
        request.extend_from_slice(&self.rest);
    }

    /// Their id and their session's, as the token says.
    pub fn ids(&self) -> Result<[String; 2]> {
        let claims = self.token.split('.').nth(1).context("a token has claims")?;
        let claims: Value = serde_json::from_slice(&Base64UrlUnpadded::decode_vec(claims)?)?;
        let id = |name: &str| claims[name].as_str().map(str::to_owned);
        let ids = id("sub").zip(id("sid")).context("a token names both")?;
        Ok(ids.into())
    }
}

fn email(index: usize) -> String {
    format!("user-{index}@example.com")
}

/// Does the same for each of `indices`, many at once; the results are in no order.
fn for_each<T: Send>(
    address: &str,
    indices: Range<usize>,
    work: impl Fn(&mut Connection, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut connections = open(address, CONNECTIONS)?;
    let done = together(&mut connections, |number, connection| {
        let own = indices.clone().skip(number).step_by(CONNECTIONS);
        own.map(|index| work(connection, index))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(done.into_iter().flatten().collect())
}
