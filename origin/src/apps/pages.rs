//! Pages that people may be led to: ours, and those of apps that are registered. Anything else in a
//! `redirectTo` would make of our mails and pages a way to send people anywhere.

use url::Url;

use crate::app::App;

use super::store;

/// Why a page is refused, for the person who reads it.
pub const NO_PAGE: &str = "must be a page of an app that is registered here";

/// The page, if it is one of an app or of ours.
pub async fn page(app: &App, text: &str) -> sqlx::Result<Option<Url>> {
    let Some(page) = parse(text) else {
        return Ok(None);
    };
    let origin = page.origin().ascii_serialization();
    let is_ours = origin == app.config.public_url.origin();
    let known = is_ours || store::of_origin(app.db.pool(), &origin).await?.is_some();
    Ok(known.then_some(page))
}

/// A URL that a browser and we read alike.
fn parse(text: &str) -> Option<Url> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let page = Url::parse(text).ok().filter(|_| plain)?;
    let is_web = matches!(page.scheme(), "http" | "https");
    let is_bare = page.username().is_empty() && page.password().is_none();
    (is_web && is_bare).then_some(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "https://app.example.com";

    fn origin(text: &str) -> Option<String> {
        parse(text).map(|page| page.origin().ascii_serialization())
    }

    #[test]
    fn an_apps_page_is_of_its_origin() {
        for page in [
            "https://app.example.com",
            "https://app.example.com/",
            "https://app.example.com/a?b=https://evil.test#c",
            "https://APP.example.com:443/a",
            "https://app.example.com/@evil.test",
            "https://app.example.com/..//evil.test",
        ] {
            assert_eq!(origin(page).as_deref(), Some(APP), "{page}");
        }
    }

    #[test]
    fn whatever_only_looks_like_an_apps_page_is_not_of_its_origin() {
        for page in [
            "",
            "/a",
            "//evil.test",
            "//app.example.com",
            "app.example.com",
            "javascript:alert(1)//https://app.example.com",
            "data:text/html,x",
            "ftp://app.example.com/",
            "blob:https://app.example.com/1",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.test",
            "https://app.example.com.",
            "https://evil.test/https://app.example.com",
            "https://evil.test?https://app.example.com",
            "https://evil.test#https://app.example.com",
            "https://app.example.com@evil.test",
            "https://app.example.com:pass@evil.test",
            "https://user@app.example.com",
            "https://evil.test\\@app.example.com",
            "https://app.example.com\\@evil.test",
            "https:\\\\app.example.com",
            "https://app.example.com\n.evil.test",
            "https://app.example.com\t",
            " https://app.example.com",
            "https://app.example.com%2eevil.test",
            "https://app.exämple.com",
            "https://аpp.example.com",
        ] {
            assert_ne!(origin(page).as_deref(), Some(APP), "{page}");
        }
    }
}
