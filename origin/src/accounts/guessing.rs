//! Guessing passwords is made slow: by account, by address and by network, which is who tries many
//! accounts. A few failures are free, then the wait doubles with each up to half an hour, and
//! failures are forgotten at a steady pace. It is the same for accounts that are not there.
//!
//! From a device that the account knows only its own failures count, so that nobody can lock an
//! owner out. A device is known by a cookie of ours, never by an id that anyone can send.

use std::net::IpAddr;

use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use shared::ids::SessionId;

use crate::{app::App, db::Pool, front::Client, sessions::cookie};

use super::{DeviceId, Error, store, store::Account};

/// What failures are counted of.
struct Counted {
    what: &'static str,
    /// How many are free.
    free: i32,
    /// One is forgotten each so many seconds.
    forget_secs: i32,
}

const ACCOUNT: Counted = Counted {
    what: "account",
    free: 5,
    forget_secs: 30 * 60,
};
const DEVICE: Counted = Counted {
    what: "device",
    free: 10,
    forget_secs: 30 * 60,
};
const ADDRESS: Counted = Counted {
    what: "address",
    free: 30,
    forget_secs: 60,
};
/// A network has many people, and their mistakes.
const NETWORK: Counted = Counted {
    what: "network",
    free: 150,
    forget_secs: 12,
};

/// An attempt that was begun: it counts as a failure unless it is forgiven.
#[must_use]
pub struct Attempt(Vec<Vec<u8>>);

impl Attempt {
    /// Begins an attempt at the password of an address, by a browser that shows these cookies, and
    /// gives the account to compare it with.
    pub async fn begin(
        app: &App,
        email_normalised: &str,
        headers: &HeaderMap,
        client: &Client,
    ) -> Result<(Self, Option<Account>), Error> {
        let shown = |hash: [u8; 32]| {
            let key = key(
                app,
                &DEVICE,
                &by_device(email_normalised, &hex::encode(hash)),
            );
            store::ShownCookie { hash, key }
        };
        let asked = store::Asked {
            email_normalised,
            device: client.device.map(DeviceId::hash).map(shown),
            session: cookie::shown(&app.config, headers).map(shown),
            device_free: scaled(app, &DEVICE),
            device_forget_secs: DEVICE.forget_secs,
            by_anybody: Counts::of(app, &by_somebody(email_normalised, client.address)),
        };
        let begun = store::begin_sign_in(app.db.pool(), &asked).await?;
        Ok((Self::admit(begun.wait_secs, begun.counted)?, begun.account))
    }

    /// Begins one by somebody who is signed in: their session is a device that the account knows.
    pub async fn begin_signed_in(
        app: &App,
        email_normalised: &str,
        session: SessionId,
    ) -> Result<Self, Error> {
        let counted = [(DEVICE, by_device(email_normalised, &session.to_string()))];
        let counts = Counts::of(app, &counted);
        let wait_secs = store::begin_attempt(app.db.pool(), &counts).await?;
        Self::admit(wait_secs, counts.keys)
    }

    fn admit(wait_secs: u32, counted: Vec<Vec<u8>>) -> Result<Self, Error> {
        if wait_secs > 0 {
            return Err(Error::TooManyFailures { wait_secs });
        }
        Ok(Self(counted))
    }

    /// It was no failure: the password was right, or nobody has compared it.
    pub async fn forgive(self, db: &Pool) -> sqlx::Result<()> {
        store::forgive(db, &self.0).await
    }
}

/// What failures are counted by, as the database takes it.
pub struct Counts {
    /// Keyed hashes: the table of failures names nobody.
    pub keys: Vec<Vec<u8>>,
    pub free: Vec<i32>,
    pub forget_secs: Vec<i32>,
}

impl Counts {
    fn of(app: &App, counted: &[(Counted, String)]) -> Self {
        Self {
            keys: counted
                .iter()
                .map(|(what, value)| key(app, what, value))
                .collect(),
            free: counted.iter().map(|(what, _)| scaled(app, what)).collect(),
            forget_secs: counted.iter().map(|(what, _)| what.forget_secs).collect(),
        }
    }
}

fn scaled(app: &App, counted: &Counted) -> i32 {
    let scale = i32::try_from(app.config.limit_scale).unwrap_or(i32::MAX);
    counted.free.saturating_mul(scale)
}

fn by_device(email_normalised: &str, device: &str) -> String {
    format!("{email_normalised}\n{device}")
}

fn by_somebody(email_normalised: &str, address: Option<IpAddr>) -> Vec<(Counted, String)> {
    let mut counted = vec![(ACCOUNT, email_normalised.to_owned())];
    if let Some(address) = address {
        counted.push((ADDRESS, block(address, 32, 64)));
        counted.push((NETWORK, block(address, 24, 48)));
    }
    counted
}

fn key(app: &App, counted: &Counted, value: &str) -> Vec<u8> {
    let key = &app.config.remembering.email_hash_key;
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length");
    mac.update(format!("failures\n{}\n{value}", counted.what).as_bytes());
    mac.finalize().into_bytes()[..16].to_vec()
}

/// The block of addresses that an address is in.
fn block(address: IpAddr, v4_bits: u32, v6_bits: u32) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let bits = address.to_bits() & u32::MAX << (32 - v4_bits);
            format!("{}/{v4_bits}", std::net::Ipv4Addr::from_bits(bits))
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits() & u128::MAX << (128 - v6_bits);
            format!("{}/{v6_bits}", std::net::Ipv6Addr::from_bits(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_of_one_network_are_one_block() {
        let block = |text: &str| {
            let address = text.parse().expect("an address");
            (super::block(address, 32, 64), super::block(address, 24, 48))
        };
        let expected = ("192.0.2.7/32".to_owned(), "192.0.2.0/24".to_owned());
        assert_eq!(block("192.0.2.7"), expected);
        assert_eq!(block("::ffff:192.0.2.7"), expected);
        assert_eq!(
            block("2001:db8:1:2:3:4:5:6"),
            ("2001:db8:1:2::/64".to_owned(), "2001:db8:1::/48".to_owned())
        );
    }
}
