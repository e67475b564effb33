//! What reaches the origin, and under whose word.

use anyhow::Result;
use shared::{
    claims::AccessClaims,
    jwt,
    proof::{ADDRESS, EMAIL, PROOF, Parts, ProofKey, Purpose, REQUEST_ID, ROLE, SUBJECT},
};
use std::fs;
use tests::{Answer, PROOF_KEY, Seen, root};
use zeroize::Zeroizing;

use crate::rig::Rig;

const TARGET: &str = "/api/v1/credits/balance?x=%20y";

#[tokio::test]
async fn what_a_client_says_of_itself_never_reaches_the_origin() -> Result<()> {
    let rig = Rig::start().await?;
    let claims = rig.issuer.claims();
    let request = rig
        .edge
        .get(TARGET)
        .bearer_auth(jwt::sign(&claims, rig.issuer.key()));
    let request = [
        "tollgate-subject",
        "tollgate_subject",
        "Tollgate-Role",
        "tollgate-proof",
        "tollgate-address",
        "tollgate_anything",
        "tollgate-request-id",
    ]
    .into_iter()
    .fold(request, |request, name| request.header(name, "eve"));
    let answer = Answer::to(request.header("x-mine", "kept")).await?.ok();

    let seen = rig.origin.seen();
    let [seen] = seen.as_slice() else {
        panic!("one request, not {seen:?}");
    };
    assert!(
        seen.headers.values().all(|value| value != "eve"),
        "{seen:?}"
    );
    assert_eq!(seen.headers["x-mine"], "kept");
    assert_eq!(answer.header(REQUEST_ID), header(seen, REQUEST_ID));
    is_proven(seen, &claims);
    Ok(())
}

#[track_caller]
fn is_proven(seen: &Seen, claims: &AccessClaims) {
    let subject = claims.sub.to_string();
    let parts = Parts {
        purpose: Purpose::Forward,
        method: "GET",
        host: header(seen, "host"),
        target: TARGET,
        address: header(seen, ADDRESS),
        subject: &subject,
        role: claims.role.as_str(),
        email: &claims.email,
        request_id: header(seen, REQUEST_ID),
    };
    assert_eq!(seen.target, TARGET);
    assert_eq!(header(seen, SUBJECT), parts.subject);
    assert_eq!(header(seen, ROLE), parts.role);
    assert_eq!(header(seen, EMAIL), parts.email);
    let key = ProofKey::new(Zeroizing::new(PROOF_KEY));
    assert_eq!(key.check(&parts, header(seen, PROOF), tests::now()), Ok(()));
}

/// A runtime that gives no URL, which the Wasm takes for impossible: a real panic, and a trap.
#[tokio::test]
async fn after_a_panic_the_next_request_has_a_fresh_instance() -> Result<()> {
    let host = fs::read_to_string(root().join("edge/host.mjs"))?;
    let call = "export function head({ method, url, headers }) {";
    assert!(host.contains(call), "host.mjs reads the head");
    let lies = format!("{call}\n  if (url.endsWith('?panic')) return method;");
    let host = host.replace(call, &lies);
    let rig = Rig::start_with(|script| script.replace("host.mjs", host)).await?;
    let _ = Answer::to(rig.edge.get("/.well-known/jwks.json"))
        .await?
        .ok();
    let token = rig.issuer.token();

    let broken = rig.get(&format!("{TARGET}?panic"), &token).await?;
    broken.is_problem(500, "INTERNAL");
    let log = rig.worker.log();
    assert!(log.contains(broken.header(REQUEST_ID)), "{log}");
    assert!(
        log.contains("panicked at") && log.contains("RuntimeError"),
        "{log}"
    );

    let _ = rig.get(TARGET, &token).await?.ok();
    assert_eq!(
        rig.origin.key_fetches(),
        2,
        "a fresh instance knows no keys"
    );
    Ok(())
}

fn header<'a>(seen: &'a Seen, name: &str) -> &'a str {
    let value = seen.headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}
