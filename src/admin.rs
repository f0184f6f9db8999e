//! Private HTTP: metrics, what became of each event, and what a person decides about dead letters.
//!
//! Everything here may show personal data (an event's payload is one), so on any address but loopback each request
//! needs the token. What changes something is a POST, and leaves a line in the log.

mod dead_letters;
mod export;
mod filter;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use http::{HeaderMap, Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::delivery;
use crate::organization::{Organizations, Partner};
use crate::outcome::Ledger;
use crate::queue::{Lookup, Page, Queue, QueueError, Record, Refusal, Seq, Stats};
use crate::secret::Secret;
use crate::segment::{self, Raw, Surroundings};
use crate::telemetry::{Metrics, gauge};
pub use filter::WrittenFilter;
use filter::{Asked, Parameters};

/// `[admin]`: the private side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the private side. Anything but loopback needs `token_file`.
    pub listen: SocketAddr,
    /// File that holds the token which the private side asks for (`Authorization: Bearer …`); empty asks for none.
    pub token_file: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 9090).into(), token_file: String::new() }
    }
}

/// What the private side can see.
#[derive(Debug)]
pub struct Admin {
    /// The queue.
    pub queue: Queue,
    /// The running delivery.
    pub delivery: delivery::Handle,
    /// The organizations that are served.
    pub organizations: Arc<Organizations>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The token that is asked for.
    pub token: Option<Secret>,
    /// Held while the counts of one moment are set and printed, so that two readers cannot mix two moments.
    pub printing: Mutex<()>,
}

/// Events in one answer, unless asked otherwise, and at most.
const PAGE: (usize, usize) = (50, 1_000);

/// The private side's routes.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/api/stats", get(stats))
        .route("/api/events", get(events))
        .route("/api/events/{number}", get(event))
        .route("/api/rejected", get(rejected))
        .merge(dead_letters::routes())
        .fallback(async || {
            problem(
                StatusCode::NOT_FOUND,
                "There is nothing here. Try /metrics, /api/stats, /api/events, /api/dead-letters, /api/rejected.",
            )
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), authenticate))
        .with_state(admin)
}

async fn authenticate(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    match &admin.token {
        Some(token) if !bears(request.headers(), token) => problem(
            StatusCode::UNAUTHORIZED,
            "This needs `Authorization: Bearer` with the token of admin.token_file.",
        ),
        token if request.method() == Method::POST && from_a_page(&request, token.is_none()) => problem(
            StatusCode::FORBIDDEN,
            "A page of another origin may change nothing here. Without a token, use an IP address or localhost.",
        ),
        _ => next.run(request).await,
    }
}

/// Whether a page elsewhere may have made a browser on this machine send this: without a token there is nothing else to
/// stop it. A page says its origin, which then is not ours; one that has made its own name lead here is known by that.
fn from_a_page(request: &Request, is_open: bool) -> bool {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let uri = request.uri().authority().map(http::uri::Authority::as_str);
    let Some(host) = uri.or_else(|| header(HOST)) else { return is_open };
    let origin = request.headers().get(ORIGIN).map(|_| header(ORIGIN).unwrap_or_default());
    let foreign = origin.is_some_and(|origin| origin.split_once("://").is_none_or(|(_, it)| it != host));
    let name = host.parse::<http::uri::Authority>().map(|it| it.host().trim_matches(['[', ']']).to_owned());
    let known = name.is_ok_and(|name| name == "localhost" || name.parse::<IpAddr>().is_ok());
    foreign || (is_open && !known)
}

fn bears(headers: &HeaderMap, token: &Secret) -> bool {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .is_some_and(|shown| verify_slices_are_equal(shown.as_bytes(), token.expose().as_bytes()).is_ok())
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let _printing = admin.printing.lock().unwrap_or_else(PoisonError::into_inner);
    let stats = admin.queue.stats();
    let Ledger { accepted, delivered, filtered, expired, dead } = stats.ledger;
    let metrics = &admin.metrics;
    metrics.show_ledger([
        ("accepted", accepted),
        ("delivered", delivered),
        ("filtered", filtered),
        ("expired", expired),
        ("dead", dead),
        ("waiting", stats.ledger.waiting()),
    ]);
    metrics.show_waiting(named(&stats.waiting).into_iter());
    metrics.show_parked(named(&stats.parked).into_iter());
    metrics.show_dead_letters(named(&stats.dead_letters).into_iter());
    metrics.dropped.set(gauge(stats.dropped));
    metrics.queue_bytes.set(gauge(stats.disk_bytes));
    metrics.history_bytes.set(gauge(stats.history_bytes));
    metrics.commits.set(gauge(stats.commits));
    metrics.commands.set(gauge(stats.commands));
    let mut response = Response::new(Body::from(metrics.print()));
    let format = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}

