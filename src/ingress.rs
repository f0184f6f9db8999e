//! Public HTTP: a request comes in, is authenticated, decoded and validated, and its events are kept; then, and only
//! then, it is answered with 200.
//!
//! Invariants:
//! * A request is atomic: all of its valid events are kept, or none and the status says so.
//! * Every situation has one reply, in one exhaustive table (`reply`); never a 3xx, never silence: a deadline stands
//!   over each request. A caller cannot tell from a 401 which part was wrong.
//! * What is kept is the event's exact bytes. Nothing is translated here, and Wigzo is not known.

pub mod accept;
mod authenticate;
mod body;
mod cors;
mod hear_out;
mod pixel;
mod probe;
mod receive;
mod reply;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodFilter, get, on, post};
use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower::util::MapRequestLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::decompression::RequestDecompressionLayer;

use crate::clock::{Clock, Span};
use crate::organization::Organizations;
use crate::queue::Queue;
use crate::segment::{Kind, Route};
use crate::telemetry::Metrics;

pub use probe::{Phase, Readiness};
use receive::Entry;
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
    /// A request header that carries a source key, for senders that cannot set `Authorization`. Off when empty.
    pub key_header: String,
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
            key_header: String::new(),
            drain_grace: Span::secs(5),
            drain_deadline: Span::secs(20),
        }
    }
}

/// What every request handler shares.
#[derive(Debug)]
pub struct Ingress {
    /// The room's configuration.
    pub config: Config,
    /// The tenants.
    pub organizations: Arc<Organizations>,
    /// Where events are kept.
    pub queue: Queue,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time of arrival.
    pub clock: Clock,
    /// Whether requests should come.
    pub readiness: Arc<Readiness>,
}

/// The whole public side: every route and the stack around them, outermost first.
pub fn router(ingress: Arc<Ingress>) -> Router {
    let webhook = MethodFilter::POST.or(MethodFilter::PUT).or(MethodFilter::PATCH);
    let batch =
        || post(|state, request| enter(state, request, Entry::tracking(None))).options(cors::preflight);
    let mut router = Router::new()
        .route(
            "/webhook",
            on(webhook, |state, request| enter(state, request, Entry::webhook(None)))
                .options(cors::preflight),
        )
        .route(
            "/webhook/{organization}",
            on(webhook, |state, path: Result<Path<String>, PathRejection>, request| {
                // A path that is no text names nobody, and no organization's name is empty.
                let organization = path.map(|Path(name)| name).unwrap_or_default();
                enter(state, request, Entry::webhook(Some(organization)))
            })
            .options(cors::preflight),
        )
        .route("/v1/batch", batch())
        .route("/v1/import", batch())
        .route("/v1/b", batch())
        .route("/v1/pixel/{type}", get(pixel::pixel).options(cors::preflight))
        .route("/livez", get(probe::live))
        .route("/readyz", get(probe::ready))
        .route("/healthz", get(probe::ready));
    for kind in Kind::ALL {
        let (name, letter) = (kind.as_str(), kind.as_str().chars().next().unwrap_or_default());
        for path in [format!("/v1/{name}"), format!("/v1/{letter}")] {
            router = router.route(
                &path,
                post(move |state, request| enter(state, request, Entry::tracking(Some(kind))))
                    .options(cors::preflight),
            );
        }
    }
    router
        .fallback(async || reply::refuse(&Refusal::UnknownPath))
        .method_not_allowed_fallback(async || reply::refuse(&Refusal::Method))
        // The last layer added is the outermost.
        // Bodies are unpacked lazily; `body` counts the unpacked bytes against the limit.
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(MapRequestLayer::new(body::spell_encoding))
        // A bug in a handler is a 500 for one request, not the end of a connection.
        .layer(CatchPanicLayer::custom(reply::panicked))
        // A refusal must reach a sender that is still sending.
        .layer(middleware::from_fn_with_state(Arc::clone(&ingress), hear_out::hear_out))
        // A page may read every reply, those of the layers below too.
        .layer(middleware::from_fn(cors::let_read))
        .with_state(ingress)
}

/// Takes a request in, counts it and tells it.
async fn enter(State(ingress): State<Arc<Ingress>>, request: Request, entry: Entry) -> Response {
    let route: Route = entry.route;
    let told = receive::receive(&ingress, request, entry).await;
    ingress.metrics.reply(route.as_str(), told.response.status().as_u16(), told.took);
    told.response
}
