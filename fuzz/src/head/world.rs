//! The edge of the target, those behind it, and the platform between.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use base64ct::{Base64, Encoding};
use chrono::{DateTime, Utc};
use edge::{
    config::Config,
    gateway::Gateway,
    host::{Ask, Document, Host, Unread},
};
use serde_json::json;
use shared::{
    api::PRICED_HOLDS,
    gcra::{Decision, Quota},
    jwks::{JwkSet, Key},
    proof::{PROOF, ProofKey},
    revocations,
};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::joined;
use crate::{AUDIENCE, ISSUER, lenient, now, signed, signing_key};

/// Where the origin is.
pub const ORIGIN: &str = "http://origin.example:3001";
/// Whose pages may ask, besides those of routes that are for all.
pub const PAGE: &str = "https://app.example";

/// An app behind the edge.
pub struct Behind {
    /// Scheme and authority.
    pub at: &'static str,
    /// Whether the policy lets it have the token.
    pub keeps_authorization: bool,
    key: [u8; 32],
}

/// The apps, in the policy's order.
pub const APPS: [Behind; 2] = [
    Behind {
        at: "https://keeps.example",
        keeps_authorization: true,
        key: [3; 32],
    },
    Behind {
        at: "http://notes.example:8080",
        keeps_authorization: false,
        key: [2; 32],
    },
];
const ORIGIN_KEY: [u8; 32] = [4; 32];

/// A route of each kind. The patterns catch whatever no other route of theirs does.
const POLICY: &str = r#"{
    "limits": {"few": {"by": "address", "quota": 200, "exact": true}, "each": {"by": "user", "quota": 200}},
    "upstreams": {
        "notes": {"url": "http://notes.example:8080/base", "strip": "/notes"},
        "keeps": {"url": "https://keeps.example", "strip": "/keeps", "keep_authorization": true}
    },
    "routes": [
        {"path": "/validate", "methods": ["POST"], "serve": "validate"},
        {"path": "/validate", "methods": ["GET"], "serve": "validate", "auth": "required"},
        {"path": "/open/{*rest}", "methods": ["GET", "POST"], "upstream": "origin", "limits": ["few"]},
        {"path": "/either", "methods": ["GET"], "upstream": "origin", "auth": "optional", "origins": ["*"]},
        {"path": "/mine", "methods": ["GET", "POST"], "upstream": "origin", "auth": "required", "strict": true},
        {"path": "/admin", "methods": ["GET"], "upstream": "origin", "auth": "required", "role": "admin"},
        {"path": "/notes", "methods": ["GET", "POST"], "upstream": "notes", "origins": ["https://app.example"]},
        {"path": "/notes/{*rest}", "methods": ["GET", "PUT"], "upstream": "notes", "auth": "optional"},
        {"path": "/keeps", "methods": ["GET"], "upstream": "keeps", "auth": "required", "limits": ["each"]},
        {"path": "/keeps/{id}", "methods": ["POST"], "upstream": "keeps", "auth": "required", "app": "keeps",
         "cost": 2.5, "origins": ["*"]},
        {"path": "/{any}", "methods": ["DELETE"], "upstream": "origin"},
        {"path": "/{any}/{*rest}", "methods": ["GET"], "upstream": "origin"}
    ]
}"#;

/// The key of the proof towards an app, or towards the origin.
pub fn proof_key(app: Option<&Behind>) -> ProofKey {
    ProofKey::new(Zeroizing::new(app.map_or(ORIGIN_KEY, |app| app.key)))
}

/// An edge is that old, in requests, when another takes its place: to read the policy takes most of the time.
const LIFE: usize = 512;

thread_local! {
    static EDGE: RefCell<(Rc<Gateway>, usize)> = RefCell::new((edge(), 0));
}

/// An edge that has seen nothing yet.
fn edge() -> Rc<Gateway> {
    let text = |key: [u8; 32]| Base64::encode_string(&key);
    let config = Config::read(|name| match name {
        "PUBLIC_URL" => Some(ISSUER.to_owned()),
        "TOKEN_AUDIENCE" => Some(AUDIENCE.to_owned()),
        "ORIGIN_URL" => Some(ORIGIN.to_owned()),
        "EDGE_PROOF_KEY" => Some(text(ORIGIN_KEY)),
        "UPSTREAM_PROOF_KEYS" => Some(format!(
            "keeps:{}, notes:{}",
            text(APPS[0].key),
            text(APPS[1].key)
        )),
        "POLICY" => Some(POLICY.to_owned()),
        _ => None,
    });
    Gateway::new(config.expect("a setting that holds together"))
}

/// An edge, and tokens that it believes.
pub struct World {
    /// The edge.
    pub gateway: Rc<Gateway>,
    email: String,
}

impl World {
    /// One in which `$user` has this e-mail address.
    pub fn new(email: &str) -> Self {
        let gateway = EDGE.with_borrow_mut(|(gateway, age)| {
            if *age == LIFE {
                (*gateway, *age) = (edge(), 0);
            }
            *age += 1;
            gateway.clone()
        });
        Self {
            gateway,
            email: email.to_owned(),
        }
    }

