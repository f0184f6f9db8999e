//! Private HTTP: metrics, and what became of each event.
//!
//! Everything here may show personal data (an event's payload is one), so on any address but loopback each request
//! needs the token. Nothing here changes anything.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::organization::Partner;
use crate::outcome::Ledger;
use crate::queue::{Lookup, Place, Queue, QueueError, Record, Seq, Stats};
use crate::secret::Secret;
use crate::segment::{self, Surroundings};
use crate::telemetry::{Metrics, gauge};

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
        .fallback(async || {
            problem(StatusCode::NOT_FOUND, "There is nothing here. Try /metrics, /api/stats, /api/events.")
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
        _ => next.run(request).await,
    }
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
    // Partners are not named here: anybody can make up as many as there are tokens. `/api/stats` names them.
    let (partners, configured): (Vec<_>, Vec<_>) =
        stats.waiting.iter().partition(|(organization, _)| Partner::is_name(organization));
    let partners =
        (!partners.is_empty()).then(|| ("(partners)", partners.iter().map(|(_, count)| *count).sum()));
    let configured = configured.into_iter().map(|(organization, count)| (&**organization, *count));
    metrics.show_waiting(configured.chain(partners));
    metrics.queue_bytes.set(gauge(stats.disk_bytes));
    metrics.history_bytes.set(gauge(stats.history_bytes));
    metrics.commits.set(gauge(stats.commits));
    metrics.commands.set(gauge(stats.commands));
    let mut response = Response::new(Body::from(metrics.print()));
    let format = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}

async fn stats(State(admin): State<Arc<Admin>>) -> Response {
    #[derive(Serialize)]
    struct Body {
        waiting_total: u64,
        #[serde(flatten)]
        stats: Stats,
    }
    let stats = admin.queue.stats();
    json(StatusCode::OK, &Body { waiting_total: stats.ledger.waiting(), stats })
}

/// What `/api/events` can be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    organization: Option<String>,
    message_id: Option<String>,
    person: Option<String>,
    place: Option<Place>,
    before: Option<u64>,
    limit: Option<usize>,
}

async fn events(
    State(admin): State<Arc<Admin>>,
    question: Result<Query<Question>, axum::extract::rejection::QueryRejection>,
) -> Response {
    #[derive(Serialize)]
    struct Page {
        events: Vec<Record>,
        /// Ask again with `before` set to this for older events.
        before: Option<Seq>,
    }
    let Ok(Query(question)) = question else {
        return problem(
            StatusCode::BAD_REQUEST,
            "Known here: organization, message_id, person, place (waiting, settled, dead), before, limit.",
        );
    };
    let limit = question.limit.unwrap_or(PAGE.0).clamp(1, PAGE.1);
    let lookup = Lookup {
        seq: None,
        organization: question.organization.map(Into::into),
        message_id: question.message_id,
        lane: question.person,
        state: question.place,
        before: question.before.map(Seq),
        limit,
        in_full: false,
    };
    answer(admin.queue.find(lookup).await, |events| {
        let before = (events.len() == limit).then(|| events.last().map(|event| event.number)).flatten();
        json(StatusCode::OK, &Page { events, before })
    })
}

async fn event(State(admin): State<Arc<Admin>>, Path(number): Path<String>) -> Response {
    let Ok(number) = number.parse() else {
        return problem(StatusCode::BAD_REQUEST, "An event's number has digits only.");
    };
    let lookup = Lookup { seq: Some(Seq(number)), limit: 1, in_full: true, ..Lookup::default() };
    answer(admin.queue.find(lookup).await, |mut events| match events.first_mut() {
        Some(event) => {
            event.payload = event.payload.take().map(|payload| showable(payload, segment::without_key));
            let surroundings = event.surroundings.take();
            event.surroundings = surroundings.map(|stored| showable(stored, Surroundings::shown));
            json(StatusCode::OK, event)
        }
        None => problem(
            StatusCode::NOT_FOUND,
            "No such event: it was never accepted, or its record is older than queue.history_retention.",
        ),
    })
}

/// What was stored, without what would let its reader send events.
fn showable(stored: Box<RawValue>, hide: impl Fn(&RawValue) -> Cow<'_, str>) -> Box<RawValue> {
    match hide(&stored) {
        Cow::Borrowed(_) => stored,
        Cow::Owned(shown) => {
            RawValue::from_string(shown).expect("BUG: a value in JSON was replaced by another one")
        }
    }
}

fn answer(found: Result<Vec<Record>, QueueError>, show: impl FnOnce(Vec<Record>) -> Response) -> Response {
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
