//! What a client may ask to know or do.

use std::fmt;

/// A scope that is known here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Who somebody is.
    OpenId,
    /// What they call themselves.
    Profile,
    /// Their address.
    Email,
    /// All of it when they are not there, too.
    Offline,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::OpenId, Self::Profile, Self::Email, Self::Offline];

    /// As the wire and the database name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenId => "openid",
            Self::Profile => "profile",
            Self::Email => "email",
            Self::Offline => "offline_access",
        }
    }
}

/// Some scopes, each once and in their order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// The known ones of a list with spaces between; what is unknown is passed over (OpenID Connect Core
    /// 1.0 §3.1.2.1).
    pub fn parse(text: &str) -> Self {
        Self::of(|scope| text.split(' ').any(|word| word == scope.as_str()))
    }

    /// As the database has them.
    pub fn read(texts: &[String]) -> Self {
        Self::of(|scope| texts.iter().any(|text| text == scope.as_str()))
    }

    fn of(has: impl Fn(Scope) -> bool) -> Self {
        Self(Scope::ALL.into_iter().filter(|scope| has(*scope)).collect())
    }

    /// The same without one.
    pub fn without(&self, scope: Scope) -> Self {
        Self::of(|known| known != scope && self.has(known))
    }

    /// Whether this is one of them.
    pub fn has(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// Whether all of these are among them.
    pub fn covers(&self, others: &Self) -> bool {
        others.0.iter().all(|scope| self.has(*scope))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As the database wants them.
    pub fn texts(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|scope| scope.as_str().to_owned())
            .collect()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().join(" "))
    }
}
