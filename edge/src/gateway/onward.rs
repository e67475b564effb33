//! A request as it goes on, to the origin or to an app behind the edge: what of it goes on, and the
//! edge's word for who asks, under a proof of its own for each. RFC 9110 §7.6.

use std::{borrow::Cow, fmt::Write, rc::Rc};

use shared::{
    problem::{Code, Problem},
    proof::{self, Parts, ProofKey, Purpose},
    tokens::Verified,
};

use super::{Gateway, apart};
use crate::{
    host::{Ask, Forward, Head, Headers, Host},
    limits::Rates,
    policy::{Destination, Route},
};

/// What concerns one connection alone (RFC 9110 §7.6.1), what a proxy is told, what a client says of the
/// way that its request came, since the edge knows that itself, and by what some read another path or
/// method than we matched.
const DROPPED: [&str; 20] = [
    "cf-connecting-ip",
    "connection",
    "fastly-client-ip",
    "forwarded",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

const TRACEPARENT: &str = "traceparent";

/// Somebody behind the edge, as this request reaches them.
struct Behind<'a> {
    /// Scheme and authority.
    at: &'a str,
    host: &'a str,
    /// Path with query.
    target: String,
    key: &'a ProofKey,
}

impl Gateway {
    /// The request as it goes on, under the edge's proof; where it has a price, with that put aside.
    pub(super) async fn forward<H: Host>(
        self: &Rc<Self>,
        host: &H,
        head: &Head,
        route: &Route,
        caller: Option<&Verified>,
        rates: &Rates<'_>,
    ) -> Result<Forward, Problem> {
        has_fit_body(host, head, route)?;
        let request_id = host.new_request_id();
        let (behind, dropped, further) = match route.to {
            Destination::App(index) => {
                let upstream = self.config.policy.upstream(index);
                let (dropped, further) =
                    passed_on(host, head, upstream.keeps_authorization, &request_id);
                let behind = Behind {
                    at: &upstream.at,
                    host: upstream.host(),
                    target: format!("{}{}", upstream.path(&head.path), head.query),
                    key: &self.config.upstream_keys[index],
                };
                (behind, dropped, further)
            }
            Destination::Origin | Destination::Edge(_) => {
                let behind = Behind {
                    at: &self.config.origin,
                    host: self.config.origin_host(),
                    target: format!("{}{}", head.path, head.query),
                    key: &self.config.proof_key,
                };
                let names = host.header_names();
                let trace = begun_trace(host, &names, &request_id);
                let dropped = names
                    .lines()
                    .filter(|&name| is_reserved(name) || (trace.is_some() && name == TRACEPARENT));
                let dropped = dropped.map(str::to_owned).collect();
                (behind, dropped, trace.into_iter().collect())
            }
        };
        let settlement = match (route.price(&head.method), caller) {
            (None, _) => None,
            (Some(price), Some(caller)) => {
                let opened = self.put_aside(host, head, route, price, caller, &request_id);
                Some(apart(opened).await?)
            }
            // The policy has none such; a call would be free.
            (Some(_), None) => return Err(Problem::new(Code::Internal, Code::Internal.title())),
        };
        let mut headers = vouch(host, head, &behind, caller, &request_id);
        headers.extend(further);
        let mut answer_headers: Headers = rates.headers().collect();
        // The origin says it itself.
        if let Destination::App(_) = route.to {
            answer_headers.push((proof::REQUEST_ID, request_id.clone().into()));
        }
        Ok(Forward {
            url: format!("{}{}", behind.at, behind.target),
            dropped,
            headers,
            timeout_secs: route.timeout_secs,
            settlement,
            answer_headers,
            request_id,
        })
    }

    /// A call of the edge's own to the origin.
    pub(super) fn internal<H: Host>(
        &self,
        host: &H,
        method: &'static str,
        target: &str,
        body: Option<String>,
        timeout_millis: u32,
    ) -> Ask {
        let request_id = host.new_request_id();
        let sent = body.as_deref().unwrap_or_default();
        let parts = Parts {
            method,
            host: self.config.origin_host(),
            request_id: &request_id,
            ..Parts::of_the_edge(Purpose::Internal(sent.as_bytes()), target)
        };
        let proof = self.config.proof_key.prove(&parts, host.now());
        Ask {
            method,
            url: format!("{}{target}", self.config.origin),
            headers: vec![
                (proof::PROOF, proof.into()),
                (proof::REQUEST_ID, request_id.into()),
            ],
            body,
            timeout_millis,
        }
    }
}

