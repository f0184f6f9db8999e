//! Private HTTP: metrics, what became of each event, how organizations stand, and what a person decides about them.
//!
//! Everything here may show personal data (an event's payload is one), so on any address but loopback each request
//! needs a token. What changes something is a POST by somebody with the role for it, and leaves an audit line.
//!
//! * `address` is the table of what there is, `guard` stands before it, `openapi` tells programs of it.
//! * A handler answers with JSON or with a `Problem`, whose table has every refusal.
//! * A list is a page of at most a thousand entries with a `cursor`; no request does unbounded work.
//!
//! It must not know `ingress`: what it needs of the public side is handed in by `app`.

mod address;
mod body;
mod codes;
mod cursor;
mod dead_letters;
mod drain;
mod events;
mod export;
mod filter;
mod guard;
mod import;
mod intake;
mod log_level;
mod metrics;
mod openapi;
mod organizations;
mod problem;
mod refused_requests;
mod rejected;
mod retry;
mod stats;
mod test_event;
mod tokens;
mod translate;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::FromRef;
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_http::catch_panic::CatchPanicLayer;

use crate::clock::{Clock, UnixMillis};
use crate::current::Current;
use crate::delivery;
use crate::organization::Organizations;
use crate::queue::Queue;
use crate::shutdown::Rotation;
use crate::telemetry::{Metrics, RefusedRequests};
use address::Operation;
pub use filter::WrittenFilter;
pub use import::served;
use problem::Problem;
pub use tokens::{BadTokens, Role, Tokens};
pub use translate::{Explain, ExplainFn, Translated};

/// `[admin]`: the private side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port of the private side. Anything but loopback needs `token_file` or `tokens_file`.
    pub listen: SocketAddr,
    /// File that holds a token for everything on the private side (`Authorization: Bearer …`); with neither this nor
    /// `tokens_file`, none is asked for. A token that changes in the file is taken within a second.
    pub token_file: String,
    /// File with further tokens, one on each line as `ROLE NAME TOKEN`: the role is `read` or `operate`, the name stands
    /// in the audit line of every change, the token has at least 16 characters. `#` begins a comment. To rotate, give a
    /// name a second token for a while; a change of the file is taken within a second.
    pub tokens_file: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9090).into(),
            token_file: String::new(),
            tokens_file: String::new(),
        }
    }
}

/// What the private side can see and move. A request keeps the one that it began with: a reload puts another in its
/// place.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The queue.
    pub queue: Queue,
    /// The running delivery.
    pub delivery: delivery::Handle,
    /// The organizations that are served.
    pub organizations: Arc<Organizations>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The requests that could not be authenticated.
    pub refused_requests: Arc<RefusedRequests>,
    /// The tokens that are asked for.
    pub tokens: Arc<Tokens>,
    /// The time.
    pub clock: Clock,
    /// When the process started.
    pub started_at: UnixMillis,
    /// Whether load balancers should send events here.
    pub rotation: Rotation,
    /// What events would become.
    pub explain: Explain,
    /// Held while the counts of one moment are set and printed, so that two readers cannot mix two moments.
    pub printing: Arc<Mutex<()>>,
}

/// Handlers ask for `Arc<Admin>` and get the one in force.
impl FromRef<Current<Admin>> for Arc<Admin> {
    fn from_ref(current: &Current<Admin>) -> Self {
        current.get()
    }
}

/// What a handler answers.
type Answer = Result<Response, Problem>;

/// Entries in one answer, unless asked otherwise, and at most.
const PAGE: (usize, usize) = (50, 1_000);

/// The private side's routes, and the stack around them.
pub fn router(admin: Current<Admin>) -> Router {
    let mut router = Router::new();
    for operation in Operation::ALL {
        let served = serve(operation)
            // A bug in a handler is a 500 for one request, and the audit line is written all the same.
            .layer(CatchPanicLayer::custom(problem::panicked))
            .route_layer(middleware::from_fn_with_state(operation, guard::let_through));
        router = router.route(operation.path(), served);
    }
    router
        .fallback(async || Problem::UnknownPath)
        .method_not_allowed_fallback(async || Problem::Method)
        .layer(middleware::from_fn_with_state(admin.clone(), guard::admit))
        .with_state(admin)
}

/// Who answers.
fn serve(operation: Operation) -> MethodRouter<Current<Admin>> {
    match operation {
        Operation::Stats => get(stats::show),
        Operation::Events => get(events::list),
        Operation::Event => get(events::show),
        Operation::RetryEvent => post(retry::event),
        Operation::Rejected => get(rejected::list),
        Operation::RefusedRequests => get(refused_requests::list),
        Operation::Organizations => get(organizations::list),
        Operation::Organization => get(organizations::show),
        Operation::Pause => post(organizations::pause),
        Operation::Resume => post(organizations::resume),
        Operation::Retry => post(retry::organization),
        Operation::TestEvent => post(test_event::send),
        Operation::Translate => post(translate::translate),
        Operation::DeadLetters => get(dead_letters::list),
        Operation::DeadLetter => get(dead_letters::show),
        Operation::Replay => post(dead_letters::decide::replay),
        Operation::Discard => post(dead_letters::decide::discard),
        Operation::Export => get(dead_letters::export),
        Operation::Import => post(dead_letters::import::import),
        Operation::Move => post(import::import),
        Operation::Rotation => get(drain::show),
        Operation::Drain => post(drain::change),
        Operation::LogLevel => get(log_level::show),
        Operation::SetLogLevel => post(log_level::change),
        Operation::Metrics => get(metrics::metrics),
        Operation::Document => get(openapi::show),
    }
}
