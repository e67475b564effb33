//! Parameters of a request, of a query or a form. None may be there twice, and one without a value is
//! not there (RFC 6749 §3.1).

use std::collections::HashSet;

use url::form_urlencoded;

/// Longer ones are not read: they come back in URLs.
pub const MOST_BYTES: usize = 8_000;

/// The parameters, as they came.
pub struct Params(Vec<(String, String)>);

/// One is there twice, or is nothing that a text may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unclear;

impl Params {
    /// Reads a query or a form.
    pub fn parse(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text);
        Self(pairs.into_owned().collect())
    }

    /// The value of this name, if there is one.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Unclear> {
        let mut named = self.0.iter().filter(|(found, _)| found == name);
        let value = named.next().map(|(_, value)| value.as_str());
        if named.next().is_some() || value.is_some_and(|value| value.contains('\0')) {
            return Err(Unclear);
        }
        Ok(value.filter(|value| !value.is_empty()))
    }

    /// The value of a name, where it is clear.
    pub fn clear(&self, name: &str) -> Option<&str> {
        self.one(name).ok().flatten()
    }

    /// Whether some name is there twice, known here or not.
    pub fn is_unclear(&self) -> bool {
        let mut names = HashSet::new();
        let mut pairs = self.0.iter();
        pairs.any(|(name, value)| !names.insert(name) || value.contains('\0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_there_once_or_not_at_all() {
        let params = Params::parse(b"a=1&b=&c=2&c=2&d=%00&e=x+y");
        assert_eq!(params.one("a"), Ok(Some("1")));
        assert_eq!(params.one("b"), Ok(None));
        assert_eq!(params.one("z"), Ok(None));
        assert_eq!(params.one("c"), Err(Unclear));
        assert_eq!(params.one("d"), Err(Unclear));
        assert_eq!(params.one("e"), Ok(Some("x y")));
        assert!(params.is_unclear());
        for (text, is_unclear) in [("a=1&b=2", false), ("a=1&a=1", true), ("a=&b=%00", true)] {
            assert_eq!(
                Params::parse(text.as_bytes()).is_unclear(),
                is_unclear,
                "{text}"
            );
        }
    }
}
