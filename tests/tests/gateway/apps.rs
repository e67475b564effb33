//! Apps behind the edge, on every platform: what of a request reaches them and under whose word, and
//! what a call costs whom.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use axum::http::{Request, Response};
use serde_json::{Value, json};
use shared::{
    api::PRICED_HOLDS,
    claims::AccessClaims,
    jwt,
    proof::{ADDRESS, EMAIL, PROOF, Parts, ProofKey, Purpose, REQUEST_ID, ROLE, SUBJECT},
};
use tests::{Issuer, Seen, Stub};
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::{
    setting::{APP_KEYS, Setting},
    suite::Edge,
};

const CLIENT: &str = "192.0.2.1";
const COST: &str = "tollgate-cost";
const GONE: &str = "http://127.0.0.1:9";

fn policy(app: &str) -> String {
    json!({
        "upstreams": {
            "notes": {"url": format!("{app}/v2"), "strip": "/notes"},
            "keeps": {"url": app, "keep_authorization": true},
            "nobody": {"url": GONE},
        },
        "routes": [
            {"path": "/notes", "methods": ["GET"], "upstream": "notes"},
            {"path": "/notes/{*rest}", "methods": ["GET", "POST"], "upstream": "notes", "auth": "optional",
             "max_body": 10},
            {"path": "/pages", "methods": ["GET"], "upstream": "keeps", "auth": "required"},
            {"path": "/pages", "methods": ["OPTIONS"], "upstream": "keeps"},
            {"path": "/keeps", "methods": ["GET"], "upstream": "keeps", "auth": "required"},
            {"path": "/hangs", "methods": ["GET"], "upstream": "keeps", "auth": "required", "timeout": 1,
             "app": "keeps", "cost": 5},
            {"path": "/priced/{id}", "methods": ["GET", "POST"], "upstream": "keeps", "auth": "required",
             "app": "keeps", "cost": {"POST": 5}},
            {"path": "/dear", "methods": ["GET"], "upstream": "keeps", "auth": "required", "app": "keeps",
             "cost": 100.001},
            {"path": "/nobody", "methods": ["GET"], "upstream": "nobody", "auth": "required", "app": "nobody",
             "cost": 1}
        ]
    })
    .to_string()
}

/// An edge with an app behind it.
struct Rig {
    edge: Edge,
    origin: Stub,
    app: Stub,
    claims: AccessClaims,
    token: String,
}

/// Asks for everything on the edge that `start` starts.
pub async fn run(start: impl AsyncFn(&Setting) -> Result<Edge>) -> Result<()> {
    let issuer = Issuer::new("http://127.0.0.1:8787", 7);
    let (origin, app) = (Stub::start(issuer.jwks())?, Stub::start(issuer.jwks())?);
    let setting = Setting::new(issuer.url(), &origin, policy(&app.url));
    let claims = issuer.claims();
    let rig = Rig {
        edge: start(&setting).await?,
        token: jwt::sign(&claims, issuer.key()),
        claims,
        origin,
        app,
    };
    rig.only_what_concerns_an_app_reaches_it().await?;
    rig.a_token_goes_on_where_the_policy_keeps_it().await?;
    rig.an_app_answers_browsers_where_the_policy_says_so()
        .await?;
    rig.a_body_is_as_large_as_the_route_allows().await?;
    rig.a_call_costs_what_it_came_to().await?;
    rig.who_has_too_little_is_told_and_the_app_is_not_called()
        .await?;
    rig.what_was_not_answered_costs_nothing().await?;
    rig.an_origin_that_is_back_soon_still_settles().await
}

impl Rig {
    async fn ask(
        &self,
        request: axum::http::request::Builder,
        body: &str,
    ) -> Result<Response<String>> {
        let request = request.header("authorization", format!("Bearer {}", self.token));
        self.ask_bare(request, body).await
    }

    async fn ask_bare(
        &self,
        request: axum::http::request::Builder,
        body: &str,
    ) -> Result<Response<String>> {
        let request = if body.is_empty() {
            request
        } else {
            request.header("content-length", body.len())
        };
        self.edge
            .ask(CLIENT.parse()?, request.body(body.to_owned())?)
            .await
    }

