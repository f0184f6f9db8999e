//! Public HTTP: a request comes in, is read, decoded, authenticated and validated, and its events are kept; then, and
//! only then, it is answered with 200.
//!
//! Invariants:
//! * A request is atomic: all of its valid events are kept, or none and the status says so.
//! * Every situation has one reply, in one exhaustive table (`reply`); never a 3xx, never silence: a deadline stands
//!   over each request. A caller cannot tell from a 401 which part was wrong.
//! * What is kept is the event's exact bytes. Nothing is translated here, and Wigzo is not known.

pub mod accept;
mod address;
mod audience;
mod authenticate;
mod body;
mod cors;
mod failures;
mod front;
mod hear_out;
mod openapi;
mod partner;
mod pixel;
mod probe;
mod receive;
mod reply;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRef, Path, Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use bytes::Bytes;
use bytesize::ByteSize;
use http::{HeaderMap, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Span};
use crate::current::Current;
use crate::organization::Organizations;
use crate::queue::Queue;
use crate::segment::{Event, Kind, Raw, Route, Surroundings};
use crate::telemetry::{Metrics, RefusedRequests, Request as Traced, Traces};

use address::Purpose;
use failures::Failures;
pub use front::Front;
pub use probe::{Phase, Readiness};
use receive::Entry;
pub use reply::Finding;
use reply::Refusal;

/// `[ingress]`: where and how events come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port that Segment posts to. Anything but loopback needs every organization to have a source key,
    /// a shared secret or `open = true`.
    pub listen: SocketAddr,
    /// The largest body of a request, after decompression. 1 KiB to 16 MiB.
    #[schemars(with = "String")]
    pub max_body: ByteSize,
    /// The largest single event, with what its envelope says for all events.
    #[schemars(with = "String")]
    pub max_event: ByteSize,
    /// The most events in one request.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_events: usize,
    /// How long a request may take from its last byte to its reply; then it is answered with 503 and nothing of it is
    /// kept. Segment gives up after 4 to 5 seconds.
    pub deadline: Span,
    /// How long a client may take to send a request's body.
    pub read_timeout: Span,
    /// How long a connection may stay open without a complete request head. Longer than the idle time of the load
    /// balancer before it (60 seconds for most), so that it never sends into a connection that is being closed.
    pub idle_timeout: Span,
    /// The most open connections; further ones wait to be accepted.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: usize,
    /// Partner mode (Segment's Direct Destination): a Basic user name that is no source key is taken for an organization
    /// token, `X-Segment-Settings` is read, and `[organization_defaults]` holds for such organizations. Anybody who knows
    /// a token, which stands in every page of a shop, can then send in its name: let only Segment reach the service.
    pub partner_mode: bool,
    /// Events of one partner organization that may wait for delivery. Above it its requests are answered with 429.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub partner_waiting_events: u64,
    /// Unproven partner organizations, those of which Wigzo has taken no call since the start, that may have waiting
    /// events. Above it further ones are answered with 429, so that made-up tokens do not fill the disk.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub unproven_partners: usize,
    /// A request header that carries a source key, for senders that cannot set `Authorization`. Off when empty.
    pub key_header: String,
    /// Requests of one peer address that may fail to authenticate in a minute, and at once; further ones are answered
    /// with 429 instead of 401. Good keys and signatures pass all the same, so a load balancer's address locks nobody
    /// out. 0 sets no limit.
    pub failed_auth_per_minute: u32,
    /// After SIGTERM: for how long requests are still taken while `/readyz` says 503, so that load balancers can turn
    /// away first.
    pub drain_grace: Span,
    /// After that: how long requests and calls in flight may take to end.
    pub drain_deadline: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            max_body: ByteSize::mib(8),
            max_event: ByteSize::mib(1),
            max_events: 5_000,
            deadline: Span::secs(3),
            read_timeout: Span::secs(10),
            idle_timeout: Span::secs(75),
            max_connections: 4_096,
            partner_mode: false,
            partner_waiting_events: 100_000,
            unproven_partners: 1_000,
            key_header: String::new(),
            failed_auth_per_minute: 60,
            drain_grace: Span::secs(5),
            drain_deadline: Span::secs(20),
        }
    }
}

/// What every request handler shares. A request keeps the one that it began with: a reload puts another in its place.
#[derive(Debug, Clone)]
pub struct Ingress {
    config: Config,
    organizations: Arc<Organizations>,
    queue: Queue,
    metrics: Arc<Metrics>,
    traces: Traces,
    clock: Clock,
    readiness: Arc<Readiness>,
    failures: Arc<Failures>,
    refused: Arc<RefusedRequests>,
    /// The OpenAPI document of this configuration.
    document: Bytes,
}

impl Ingress {
    /// What request handlers share: where events are kept, whose they are, what is counted and traced, the time of
    /// arrival, and whether requests should come.
    pub fn new(
        config: Config,
        organizations: Arc<Organizations>,
        queue: Queue,
        metrics: Arc<Metrics>,
        traces: Traces,
        clock: Clock,
        readiness: Arc<Readiness>,
    ) -> Self {
        let failures = Arc::new(Failures::new(config.failed_auth_per_minute));
        let document = Bytes::from(openapi::document(&config).to_string());
        let refused = Arc::default();
        Self { config, organizations, queue, metrics, traces, clock, readiness, failures, refused, document }
    }

