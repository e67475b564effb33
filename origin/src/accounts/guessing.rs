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
use sqlx::PgPool;

use crate::{app::App, front::Client, sessions::cookie};

use super::{DeviceId, Error, store};

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
    /// Begins an attempt at the password of an address, by a browser that shows these cookies.
    pub async fn begin(
        app: &App,
        email_normalised: &str,
        headers: &HeaderMap,
        client: &Client,
    ) -> Result<Self, Error> {
        let device = client.device.map(DeviceId::hash);
        let session = cookie::shown(&app.config.public_url, headers);
        let (device, session) = (
            device.as_ref().map(|hash| &hash[..]),
            session.as_ref().map(|hash| &hash[..]),
        );
        let known = if device.or(session).is_some() {
            store::known_device(app.db.pool(), email_normalised, device, session).await?
        } else {
            None
        };
        let known = known.map(hex::encode);
        Self::begin_on(app, email_normalised, known.as_deref(), client).await
    }

    /// Begins one by a device that the account knows, or by somebody.
    pub async fn begin_on(
        app: &App,
        email_normalised: &str,
        known_device: Option<&str>,
        client: &Client,
    ) -> Result<Self, Error> {
        let counted = match (known_device, client.address) {
            (Some(device), _) => vec![(DEVICE, format!("{email_normalised}\n{device}"))],
            (None, None) => vec![(ACCOUNT, email_normalised.to_owned())],
            (None, Some(address)) => vec![
                (ACCOUNT, email_normalised.to_owned()),
                (ADDRESS, block(address, 32, 64)),
                (NETWORK, block(address, 24, 48)),
            ],
        };
        let keys: Vec<Vec<u8>> = counted
            .iter()
            .map(|(counted, value)| {
                let key = &app.config.remembering.email_hash_key;
                let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice())
                    .expect("HMAC takes a key of any length");
                mac.update(format!("failures\n{}\n{value}", counted.what).as_bytes());
                mac.finalize().into_bytes()[..16].to_vec()
            })
            .collect();
        let scale = i32::try_from(app.config.limit_scale).unwrap_or(i32::MAX);
        let free: Vec<i32> = counted
            .iter()
            .map(|(counted, _)| counted.free.saturating_mul(scale))
            .collect();
        let forget_secs: Vec<i32> = counted
            .iter()
            .map(|(counted, _)| counted.forget_secs)
            .collect();
        let wait_secs = store::begin_attempt(app.db.pool(), &keys, &free, &forget_secs).await?;
        if wait_secs > 0 {
            return Err(Error::TooManyFailures { wait_secs });
        }
        Ok(Self(keys))
    }

    /// It was no failure: the password was right, or nobody has compared it.
    pub async fn forgive(self, db: &PgPool) -> sqlx::Result<()> {
        store::forgive(db, &self.0).await
    }
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