/// The edge's word for who asks.
fn vouch<H: Host>(
    host: &H,
    head: &Head,
    behind: &Behind<'_>,
    caller: Option<&Verified>,
    request_id: &str,
) -> Headers {
    let address = head.address.to_string();
    let subject = caller
        .map(|caller| caller.claims.sub.to_string())
        .unwrap_or_default();
    let role = caller.map_or("", |caller| caller.claims.role.as_str());
    let email = caller
        .map(|caller| header_text(&caller.claims.email))
        .unwrap_or_default();
    let parts = Parts {
        purpose: Purpose::Forward,
        method: &head.method,
        host: behind.host,
        target: &behind.target,
        address: &address,
        subject: &subject,
        role,
        email: &email,
        request_id,
    };
    let proof = behind.key.prove(&parts, host.now());
    let mut headers: Headers = vec![
        (proof::PROOF, proof.into()),
        (proof::ADDRESS, address.into()),
        (proof::REQUEST_ID, request_id.to_owned().into()),
    ];
    if caller.is_some() {
        headers.push((proof::SUBJECT, subject.into()));
        headers.push((proof::ROLE, role.into()));
        headers.push((proof::EMAIL, email.into()));
    }
    headers
}

/// What of a request does not go on to an app, and what goes on besides the edge's word: neither what
/// concerns this connection alone, nor our cookies, nor the token unless the policy keeps it.
fn passed_on<H: Host>(
    host: &H,
    head: &Head,
    keeps_authorization: bool,
    request_id: &str,
) -> (Vec<String>, Headers) {
    let names = host.header_names();
    let has = |name: &str| names.lines().any(|known| known == name);
    let named_by_connection = if has("connection") {
        host.header("connection")
            .unwrap_or_default()
            .to_ascii_lowercase()
    } else {
        String::new()
    };
    let hops: Vec<&str> = named_by_connection.split(',').map(str::trim).collect();
    let mut headers: Headers = vec![("x-forwarded-for", head.address.to_string().into())];
    let trace = begun_trace(host, &names, request_id);
    let cookies = if has("cookie") {
        host.header("cookie")
    } else {
        None
    };
    let cookies = cookies.map(|cookies| without_ours(&cookies).join("; "));
    let dropped = names.lines().filter(|&name| {
        let read_as = with_hyphens(name);
        is_reserved(name)
            || DROPPED.contains(&&*read_as)
            || read_as.starts_with("x-forwarded")
            // These go on as we have them.
            || name == "cookie"
            || name == "via"
            || (trace.is_some() && name == TRACEPARENT)
            // A protocol that the connection is to become is the next one's to agree to.
            || (name != "upgrade" && hops.contains(&name))
            || (name == "authorization" && !keeps_authorization)
    });
    let dropped = dropped.map(str::to_owned).collect();
    if let Some(cookies) = cookies.filter(|cookies| !cookies.is_empty()) {
        headers.push(("cookie", cookies.into()));
    }
    let via = if has("via") { host.header("via") } else { None };
    let via = via.map_or(Cow::Borrowed("1.1 tollgate"), |via| {
        format!("{via}, 1.1 tollgate").into()
    });
    headers.push(("via", via));
    headers.extend(trace);
    (dropped, headers)
}

/// The cookies of a request that are not ours.
fn without_ours(cookies: &str) -> Vec<&str> {
    let pairs = cookies.split(';').map(str::trim);
    pairs
        .filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            let name = name
                .strip_prefix("__Host-")
                .or(name.strip_prefix("__Secure-"))
                .unwrap_or(name);
            !pair.is_empty() && !name.starts_with("tollgate")
        })
        .collect()
}

/// The begin of a trace, where a request with headers of these names is in none; named by the request's id,
/// which is random. W3C Trace Context §3.2.
fn begun_trace<H: Host>(
    host: &H,
    names: &str,
    request_id: &str,
) -> Option<(&'static str, Cow<'static, str>)> {
    let is_in_one = names.lines().any(|name| name == TRACEPARENT)
        && host.header(TRACEPARENT).is_some_and(|text| is_trace(&text));
    (!is_in_one).then(|| (TRACEPARENT, new_trace(request_id).into()))
}

