//! Numbers for operators, as Prometheus reads them. Code counts with the `metrics` macros where
//! something happens; this gathers what they counted, and looks at what has a size when it is asked.

use std::time::Duration;

use axum::{
    Router,
    extract::MatchedPath,
    http::{Method, StatusCode},
    routing::get,
};
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use shared::problem::Code;
use tokio::time::timeout;

use crate::{app::App, error::Error as Failure, health, rim};

/// A database that takes longer must not take the numbers along: whoever reads them gives up after ten seconds.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// From a tenth of a millisecond to ten seconds.
const SECONDS: [f64; 11] = [
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0,
];

/// What is nought until it happens: an alert that looks for a change finds one the first time.
const NOUGHT: [&str; 6] = [
    "tollgate_edge_proofs_stale_total",
    "tollgate_ledger_refused_total",
    "tollgate_ledger_split_batches_total",
    "tollgate_ledger_unclear_batches_total",
    "tollgate_limits_counted_alone_total",
    "tollgate_revocations_total",
];
const NOUGHT_BY_OUTCOME: [(&str, &str); 4] = [
    ("tollgate_refreshes_total", "reused"),
    ("tollgate_grant_refreshes_total", "reused"),
    ("tollgate_logout_notices_total", "failed"),
    ("tollgate_webhooks_total", "mismatch"),
];
/// For each kind of letter.
const NOUGHT_BY_KIND: [&str; 3] = [
    "tollgate_mail_sent_total",
    "tollgate_mail_failures_total",
    "tollgate_mail_given_up_total",
];

/// Begins to count, for the whole process.
pub fn start() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .install_recorder()?;
    for name in NOUGHT {
        counter!(name).increment(0);
    }
    for (name, outcome) in NOUGHT_BY_OUTCOME {
        counter!(name, "outcome" => outcome).increment(0);
    }
    for name in NOUGHT_BY_KIND {
        counter!(name, "kind" => "verify").increment(0);
    }
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// `GET /metrics`.
pub fn router(app: App, numbers: PrometheusHandle) -> Router {
    let tell = async move || {
        look(&app);
        let failing = timeout(READY_WITHIN, health::failing(&app)).await;
        let is_ready = failing.is_ok_and(|failing| failing.is_empty());
        gauge!("tollgate_ready").set(f64::from(u8::from(is_ready)));
        numbers.render()
    };
    Router::new().route("/metrics", get(tell))
}

/// What has a size.
fn look(app: &App) {
    let pool = app.db.pool();
    let (all, idle) = (f64::from(pool.size()), count(pool.num_idle()));
    gauge!("tollgate_pool_connections", "state" => "idle").set(idle);
    gauge!("tollgate_pool_connections", "state" => "used").set((all - idle).max(0.0));
    gauge!("tollgate_pool_connections_limit").set(f64::from(app.config.database_pool));
    gauge!("tollgate_requests_under_way").set(count(app.requests.len()));
    gauge!("tollgate_passwords_places_free").set(count(app.passwords.free_places()));
    gauge!("tollgate_ledger_queue").set(count(app.ledger.queued()));
    if let Ok(ring) = app.keys.ring() {
        let now = rim::now();
        for (alg, since) in ring.signing_since() {
            let age = (now - since).as_seconds_f64();
            gauge!("tollgate_signing_key_age_seconds", "alg" => alg).set(age);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
const fn count(size: usize) -> f64 {
    size as f64
}

/// Counts a request that was answered. The names of its series are ours: a route, not a path, and
/// no method that somebody has made up.
pub fn answered(
    route: Option<&MatchedPath>,
    method: &Method,
    status: StatusCode,
    code: Option<Code>,
    took: Duration,
) {
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let method = match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let status = status.as_u16().to_string();
    let code = code.map_or("", Code::as_str);
    histogram!("tollgate_http_request_seconds", "route" => route.clone()).record(took);
    counter!(
        "tollgate_http_requests_total",
        "route" => route, "method" => method, "status" => status, "code" => code
    )
    .increment(1);
}

/// Counts one of what people do: as `done`, or by the code of the problem that it ended in.
pub fn tried<T>(what: &'static str, answer: Result<T, Failure>) -> Result<T, Failure> {
    attempt(what, answer.as_ref().map(drop));
    answer
}

/// The same, where what came of it is no answer.
pub fn attempt(what: &'static str, outcome: Result<(), &Failure>) {
    let outcome = match outcome {
        Ok(()) => "done",
        Err(failure) => failure.problem().code.as_str(),
    };
    counter!("tollgate_attempts_total", "what" => what, "outcome" => outcome).increment(1);
}
