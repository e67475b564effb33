//! Where people may be sent back to. What was registered is compared letter by letter, and never taken
//! apart: nothing in a URL that browsers read in another way than we do can matter (RFC 9700 §4.1.3).
//! Only the port of a native app on this machine is its own to choose (RFC 8252 §7.3).

use url::Url;

/// Whether a URI that was asked for is the registered one.
pub fn is_same(registered: &str, asked: &str) -> bool {
    if registered == asked {
        return true;
    }
    match (without_port(registered), without_port(asked)) {
        (Some(registered), Some(asked)) => registered == asked,
        _ => false,
    }
}

/// The host and what follows the port, of a URI on loopback.
fn without_port(uri: &str) -> Option<(&str, &str)> {
    let hosts = ["http://127.0.0.1", "http://[::1]"];
    let host = hosts.into_iter().find(|host| uri.starts_with(host))?;
    let rest = &uri[host.len()..];
    let rest = match rest.strip_prefix(':') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit());
            let (port, rest) = rest.split_at(end.unwrap_or(rest.len()));
            port.parse::<u16>().ok()?;
            rest
        }
        None => rest,
    };
    let is_whole = rest.is_empty() || rest.starts_with(['/', '?']);
    is_whole.then_some((host, rest))
}

/// A URI that an operator may register: https, http on this machine, or a scheme of an app's own, which
/// has a dot (RFC 8252 §7.1). None has a fragment or a user.
pub fn registrable(text: &str) -> Result<String, &'static str> {
    const WHY: &str = "must be an https:// URL, http:// on loopback, or of a scheme with a dot; without user and fragment";
    let is_plain = text.len() <= 2_000
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\\#\"<>*".contains(&byte));
    let url = Url::parse(text).ok().filter(|_| is_plain).ok_or(WHY)?;
    let is_bare = url.username().is_empty() && url.password().is_none();
    let is_good = match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(&url),
        scheme => scheme.contains('.'),
    };
    // Written as browsers read it, so that what is compared is what is followed.
    let is_canonical = url.as_str() == text || url.as_str().strip_suffix('/') == Some(text);
    if is_good && is_bare && is_canonical {
        Ok(text.to_owned())
    } else {
        Err(WHY)
    }
}

/// Whether what comes back there comes to whom it is meant for: a server by its name. A port of this machine
/// and a scheme of an app's own belong to whichever program takes them (RFC 8252 §8.6).
pub fn is_assured(uri: &str) -> bool {
    uri.starts_with("https://")
}

/// One that a server is asked at: https, or http on this machine.
pub fn web(text: &str) -> Result<String, &'static str> {
    let uri = registrable(text)?;
    if uri.starts_with("https://") || uri.starts_with("http://") {
        Ok(uri)
    } else {
        Err("must be an https:// URL, or http:// on loopback")
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_is_the_registered_one_to_the_letter() {
        let registered = "https://app.example/cb?x=1";
        assert!(is_same(registered, registered));
        for asked in [
            "",
            "https://app.example/cb",
            "https://app.example/cb?x=1&y=2",
            "https://app.example/cb?x=1#",
            "https://app.example/cb/?x=1",
            "https://app.example/CB?x=1",
            "https://APP.example/cb?x=1",
            "https://app.example:443/cb?x=1",
            "https://app.example:8443/cb?x=1",
            "https://app.example/%63b?x=1",
            "https://app.example/a/../cb?x=1",
            "https://user@app.example/cb?x=1",
            "https://app.example@evil.test/cb?x=1",
            "https://app.example.evil.test/cb?x=1",
            "http://app.example/cb?x=1",
            " https://app.example/cb?x=1",
        ] {
            assert!(!is_same(registered, asked), "{asked}");
        }
    }

    #[test]
    fn the_port_of_loopback_is_the_apps_own() {
        for (registered, asked) in [
            ("http://127.0.0.1/cb", "http://127.0.0.1:49152/cb"),
            ("http://127.0.0.1:8000/cb", "http://127.0.0.1:1/cb"),
            ("http://[::1]:8000/cb", "http://[::1]/cb"),
        ] {
            assert!(is_same(registered, asked), "{asked}");
        }
        for (registered, asked) in [
            ("http://127.0.0.1/cb", "http://127.0.0.1:49152/other"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:65536/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:80@evil.test/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.1.evil.test/cb"),
            ("http://127.0.0.1", "http://127.0.0.1@evil.test"),
            ("http://127.0.0.1/cb", "http://[::1]/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.2/cb"),
            ("http://127.0.0.1/cb", "https://127.0.0.1:1/cb"),
            ("http://localhost:8000/cb", "http://localhost:8001/cb"),
            ("https://app.example/cb", "https://app.example:1/cb"),
        ] {
            assert!(!is_same(registered, asked), "{asked}");
        }
    }

    #[test]
    fn what_browsers_read_in_another_way_is_not_registered() {
        for good in [
            "https://app.example/cb",
            "https://app.example",
            "http://localhost:3000/cb",
            "http://127.0.0.1/cb",
            "com.example.app:/cb",
        ] {
            assert!(registrable(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://app.example/cb",
            "https://app.example/cb#x",
            "https://user@app.example/cb",
            "https://app.example/a/../cb",
            "https://APP.example/cb",
            "https://app.example:443/cb",
            "https://app.example\\@evil.test/",
            "https://*.app.example/cb",
            "javascript:alert(1)",
            "data:text/html,x",
            "myapp:/cb",
            "https://app.exämple/cb",
        ] {
            assert!(registrable(bad).is_err(), "{bad}");
        }
    }
}