    async fn only_what_concerns_an_app_reaches_it(&self) -> Result<()> {
        let request = [
            (
                "cookie",
                "theme=dark; __Host-tollgate=secret; tollgate-device=x",
            ),
            ("tollgate-subject", "eve"),
            ("tollgate_role", "eve"),
            ("tollgate-cost", "0"),
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=203.0.113.9"),
            ("x-real-ip", "203.0.113.9"),
            ("x_real_ip", "203.0.113.9"),
            ("x_forwarded_for", "203.0.113.9"),
            ("proxy-authorization", "Basic eve"),
            ("x-http-method-override", "DELETE"),
            ("x-forwarded-host", "eve.example"),
            ("cookie", "tollgate=second; lang=de"),
            ("x-mine", "kept"),
            ("via", "1.1 other"),
        ]
        .into_iter()
        .fold(
            Request::get("/notes/a%20b?x=1&y"),
            |request, (name, value)| request.header(name, value),
        );
        let answer = self.ask(request, "").await?;
        assert_eq!(answer.status(), 200, "{}", answer.body());
        let seen = only(&self.app)?;
        assert_eq!(seen.target, "/v2/a%20b?x=1&y");
        for (name, value) in [
            ("cookie", "theme=dark; lang=de"),
            ("x-mine", "kept"),
            ("x-forwarded-for", CLIENT),
            ("via", "1.1 other, 1.1 tollgate"),
        ] {
            assert_eq!(header(&seen, name), value, "{name}");
        }
        for name in [
            "authorization",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "x_forwarded_for",
            "proxy-authorization",
            "x-http-method-override",
            "x-forwarded-host",
            COST,
            "tollgate_role",
        ] {
            assert!(!seen.headers.contains_key(name), "{name} of {seen:?}");
        }
        let trace: Vec<&str> = header(&seen, "traceparent").split('-').collect();
        assert_eq!(
            trace.iter().map(|part| part.len()).collect::<Vec<_>>(),
            [2, 32, 16, 2]
        );
        is_proven(&seen, "GET", Some(&self.claims));
        assert_eq!(answer.headers()[REQUEST_ID], header(&seen, REQUEST_ID));

        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let request = Request::get("/notes")
            .header("traceparent", traceparent)
            .header("cookie", "tollgate=secret");
        self.ask_bare(request, "").await?;
        let seen = only(&self.app)?;
        assert_eq!(
            (seen.target.as_str(), header(&seen, "traceparent")),
            ("/v2", traceparent)
        );
        assert!(!seen.headers.contains_key("cookie"), "{seen:?}");
        is_proven(&seen, "GET", None);

        // What is no trace gives way to one.
        let request = Request::get("/notes").header("traceparent", "00-made-up-01");
        self.ask_bare(request, "").await?;
        let seen = only(&self.app)?;
        let traces: Vec<_> = seen.headers.get_all("traceparent").iter().collect();
        let [trace] = traces.as_slice() else {
            panic!("one trace: {seen:?}");
        };
        let parts = trace.to_str()?.split('-').map(str::len);
        assert_eq!(parts.collect::<Vec<_>>(), [2, 32, 16, 2]);
        Ok(())
    }

    async fn a_token_goes_on_where_the_policy_keeps_it(&self) -> Result<()> {
        self.ask(Request::get("/keeps"), "").await?;
        let seen = only(&self.app)?;
        assert_eq!(
            header(&seen, "authorization"),
            format!("Bearer {}", self.token)
        );
        Ok(())
    }

    async fn an_app_answers_browsers_where_the_policy_says_so(&self) -> Result<()> {
        let question = |path| {
            Request::builder()
                .method("OPTIONS")
                .uri(path)
                .header("origin", "https://app.example")
                .header("access-control-request-method", "GET")
        };
        assert_eq!(self.ask_bare(question("/pages"), "").await?.status(), 200);
        let seen = only(&self.app)?;
        assert_eq!((&*seen.method, &*seen.target), ("OPTIONS", "/pages"));
        assert_eq!(self.ask_bare(question("/keeps"), "").await?.status(), 403);
        nothing(&self.app);
        Ok(())
    }

    async fn a_body_is_as_large_as_the_route_allows(&self) -> Result<()> {
        let answer = self.ask(Request::post("/notes/a"), "ten bytes.").await?;
        assert_eq!(answer.status(), 200, "{}", answer.body());
        assert_eq!(only(&self.app)?.body, "ten bytes.");
        let answer = self.ask(Request::post("/notes/a"), "eleven byte").await?;
        assert_eq!(problem(&answer)["code"], "BODY_TOO_LARGE");
        nothing(&self.app);
        Ok(())
    }

    async fn a_call_costs_what_it_came_to(&self) -> Result<()> {
        for (query, charged) in [
            ("", Some(json!(5))),
            ("?costs=2.5", Some(json!(2.5))),
            ("?costs=6", Some(json!(5))),
            ("?costs=nothing", Some(json!(5))),
            ("?answers=302", Some(json!(5))),
            ("?costs=0", None),
            ("?answers=404&costs=5", None),
            ("?answers=500", None),
        ] {
            let target = format!("/priced/1{query}");
            // Neither the id nor the price is the client's to choose.
            let request = Request::post(&target)
                .header(REQUEST_ID, "chosen")
                .header(COST, "0")
                .header("idempotency-key", "chosen");
            let answer = self.ask(request, "a body").await?;
            assert!(!answer.headers().contains_key(COST), "{answer:?}");
            let seen = only(&self.app)?;
            let settled = self.settled(2).await?;
            let [opened, settled] = settled.as_slice() else {
                panic!("{target}: {settled:?}");
            };
            let order: Value = serde_json::from_slice(&opened.body)?;
            assert_eq!(
                order,
                json!({"amount": 5, "appId": "keeps", "description": "POST /priced/{id}", "expiresIn": 80,
                    "idempotencyKey": header(&seen, REQUEST_ID)}),
            );
            assert_eq!(
                header(opened, "authorization"),
                format!("Bearer {}", self.token)
            );
            let how = if charged.is_some() {
                "/capture"
            } else {
                "/void"
            };
            assert!(settled.target.ends_with(how), "{target}: {settled:?}");
            assert!(!settled.headers.contains_key("authorization"));
            let body: Value = serde_json::from_slice(&settled.body)?;
            let mut wanted = json!({"userId": self.claims.sub});
            if let Some(charged) = charged {
                wanted["amount"] = charged;
            }
            assert_eq!(body, wanted, "{target}");
        }
        self.ask(Request::get("/priced/1"), "").await?;
        only(&self.app)?;
        nothing(&self.origin);
        Ok(())
    }

