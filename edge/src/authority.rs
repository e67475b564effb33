//! Hosts as HTTP clients write them. What is asked under another spelling reaches the same place with
//! another `Host`, so that a proof over the spelling would not hold, and two that are one place would
//! look like two.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether a text is a host, perhaps with a port, in the one form that clients write for `scheme`: no
/// user, small letters, numbers of addresses in full, no port that goes without saying. WHATWG URL §3.5.
#[must_use]
pub fn is_plain(scheme: &str, text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let own_port = if scheme == "https" { 443 } else { 80 };
    is_host(host) && port.is_none_or(|port| is_port(port) && port != own_port.to_string())
}

fn is_host(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
        // Of an address that is IPv4's inside, the two forms differ by who writes it.
        return v6
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.to_ipv4_mapped().is_none() && address.to_string() == v6);
    }
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    let is_name = host
        .split('.')
        .all(|label| !label.is_empty() && label.bytes().all(plain));
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    is_name && (!is_number || host.parse::<Ipv4Addr>().is_ok())
}

fn is_port(port: &str) -> bool {
    port.parse::<u16>()
        .is_ok_and(|number| number > 0 && number.to_string() == port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form() {
        for (scheme, host) in [
            ("https", "notes.example"),
            ("https", "xn--9ca.example:80"),
            ("http", "notes:443"),
            ("http", "my_app-1:8080"),
            ("http", "127.0.0.1"),
            ("https", "[::1]:3000"),
            ("https", "[2001:db8::1]"),
            ("http", "1.example"),
        ] {
            assert!(is_plain(scheme, host), "{scheme}://{host}");
        }
        for (scheme, host) in [
            ("https", ""),
            ("https", "NOTES.example"),
            ("https", "notes.example:443"),
            ("http", "notes.example:80"),
            ("https", "notes.example:08443"),
            ("https", "notes.example:0"),
            ("https", "notes.example:+1"),
            ("https", "notes.example:65536"),
            ("https", "notes.example:"),
            ("https", ":1"),
            ("https", "notes.example."),
            ("https", "notes..example"),
            ("https", "u:p@notes"),
            ("https", "{x}.example"),
            ("https", "é.example"),
            ("http", "127.1"),
            ("http", "2130706433"),
            ("http", "127.0.0.01"),
            ("http", "0x7f.0.0.1"),
            ("http", "127.0.0.0x1"),
            ("http", "[0:0::1]"),
            ("http", "[::1"),
            ("http", "[2001:DB8::1]"),
            ("http", "[::ffff:7f00:1]"),
            ("http", "[::ffff:127.0.0.1]"),
            ("http", "a[]"),
            ("http", "[a.example]"),
        ] {
            assert!(!is_plain(scheme, host), "{scheme}://{host}");
        }
    }
}
