//! Probes for load balancers and orchestrators.
//!
//! `/livez` says that the process turns; it never touches the queue, since killing the process cures no disk.
//! `/readyz` says whether events should be sent here: it tells the truth about the queue, and when not, why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Ingress, reply};
use crate::queue::Refusing;
use crate::shutdown::Rotation;

/// Where the service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not all rooms are up yet.
    Starting,
    /// Events are taken.
    Serving,
    /// A signal has come: events are still taken while load balancers turn away.
    Draining,
    /// Events are not taken any more.
    Closed,
}

/// The phase, shared by those who change it and those who are asked for it.
#[derive(Debug, Default)]
pub struct Readiness {
    phase: AtomicU8,
    /// Whether an operator has taken the process out of rotation.
    pub rotation: Rotation,
}

impl Readiness {
    /// Moves on to a phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            2 => Phase::Draining,
            _ => Phase::Closed,
        }
    }
}

/// The answer to a probe.
#[derive(Default, Serialize, JsonSchema)]
pub(super) struct Probe {
    /// `alive`, `ready` or `not ready`.
    status: &'static str,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "&'static str")]
    reason: Option<&'static str>,
    /// How many organizations are not active: paused, throttled, suspended, tripped, probing, or not configured although
    /// events wait for them. Absent: none. Events are taken all the same.
    #[serde(skip_serializing_if = "is_zero")]
    stopped_organizations: usize,
    /// How many endpoints of organizations are not active. Absent: none. Events are taken all the same.
    #[serde(skip_serializing_if = "is_zero")]
    stopped_endpoints: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// `/livez`.
pub(super) async fn live() -> Response {
    reply::json(StatusCode::OK, &Probe { status: "alive", ..Probe::default() })
}

/// `/readyz` and `/healthz`.
pub(super) async fn ready(State(ingress): State<Arc<Ingress>>) -> Response {
    let is_out = ingress.readiness.rotation.is_out();
    let reason = match (ingress.readiness.phase(), ingress.queue.stats().refusing) {
        (Phase::Starting, _) => Some("starting: not all parts are up yet"),
        (Phase::Draining | Phase::Closed, _) => Some("draining: this process is about to end"),
        (Phase::Serving, _) if is_out => {
            Some("out of rotation: an operator has asked for it (/api/drain on the private side)")
        }
        (Phase::Serving, Some(Refusing::Full)) => {
            Some("queue full: queue.max_disk is reached; free space or raise it")
        }
        (Phase::Serving, Some(Refusing::Failing)) => {
            Some("queue failing: its disk takes no writes; see the log")
        }
        (Phase::Serving, Some(Refusing::Displaced)) => {
            Some("queue displaced: its directory or a file of it was moved, removed or replaced; see the log")
        }
        (Phase::Serving, None) => None,
    };
    let (status, word) = match reason {
        None => (StatusCode::OK, "ready"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let (stopped_organizations, stopped_endpoints) = ingress.metrics.stopped();
    reply::json(status, &Probe { status: word, reason, stopped_organizations, stopped_endpoints })
}
