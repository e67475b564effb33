//! Traces, where somebody gathers them (`OpenTelemetry`): a span a request, within the trace that
//! `traceparent` names, and each statement of SQL as an event in it. A request that begins no trace of its own
//! has one by the edge, whose id is the request's id without hyphens.

use std::env;

use axum::{
    extract::{MatchedPath, Request},
    http::HeaderMap,
};
use opentelemetry::{global, propagation::Extractor, trace::TracerProvider as _};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};
use url::Url;

/// What sends the spans; to be shut down when there will be no more.
pub type Provider = SdkTracerProvider;

/// Begins to send spans there, by OTLP over HTTP.
pub fn begin(endpoint: &Url) -> Result<Provider, ExporterBuildError> {
    let endpoint = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint);
    let mut resource = Resource::builder();
    let names = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"];
    if names.iter().all(|name| env::var_os(name).is_none()) {
        resource = resource.with_service_name("tollgate-origin");
    }
    global::set_text_map_propagator(TraceContextPropagator::new());
    // Whatever the client says of its trace: a collector may leave out what it does not want.
    let provider = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn);
    let provider = provider.with_resource(resource.build());
    Ok(provider.with_batch_exporter(exporter.build()?).build())
}

/// What hands spans over, with what happens in them.
#[must_use]
pub fn layer<S>(provider: &Provider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let told = Targets::new()
        .with_target("origin", Level::DEBUG)
        .with_target("sqlx", Level::DEBUG);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("origin"))
        .with_filter(told)
}

/// Puts a request's span into the trace that the request names, under its route's name.
pub(crate) fn follow(span: &Span, request: &Request) {
    let named = |headers| global::get_text_map_propagator(|way| way.extract(&Headers(headers)));
    // Nobody gathers them.
    if span.set_parent(named(request.headers())).is_err() {
        return;
    }
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("no route", MatchedPath::as_str);
    span.record("otel.name", format!("{} {route}", request.method()));
    span.record("otel.kind", "server");
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}