    async fn who_has_too_little_is_told_and_the_app_is_not_called(&self) -> Result<()> {
        let answer = self.ask(Request::get("/dear"), "").await?;
        let problem = problem(&answer);
        assert_eq!(
            (&problem["code"], &problem["available"]),
            (&json!("INSUFFICIENT_CREDITS"), &json!(100))
        );
        assert_eq!(problem["instance"], answer.headers()[REQUEST_ID].to_str()?);
        nothing(&self.app);
        only(&self.origin)?;
        let answer = self.ask_bare(Request::get("/dear"), "").await?;
        assert_eq!(answer.status(), 401);
        nothing(&self.origin);
        Ok(())
    }

    async fn what_was_not_answered_costs_nothing(&self) -> Result<()> {
        for (target, code) in [
            ("/nobody", "UPSTREAM_UNREACHABLE"),
            ("/hangs", "UPSTREAM_TIMEOUT"),
        ] {
            let answer = self.ask(Request::get(target), "").await?;
            assert_eq!(problem(&answer)["code"], code, "{target}");
            let settled = self.settled(2).await?;
            assert!(
                settled[1].target.ends_with("/void"),
                "{target}: {settled:?}"
            );
        }
        Ok(())
    }

    async fn an_origin_that_is_back_soon_still_settles(&self) -> Result<()> {
        self.origin.fail(2);
        let begun = Instant::now();
        let answer = self.ask(Request::post("/priced/1"), "").await?;
        assert_eq!(answer.status(), 200, "{}", answer.body());
        let settled = self.settled(4).await?;
        assert!(begun.elapsed() > Duration::from_secs(2), "{settled:?}");
        let mut attempts = settled[1..].iter();
        assert!(
            attempts.all(|seen| seen.target.ends_with("/capture")),
            "{settled:?}"
        );
        Ok(())
    }

    /// Waits until the origin has been asked so often about prices.
    async fn settled(&self, calls: usize) -> Result<Vec<Seen>> {
        let begun = Instant::now();
        while self.origin.seen().len() < calls {
            ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "nothing is settled"
            );
            sleep(Duration::from_millis(5)).await;
        }
        let seen = self.origin.take();
        assert!(
            seen.iter()
                .all(|seen| seen.target.starts_with(PRICED_HOLDS)),
            "{seen:?}"
        );
        Ok(seen)
    }
}

/// The one request that a stub has seen, which it forgets.
fn only(stub: &Stub) -> Result<Seen> {
    let mut seen = stub.take();
    ensure!(seen.len() == 1, "one request, not {seen:?}");
    Ok(seen.remove(0))
}

fn nothing(stub: &Stub) {
    let seen = stub.take();
    assert!(seen.is_empty(), "{seen:?}");
}

/// The edge's word, under the app's own key.
fn is_proven(seen: &Seen, method: &str, caller: Option<&AccessClaims>) {
    let subject = caller
        .map(|claims| claims.sub.to_string())
        .unwrap_or_default();
    let parts = Parts {
        purpose: Purpose::Forward,
        method,
        host: header(seen, "host"),
        target: &seen.target,
        address: CLIENT,
        subject: &subject,
        role: caller.map_or("", |claims| claims.role.as_str()),
        email: caller.map_or("", |claims| &claims.email),
        request_id: header(seen, REQUEST_ID),
    };
    for (name, value) in [
        (ADDRESS, parts.address),
        (SUBJECT, parts.subject),
        (ROLE, parts.role),
        (EMAIL, parts.email),
    ] {
        assert_eq!(header(seen, name), value, "{name}");
    }
    let key = ProofKey::new(Zeroizing::new(APP_KEYS[0].1));
    assert_eq!(key.check(&parts, header(seen, PROOF), tests::now()), Ok(()));
}

fn header<'a>(seen: &'a Seen, name: &str) -> &'a str {
    let mut values = seen.headers.get_all(name).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    assert!(values.next().is_none(), "{name} twice: {seen:?}");
    value.unwrap_or_default()
}

fn problem(answer: &Response<String>) -> Value {
    serde_json::from_str(answer.body()).unwrap_or_default()
}