/// Whether a text says which trace a request is in, in a version that is or may come (W3C Trace Context §3.2.2).
fn is_trace(text: &str) -> bool {
    let is_hex = |part: &str, digits| {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        part.len() == digits && part.bytes().all(is_digit)
    };
    let is_id = |part, digits| is_hex(part, digits) && part.bytes().any(|byte| byte != b'0');
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    match parts.as_slice() {
        [version, trace, parent, flags, more @ ..] => {
            let may_be = *version != "ff" && (more.is_empty() || *version != "00");
            may_be
                && is_hex(version, 2)
                && is_id(trace, 32)
                && is_id(parent, 16)
                && is_hex(flags, 2)
        }
        _ => false,
    }
}

fn new_trace(request_id: &str) -> String {
    let digits = request_id
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(char::from);
    let id: String = digits.chain(std::iter::repeat('0')).take(32).collect();
    format!("00-{id}-{}-01", &id[..16])
}

/// Refuses a body by what the request says of it. One that is too large, since whoever is behind would close
/// the connection while the client is still sending, who would then never see why. One that does
/// not say how long it is, where the policy sets a limit; a `DELETE` mostly has none. And one of a `GET` and
/// the like, which no worker can hand on and nobody reads. RFC 9110 §9.3.1.
fn has_fit_body<H: Host>(host: &H, head: &Head, route: &Route) -> Result<(), Problem> {
    let length = host
        .header("content-length")
        .and_then(|text| text.parse::<u64>().ok());
    let method = head.method.as_str();
    if !matches!(method, "DELETE" | "PATCH" | "POST" | "PUT") {
        let has_none = length.unwrap_or(0) == 0 && host.header("transfer-encoding").is_none();
        let says = || format!("a {method} takes no body");
        return if has_none {
            Ok(())
        } else {
            Err(Problem::new(Code::InvalidRequest, says()))
        };
    }
    match length {
        Some(length) if length > route.max_body => Err(too_large(route.max_body)),
        None if route.needs_length && method != "DELETE" => Err(Problem::new(
            Code::LengthRequired,
            "the request must say how long its body is, by `Content-Length`",
        )),
        _ => Ok(()),
    }
}

pub(super) fn too_large(limit: u64) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("at most {limit} bytes"))
}

/// Whether a header's name, in lower case, is ours to set.
fn is_reserved(name: &str) -> bool {
    with_hyphens(name).starts_with("tollgate-")
}

/// A header's name as those read it that take `_` for `-`. RFC 3875 §4.1.18.
fn with_hyphens(name: &str) -> Cow<'_, str> {
    if name.contains('_') {
        name.replace('_', "-").into()
    } else {
        name.into()
    }
}

/// A text that any header can carry: what is not visible ASCII is percent-encoded.
fn header_text(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            if byte.is_ascii_graphic() && byte != b'%' {
                out.push(byte.into());
            } else {
                write!(out, "%{byte:02X}").expect("a String takes all");
            }
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_cookies_stay_here() {
        for (cookies, rest) in [
            ("a=1; tollgate=x; b=2", "a=1; b=2"),
            ("__Host-tollgate=x", ""),
            (
                "__Secure-tollgate=x; __Host-tollgate-device=y; __Host-a=1",
                "__Host-a=1",
            ),
            ("a=tollgate; ;", "a=tollgate"),
        ] {
            assert_eq!(without_ours(cookies).join("; "), rest, "{cookies}");
        }
    }

    #[test]
    fn a_trace_is_begun_in_its_form() {
        let trace = new_trace("018f5e2a-7b1c-4d3e-8f90-a1b2c3d4e5f6");
        assert_eq!(
            trace,
            "00-018f5e2a7b1c4d3e8f90a1b2c3d4e5f6-018f5e2a7b1c4d3e-01"
        );
        assert_eq!(new_trace("request-1").len(), trace.len());
    }

    #[test]
    fn what_is_no_trace_is_told_from_one() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let all = |version: &str, more: &str| format!("{version}-{trace}-{parent}-01{more}");
        assert!(is_trace(&all("00", "")) && is_trace(&all("01", "-more")));
        for bad in [
            String::new(),
            "made up".to_owned(),
            all("ff", ""),
            all("0", ""),
            all("00", "-more"),
            all("00", "é"),
            all("00", "").to_uppercase(),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{parent}"),
        ] {
            assert!(!is_trace(&bad), "{bad}");
        }
    }
}
