//! Typed identifiers: a UUIDv7 (RFC 9562 §5.7) each, so that rows sort by the time they were
//! made and a session can never be passed where a user is meant. They are made at the rim, but for
//! a transaction with an idempotency key, which is named by that key (`UUIDv8`, §5.8).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name(Uuid);

        impl $name {
            /// The bare UUID, for a database or a wire that knows no types.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::from_str(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// An account; the `sub` of its tokens.
    UserId;
    /// A device that is signed in; the `sid` of its tokens, and what a revocation names.
    SessionId;
    /// One access token; its `jti`.
    TokenId;
    /// One movement of credits.
    TransactionId;
    /// One purchase of credits.
    PurchaseId;
    /// An account at another provider that is linked to one here.
    OutsideAccountId;
}
