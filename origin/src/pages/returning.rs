//! Where somebody is led once they have signed in: one of our own paths, or a page of a registered app.
//! Whatever else a `returnUrl` says counts as not said, and is neither followed nor shown.

use url::{Position, Url, form_urlencoded};

use crate::{app::App, apps};

/// Browsers and proxies take no longer lines everywhere; a request of a relying party fits.
const MAX_BYTES: usize = 4_000;
/// What of ours may lead on to anywhere: to relying parties.
const LEADING_ON: [&str; 3] = ["/oauth2/", "/api/oidc/", "/api/auth/oauth2/"];

/// Where to return to, if anybody has said so.
#[derive(Clone, Debug, Default)]
pub struct ReturnTo(Option<Url>);

impl ReturnTo {
    /// What a `returnUrl` says, if it may be followed.
    pub async fn parse(app: &App, text: &str) -> sqlx::Result<Self> {
        if text.is_empty() || text.len() > MAX_BYTES {
            return Ok(Self(None));
        }
        let public = app.config.public_url.origin();
        let url = match local(public, text) {
            Some(url) => Some(url),
            None => apps::page(app, text).await?,
        };
        Ok(Self(url))
    }

    /// To that page of ours or of an app's.
    pub fn to(url: Option<Url>) -> Self {
        Self(url)
    }

    /// The page, if there is one.
    pub fn url(&self) -> Option<&Url> {
        self.0.as_ref()
    }

    /// The page, or the account's.
    pub fn or_account(&self, app: &App) -> Url {
        let home = || {
            let url = format!("{}/account", app.config.public_url.origin());
            Url::parse(&url).expect("our own origin is one of a URL")
        };
        self.0.clone().unwrap_or_else(home)
    }

    /// As [`Self::parse`] reads it: of ours the path is enough.
    pub fn text(&self, app: &App) -> String {
        self.0.as_ref().map_or_else(String::new, |url| {
            if is_ours(app, url) {
                url[Position::BeforePath..].to_owned()
            } else {
                url.as_str().to_owned()
            }
        })
    }

    /// A path of ours that takes it along.
    pub fn along(&self, app: &App, path: &str, more: &[(&str, &str)]) -> String {
        let text = self.text(app);
        let back = (!text.is_empty()).then_some(("returnUrl", text.as_str()));
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(more)
            .extend_pairs(back)
            .finish();
        if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{query}")
        }
    }
}

/// Whether a page is one of our origin.
pub fn is_ours(app: &App, url: &Url) -> bool {
    url.origin().ascii_serialization() == app.config.public_url.origin()
}

/// Whether it is ours, and leads on from there.
pub fn goes_on(app: &App, url: &Url) -> bool {
    let path = url.path();
    is_ours(app, url) && LEADING_ON.iter().any(|prefix| path.starts_with(prefix))
}

/// The path of ours that a text is, as a browser and we read it alike.
fn local(public: &str, text: &str) -> Option<Url> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if !plain || !text.starts_with('/') || text.starts_with("//") {
        return None;
    }
    let base = Url::parse(public).ok()?;
    let url = base.join(text).ok()?;
    // `/.//evil.test` would be another host's, were its path written by itself.
    let is_local = url.origin() == base.origin() && !url.path().starts_with("//");
    is_local.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_ours_and_nothing_that_only_looks_like_one() {
        let home = "https://id.example.org";
        let path = |text| local(home, text).map(|url| url[Position::BeforePath..].to_owned());
        for (text, expected) in [
            ("/", "/"),
            ("/account?a=b#c", "/account?a=b#c"),
            ("/a/../account", "/account"),
            ("/a?b=//evil.test", "/a?b=//evil.test"),
            ("/%2F%2Fevil.test", "/%2F%2Fevil.test"),
            ("/%5Cevil.test", "/%5Cevil.test"),
            ("/a%0d%0aLocation:x", "/a%0d%0aLocation:x"),
        ] {
            assert_eq!(path(text).as_deref(), Some(expected), "{text}");
        }
        for evil in [
            "",
            "account",
            "//evil.test",
            "///evil.test",
            "/\\evil.test",
            "\\\\evil.test",
            "/.//evil.test",
            "/a/..//evil.test",
            "/%2e//evil.test",
            "/\tevil",
            "/a\r\nLocation: https://evil.test",
            " /account",
            "javascript:alert(1)",
            "https://evil.test/account",
            "/ä",
        ] {
            assert_eq!(path(evil), None, "{evil:?}");
        }
    }
}
