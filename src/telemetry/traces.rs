//! Traces: where the time of a request and of its events went, for whoever runs an OpenTelemetry collector.
//!
//! ```text
//! POST v1 (server) ── append (producer)          the request, and its wait for the disk
//!    ╎
//!    └─ deliver (consumer) ── call … (client)    one round of work on an event, each try of a call
//! ```
//!
//! A request that brought one event is the parent of that event's rounds. The rounds of a batch are traces of their own,
//! linked to the request: a trace of thousands of events helps nobody. Either way the context lies beside the event in
//! the queue, and an event is traced if its request was.
//!
//! Invariants:
//! * Off, nothing is paid but a look at an option: nothing is made, stored or sent.
//! * No span holds a token, a secret or anything about a person: organizations, events' numbers and types, codes, times.
//! * What becomes of spans never holds anything else up. Those that are lost are counted.

mod context;
mod export;
mod sampler;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outcome::{Outcome, Reason};
use context::{Relation, Stored};
pub use export::{BadEndpoint, SpanCounts};

/// `[telemetry.traces]`: spans for an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Base URL of an OTLP collector, such as `http://127.0.0.1:4318` (`http://127.0.0.1:4317` for gRPC). Empty: no
    /// traces. What a hosted collector wants in headers is taken from the variable `OTEL_EXPORTER_OTLP_HEADERS`, as
    /// everywhere: it may be a secret.
    pub endpoint: String,
    /// How spans are sent.
    pub protocol: Protocol,
    /// Which part of the requests is traced, of those that do not come with a trace of their own: 0 is none, 1 all. A
    /// request with a `traceparent` is traced if that says so.
    #[schemars(range(min = 0, max = 1))]
    pub sample: f64,
    /// Whether Wigzo is told of the trace (`traceparent`, `tracestate`) with each call of an event that has one.
    pub propagate: bool,
    /// The service's name in traces (`service.name`).
    pub service_name: String,
    /// The environment's name in traces (`deployment.environment.name`), such as `production`. Empty: none.
    pub environment: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            protocol: Protocol::Http,
            sample: 0.01,
            propagate: false,
            service_name: "wigzo-destination".to_owned(),
            environment: String::new(),
        }
    }
}

/// How spans are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// OTLP over HTTP (protobuf), below `/v1/traces`.
    #[default]
    Http,
    /// OTLP over gRPC; only in programs that were built with the feature `otlp-grpc`.
    Grpc,
}

/// The id of a trace, as collectors look it up: 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(opentelemetry::trace::TraceId);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What starts spans, if anything does. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<On>>);

#[derive(Debug)]
struct On {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    propagate: bool,
}

/// How long the last spans may take to go out at the end.
const LAST_SPANS: Duration = Duration::from_secs(3);

impl Traces {
    /// No traces.
    pub fn off() -> Self {
        Self::default()
    }

    /// Traces as configured; off without an endpoint. It must be called within the runtime that is to send them.
    ///
    /// # Errors
    /// When the endpoint is no address, or this program cannot send in this way.
    pub fn start(config: &Config, counts: SpanCounts) -> Result<Self, BadEndpoint> {
        let Some(provider) = export::provider(config, counts)? else { return Ok(Self::off()) };
        let tracer = opentelemetry::trace::TracerProvider::tracer(&provider, env!("CARGO_PKG_NAME"));
        Ok(Self(Some(Arc::new(On { tracer, provider, propagate: config.propagate }))))
    }

    /// Starts the span of a request that has just come in.
    pub fn request(
        &self,
        method: &http::Method,
        headers: &HeaderMap,
        route: &'static str,
    ) -> Option<Request> {
        let on = self.0.as_ref()?;
        let parent = context::of_headers(headers)
            .map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        // Whatever a client writes as a method is not to become a name.
        let method = if *method == http::Method::POST { "POST" } else { "other" };
        let builder = SpanBuilder::from_name(format!("{method} {route}")).with_kind(SpanKind::Server);
        let attributes = [KeyValue::new("http.request.method", method), KeyValue::new("wigzo.route", route)];
        let span = on.tracer.build_with_context(builder.with_attributes(attributes), &parent);
        Some(Request { span, on: Arc::clone(on) })
    }

    /// Starts the span of a round of work on an event, from what its request has left beside it.
    pub fn round<'a>(&self, stored: impl FnOnce() -> Option<Cow<'a, str>>) -> Option<Round> {
        let on = self.0.as_ref()?;
        let stored = Stored::read(&stored()?)?;
        let builder = SpanBuilder::from_name("deliver").with_kind(SpanKind::Consumer);
        let (builder, parent) = match stored.relation {
            Relation::Parent => (builder, Context::new().with_remote_span_context(stored.context)),
            Relation::Link => (builder.with_links(vec![Link::with_context(stored.context)]), Context::new()),
        };
        let span = on.tracer.build_with_context(builder, &parent);
        Some(Round { context: span.span_context().clone(), span, on: Arc::clone(on) })
    }

    /// Sends what is left. It blocks, at most for some seconds.
    pub fn end(self) {
        if let Some(on) = self.0 {
            // What could not be sent has been counted and told.
            let _ended = on.provider.shutdown_with_timeout(LAST_SPANS);
        }
    }
}

/// The trace that this context stands in, if it is one that is recorded.
fn recorded(context: &SpanContext) -> Option<TraceId> {
    context.is_sampled().then(|| TraceId(context.trace_id()))
}

/// A request's span.
#[derive(Debug)]
pub struct Request {
    span: Span,
    on: Arc<On>,
}

