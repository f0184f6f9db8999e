//! `/api/stats`: how things stand now.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::filter::Parameters;
use super::problem::json;
use super::{Admin, Answer};
use crate::clock::UnixMillis;
use crate::delivery::{Held, Overview};
use crate::queue::Stats;

/// The state of the service.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Live")]
pub(super) struct Live {
    /// The version of the program.
    version: &'static str,
    /// When the process started.
    started_at: UnixMillis,
    /// When this was true.
    now: UnixMillis,
    /// Whether an operator has taken the process out of rotation (`/api/drain`).
    out_of_rotation: bool,
    /// Events that wait for their outcome.
    waiting_total: u64,
    /// Events in flight to Wigzo.
    in_flight: usize,
    #[serde(flatten)]
    stats: Stats,
    /// Organizations that an operator has paused.
    paused: Arc<Held>,
    /// How each organization's delivery stands, as of a quarter of a second ago at most.
    delivery: Arc<[Overview]>,
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Answer {
    parameters.only(&[])?;
    let stats = admin.queue.stats();
    let delivery = admin.delivery.overview();
    let live = Live {
        version: env!("CARGO_PKG_VERSION"),
        started_at: admin.started_at,
        now: admin.clock.now(),
        out_of_rotation: admin.rotation.is_out(),
        waiting_total: stats.ledger.waiting(),
        in_flight: delivery.iter().map(|organization| organization.in_flight).sum(),
        stats,
        paused: admin.delivery.held(),
        delivery,
    };
    Ok(json(StatusCode::OK, &live))
}