/// Counts by organization for the metrics. Partners are not named there: anybody can make up as many as there are tokens.
/// `/api/stats` names them.
fn named(counts: &BTreeMap<Arc<str>, u64>) -> Vec<(&str, u64)> {
    let (partners, configured): (Vec<_>, Vec<_>) =
        counts.iter().partition(|(organization, _)| Partner::is_name(organization));
    let partners =
        (!partners.is_empty()).then(|| ("(partners)", partners.iter().map(|(_, count)| *count).sum()));
    let configured = configured.into_iter().map(|(organization, count)| (&**organization, *count));
    configured.chain(partners).collect()
}

async fn stats(State(admin): State<Arc<Admin>>) -> Response {
    #[derive(Serialize)]
    struct Body {
        waiting_total: u64,
        #[serde(flatten)]
        stats: Stats,
        /// How each organization's delivery stands.
        delivery: Arc<[delivery::Overview]>,
    }
    let stats = admin.queue.stats();
    let delivery = admin.delivery.overview();
    json(StatusCode::OK, &Body { waiting_total: stats.ledger.waiting(), stats, delivery })
}

async fn events(State(admin): State<Arc<Admin>>, Query(parameters): Query<Parameters>) -> Response {
    #[derive(Serialize)]
    struct Body {
        events: Vec<Record>,
        /// Ask again with `before` set to this for older events.
        before: Option<Seq>,
    }
    let lookup = Asked::read(parameters, &["place", "before", "limit"]).and_then(|mut asked| {
        Ok(Lookup {
            state: asked.parse("place")?,
            beyond: asked.parse("before")?.map(Seq),
            limit: asked.parse("limit")?.unwrap_or(PAGE.0).clamp(1, PAGE.1),
            filter: asked.filter,
            ..Lookup::default()
        })
    });
    match lookup {
        Ok(lookup) => answer(admin.queue.find(lookup).await, |page| {
            json(StatusCode::OK, &Body { events: page.records, before: page.next })
        }),
        Err(misfit) => problem(StatusCode::BAD_REQUEST, &misfit.0),
    }
}

async fn rejected(State(admin): State<Arc<Admin>>, Query(mut parameters): Query<Parameters>) -> Response {
    #[derive(Serialize)]
    struct Body {
        rejected: Vec<Refusal>,
    }
    let organization = parameters.remove("organization");
    let message_id = parameters.remove("message_id");
    let limit = parameters.remove("limit").map_or(Ok(PAGE.0), |limit| limit.parse());
    let (Ok(limit), true) = (limit, parameters.is_empty()) else {
        return problem(StatusCode::BAD_REQUEST, "Known here: organization, message_id, limit (a number).");
    };
    let rejected =
        admin.queue.refusals().find(organization.as_deref(), message_id.as_deref(), limit.clamp(1, PAGE.1));
    json(StatusCode::OK, &Body { rejected })
}

async fn event(State(admin): State<Arc<Admin>>, Path(number): Path<String>) -> Response {
    let Ok(number) = number.parse() else {
        return problem(StatusCode::BAD_REQUEST, "An event's number has digits only.");
    };
    let lookup = Lookup { numbers: vec![Seq(number)], limit: 1, in_full: true, ..Lookup::default() };
    answer(admin.queue.find(lookup).await, |mut page| match page.records.first_mut() {
        Some(event) => {
            show_safely(event);
            json(StatusCode::OK, event)
        }
        None => problem(
            StatusCode::NOT_FOUND,
            "No such event: it was never accepted, or its record is older than queue.history_retention.",
        ),
    })
}

/// Takes out of a record what would let its reader send events.
fn show_safely(record: &mut Record) {
    record.payload = record.payload.take().map(|payload| showable(payload, segment::without_key));
    record.surroundings = record.surroundings.take().map(|stored| showable(stored, Surroundings::shown));
}

/// What was stored, without what would let its reader send events.
fn showable(stored: Box<RawValue>, hide: impl for<'r> Fn(Raw<'r>) -> Cow<'r, str>) -> Box<RawValue> {
    match hide(Raw::from(&*stored)) {
        Cow::Borrowed(_) => stored,
        Cow::Owned(shown) => {
            RawValue::from_string(shown).expect("BUG: a value in JSON was replaced by another one")
        }
    }
}

fn answer(found: Result<Page, QueueError>, show: impl FnOnce(Page) -> Response) -> Response {
    found.map_or_else(
        |error| {
            tracing::error!(%error, "the queue could not be searched");
            problem(StatusCode::SERVICE_UNAVAILABLE, "The queue could not be searched; see the log.")
        },
        show,
    )
}

fn problem(status: StatusCode, message: &str) -> Response {
    #[derive(Serialize)]
    struct Problem<'a> {
        message: &'a str,
    }
    json(status, &Problem { message })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("BUG: answers are plain structs of text and numbers");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