impl Request {
    /// Where the request's events belong; `None`: nobody is interested.
    pub fn origin(&self) -> Option<Origin> {
        let context = self.span.span_context();
        (context.is_sampled() || self.on.propagate)
            .then(|| Origin { context: context.clone(), on: Arc::clone(&self.on) })
    }

    /// The trace, if it is recorded.
    pub fn trace_id(&self) -> Option<TraceId> {
        recorded(self.span.span_context())
    }

    /// The request has been answered.
    pub fn end(mut self, status: u16) {
        self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            self.span.set_status(Status::error(""));
        }
        self.span.end();
    }
}

/// Where the events of a request belong.
#[derive(Debug, Clone)]
pub struct Origin {
    context: SpanContext,
    on: Arc<On>,
}

impl Origin {
    /// What is to lie beside each of the request's events, of which there are so many.
    pub fn to_stored(&self, events: usize) -> String {
        let relation = if events == 1 { Relation::Parent } else { Relation::Link };
        Stored { relation, context: self.context.clone() }.write()
    }

    /// The trace, if it is recorded.
    pub fn trace_id(&self) -> Option<TraceId> {
        recorded(&self.context)
    }

    /// Starts the span of the wait for the disk. It ends when it is dropped.
    pub fn append(&self, organization: &str, events: usize) -> Append {
        let parent = Context::new().with_remote_span_context(self.context.clone());
        let builder = SpanBuilder::from_name("append").with_kind(SpanKind::Producer).with_attributes([
            KeyValue::new("wigzo.organization", organization.to_owned()),
            KeyValue::new("messaging.batch.message_count", i64::try_from(events).unwrap_or(i64::MAX)),
        ]);
        Append(self.on.tracer.build_with_context(builder, &parent))
    }
}

/// The span of a wait for the disk.
#[derive(Debug)]
pub struct Append(#[expect(dead_code, reason = "a span ends when it is dropped")] Span);

/// The span of a round of work on an event.
#[derive(Debug)]
pub struct Round {
    context: SpanContext,
    span: Span,
    on: Arc<On>,
}

/// One try of one call, as it went.
#[derive(Debug, Clone, Copy)]
pub struct CallTold<'a> {
    /// Wigzo's endpoint.
    pub endpoint: &'static str,
    /// The call's key within its event.
    pub call: &'a str,
    /// How many tries of it came before in this round.
    pub resends: usize,
    /// When it began, in milliseconds since 1970.
    pub began_ms: u64,
    /// How long it took.
    pub took: Duration,
    /// The answer's status, if there was an answer.
    pub status: Option<u16>,
    /// What it meant.
    pub result: Reason,
}

/// What became of an event in a round of work.
#[derive(Debug, Clone, Copy)]
pub struct RoundTold<'a> {
    /// Its organization.
    pub organization: &'a str,
    /// Its number.
    pub number: u64,
    /// Its type.
    pub kind: &'a str,
    /// How long it had been waiting since its arrival when the round began.
    pub waited: Duration,
    /// Rounds that have failed, this one included.
    pub tries: u32,
    /// How it ended; `None`: it waits for another round.
    pub outcome: Option<Outcome>,
    /// Why.
    pub reason: Reason,
}

impl Round {
    /// The trace, if it is recorded.
    pub fn trace_id(&self) -> Option<TraceId> {
        recorded(&self.context)
    }

    /// What tells Wigzo of the trace, if it should be.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        if self.on.propagate { context::to_headers(&self.context) } else { Vec::new() }
    }

    /// Adds the span of a call that has been made.
    pub fn call(&self, told: CallTold<'_>) {
        if !self.context.is_sampled() {
            return;
        }
        let parent = Context::new().with_remote_span_context(self.context.clone());
        let began = SystemTime::UNIX_EPOCH + Duration::from_millis(told.began_ms);
        let mut attributes = vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("wigzo.call", told.call.to_owned()),
            KeyValue::new("wigzo.result", told.result.as_str()),
        ];
        if told.resends > 0 {
            let resends = i64::try_from(told.resends).unwrap_or(i64::MAX);
            attributes.push(KeyValue::new("http.request.resend_count", resends));
        }
        if let Some(status) = told.status {
            attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        let builder = SpanBuilder::from_name(format!("call {}", told.endpoint))
            .with_kind(SpanKind::Client)
            .with_start_time(began)
            .with_attributes(attributes);
        let mut span = self.on.tracer.build_with_context(builder, &parent);
        if told.result != Reason::Delivered {
            span.set_attribute(KeyValue::new("error.type", told.result.as_str()));
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(began + told.took);
    }

    /// The round has ended, on disk.
    pub fn end(mut self, told: RoundTold<'_>) {
        let outcome = told.outcome.map_or("later", Outcome::as_str);
        self.span.set_attributes([
            KeyValue::new("wigzo.organization", told.organization.to_owned()),
            KeyValue::new("wigzo.event.number", i64::try_from(told.number).unwrap_or(i64::MAX)),
            KeyValue::new("wigzo.event.type", told.kind.to_owned()),
            KeyValue::new("wigzo.outcome", outcome),
            KeyValue::new("wigzo.reason", told.reason.as_str()),
            KeyValue::new("wigzo.tries", i64::from(told.tries)),
            KeyValue::new("wigzo.waited_ms", i64::try_from(told.waited.as_millis()).unwrap_or(i64::MAX)),
        ]);
        if matches!(told.outcome, None | Some(Outcome::Dead)) {
            self.span.set_status(Status::error(""));
        }
        self.span.end();
    }
}