    /// The requests that could not be authenticated.
    pub fn refused_requests(&self) -> Arc<RefusedRequests> {
        Arc::clone(&self.refused)
    }

    /// The same under another configuration. What is known of peers that fail to authenticate stays known, unless
    /// another number of failures is allowed now.
    #[must_use]
    pub fn under(&self, config: Config, organizations: Arc<Organizations>) -> Self {
        let is_as_strict = config.failed_auth_per_minute == self.config.failed_auth_per_minute;
        let Self { queue, metrics, traces, clock, readiness, failures, refused, .. } = self.clone();
        let new = Self::new(config, organizations, queue, metrics, traces, clock, readiness);
        let new = Self { refused, ..new };
        if is_as_strict { Self { failures, ..new } } else { new }
    }
}

/// Handlers ask for `Arc<Ingress>` and get the one in force.
impl FromRef<Current<Ingress>> for Arc<Ingress> {
    fn from_ref(current: &Current<Ingress>) -> Self {
        current.get()
    }
}

/// What a path that events are posted to says of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The family of routes.
    pub route: Route,
    /// The type that the path stands for.
    pub kind: Option<Kind>,
}

impl Way {
    /// The way by this path; `None` if no body with events is taken there.
    pub fn of_path(path: &str) -> Option<Self> {
        let path = &*address::canonical(path);
        let is_named =
            path.strip_prefix("/webhook/").is_some_and(|name| !name.is_empty() && !name.contains('/'));
        let is_at = |address: &address::Address| match address.purpose {
            Purpose::NamedWebhook => is_named,
            _ => address.path == path,
        };
        let way = |route, kind| Some(Self { route, kind });
        match address::all().into_iter().find(is_at)?.purpose {
            Purpose::Webhook | Purpose::NamedWebhook => way(Route::Webhook, None),
            Purpose::Batch => way(Route::Tracking, None),
            Purpose::Events(kind) => way(Route::Tracking, Some(kind)),
            Purpose::Audiences | Purpose::Pixel | Purpose::Live | Purpose::Ready | Purpose::Document => None,
        }
    }

    /// Reads an event as it is taken in by this way, or finds why it is not.
    ///
    /// # Errors
    /// The rule that it breaks, or that it is too large.
    pub fn read<'a>(
        self,
        raw: Raw<'a>,
        surroundings: &Surroundings<'a>,
        config: &Config,
    ) -> Result<Event<'a>, Finding> {
        let size = (raw.get().len() + surroundings.to_stored().len()) as u64;
        let deletions = self.route == Route::Webhook;
        receive::read_event(raw, surroundings, size, config.max_event.as_u64(), deletions)
    }
}

/// The whole public side: every route, and what stands around them.
pub fn router(ingress: Current<Ingress>) -> Front {
    let mut router = Router::new();
    for address in address::all() {
        router = router.route(&address.path, serve(address.purpose));
    }
    let served = router
        .fallback(async || reply::refuse(&Refusal::UnknownPath))
        .method_not_allowed_fallback(async || reply::refuse(&Refusal::Method))
        .with_state(ingress.clone());
    Front::new(ingress, served)
}

/// What happens at an address.
fn serve(purpose: Purpose) -> MethodRouter<Current<Ingress>> {
    let preflight = purpose.methods().contains(&Method::OPTIONS);
    let methods = purpose.methods().iter().filter(|&method| method != Method::OPTIONS);
    let methods = methods.cloned().filter_map(|method| MethodFilter::try_from(method).ok());
    let Some(methods) = methods.reduce(MethodFilter::or) else { return MethodRouter::new() };
    let served = match purpose {
        Purpose::Webhook => on(methods, |state, request| enter(state, request, Entry::webhook(None))),
        Purpose::NamedWebhook => {
            on(methods, |state, path: Result<Path<String>, PathRejection>, request| {
                // A path that is no text names nobody, and no organization's name is empty.
                let organization = path.map(|Path(name)| name).unwrap_or_default();
                enter(state, request, Entry::webhook(Some(organization)))
            })
        }
        Purpose::Batch => on(methods, |state, request| enter(state, request, Entry::tracking(None))),
        Purpose::Events(kind) => {
            on(methods, move |state, request| enter(state, request, Entry::tracking(Some(kind))))
        }
        Purpose::Audiences => on(methods, audience::answer),
        Purpose::Live => on(methods, probe::live),
        Purpose::Ready => on(methods, probe::ready),
        Purpose::Pixel => on(methods, pixel::pixel),
        Purpose::Document => {
            on(methods, async |State(ingress): State<Arc<Ingress>>| reply::printed(ingress.document.clone()))
        }
    };
    if !preflight {
        return served;
    }
    served.options(async move |state, headers: HeaderMap| cors::preflight(state, &headers, purpose.methods()))
}

/// Takes a request in, counts it, tells it and traces it.
async fn enter(State(ingress): State<Arc<Ingress>>, mut request: Request, entry: Entry) -> Response {
    let route: Route = entry.route;
    let span = ingress.traces.request(request.method(), request.headers(), route.as_str());
    let trace_id = span.as_ref().and_then(Traced::trace_id);
    if let Some(origin) = span.as_ref().and_then(Traced::origin) {
        request.extensions_mut().insert(origin);
    }
    let told = receive::receive(&ingress, request, entry).await;
    let status = told.response.status().as_u16();
    ingress.metrics.reply(route.as_str(), status, told.took, trace_id);
    if let Some(span) = span {
        span.end(status);
    }
    told.response
}