    /// A header's value with tokens in place of their names.
    pub fn with_tokens(&self, value: &str) -> String {
        let tokens = [
            ("$user", "user", 1),
            ("$admin", "admin", 2),
            ("$gone", "user", GONE),
        ];
        tokens
            .into_iter()
            .fold(value.to_owned(), |value, (name, role, session)| {
                if value.contains(name) {
                    value.replacen(name, &self.token(role, session), 1)
                } else {
                    value
                }
            })
    }

    fn token(&self, role: &str, session: u128) -> String {
        let key = signing_key();
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": key.kid()});
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": Uuid::from_u128(9).to_string(), "client_id": "first-party",
            "sid": Uuid::from_u128(session).to_string(), "jti": Uuid::from_u128(7).to_string(),
            "iat": now().timestamp(), "exp": now().timestamp() + 900, "auth_time": now().timestamp(),
            "email": self.email, "role": role, "amr": ["pwd"],
        });
        signed(
            header.to_string().as_bytes(),
            claims.to_string().as_bytes(),
            &key,
        )
    }
}

/// The session that has ended.
const GONE: u128 = 3;

/// What becomes of work that never waits.
pub fn answered<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// One request on this platform.
#[derive(Clone)]
pub struct Request(Rc<Inner>);

struct Inner {
    headers: Vec<(String, String)>,
    body: String,
    ids: Cell<u64>,
    later: RefCell<Vec<Pin<Box<dyn Future<Output = ()>>>>>,
}

impl Request {
    /// A request with these headers, their names in lower case, and this body.
    pub fn new(headers: Vec<(String, String)>, body: &str) -> Self {
        Self(Rc::new(Inner {
            headers,
            body: body.to_owned(),
            ids: Cell::default(),
            later: RefCell::default(),
        }))
    }

    /// Its headers.
    pub fn headers(&self) -> &[(String, String)] {
        &self.0.headers
    }

    /// Does what was put off.
    pub fn do_later(&self) {
        for work in self.0.later.take() {
            answered(work);
        }
    }
}

impl Host for Request {
    fn now(&self) -> DateTime<Utc> {
        now()
    }

    fn new_request_id(&self) -> String {
        self.0.ids.set(self.0.ids.get() + 1);
        format!("request-{}", self.0.ids.get())
    }

    fn header(&self, name: &str) -> Option<String> {
        joined(&self.0.headers, name)
    }

    fn header_names(&self) -> String {
        self.0
            .headers
            .iter()
            .flat_map(|(name, _)| [name.as_str(), "\n"])
            .collect()
    }

    fn has_signed(&self, key: &Key, message: &[u8], signature: &[u8; 64]) -> bool {
        key.has_signed(message, signature)
    }

    async fn body(&self, limit: usize) -> Result<String, Unread> {
        let body = &self.0.body;
        if body.len() > limit {
            Err(Unread::TooLarge)
        } else {
            Ok(body.clone())
        }
    }

    async fn fetch(&self, ask: Ask) -> Result<Document, String> {
        let target = ask
            .url
            .strip_prefix(ORIGIN)
            .expect("the edge asks the origin alone");
        for (name, value) in &ask.headers {
            assert!(lenient::is_header_value(value), "{name}: {value:?}");
        }
        let has = |name: &str| ask.headers.iter().any(|(known, _)| *known == name);
        assert!(has(PROOF) == target.starts_with("/internal/"), "{target}");
        assert!(
            !has("authorization") || target == PRICED_HOLDS,
            "{target} has the token"
        );
        let body = match target.split_once('?').map_or(target, |(path, _)| path) {
            "/api/v1/auth/jwks" => json!(JwkSet {
                keys: vec![signing_key().key().jwk()]
            }),
            revocations::PATH => json!({
                "cursor": 1, "more": false, "ageMillis": 0, "floor": 0,
                "revocations": [{"session": {"id": Uuid::from_u128(GONE).to_string(), "until": i64::MAX}}],
            }),
            PRICED_HOLDS => json!({"hold": {"id": Uuid::from_u128(5).to_string()}}),
            _ => json!({}),
        };
        Ok(Document {
            status: 200,
            body: body.to_string(),
            etag: "\"1\"".to_owned(),
        })
    }

    async fn admit(&self, _key: &str, _quota: Quota) -> Result<Option<Decision>, String> {
        Ok(None)
    }

    async fn kept(&self, _name: &str, _timeout_millis: u32) -> Result<Option<String>, String> {
        Ok(None)
    }

    fn keep(&self, _name: String, text: impl FnOnce() -> Option<String> + 'static) {
        self.later(async move { drop(text()) });
    }

    async fn pause(&self, _millis: u32) {}

    fn later(&self, work: impl Future<Output = ()> + 'static) {
        self.0.later.borrow_mut().push(Box::pin(work));
    }

    fn report(&self, _report: &edge::numbers::Report) {}

    fn log(&self, line: &str) {
        assert!(
            lenient::is_header_value(line),
            "{line:?} is more than one line"
        );
    }
}
