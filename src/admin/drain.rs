//! `/api/drain`: out of rotation and back. `/readyz` turns 503, so that load balancers send their traffic elsewhere, and
//! the process goes on: what arrives all the same is taken, and what waits is delivered. Nothing ends until somebody
//! says so with a signal, and a process that starts again is in rotation.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::Json;
use super::filter::Parameters;
use super::guard::Changed;
use super::problem::json;
use super::{Admin, Answer};

/// What is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Rotation")]
pub(super) struct Wish {
    /// `false` brings the process back into rotation.
    out_of_rotation: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Self { out_of_rotation: true }
    }
}

/// How far a drain has come: when nothing waits and nothing is in flight, the process can end without a backlog.
#[derive(Serialize, JsonSchema)]
pub(super) struct Drained {
    /// Whether an operator has taken the process out of rotation.
    out_of_rotation: bool,
    /// Events that wait for their outcome.
    waiting: u64,
    /// Events in flight to Wigzo.
    in_flight: usize,
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Answer {
    parameters.only(&[])?;
    Ok(rotation(&admin))
}

pub(super) async fn change(
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
    Json(Wish { out_of_rotation }): Json<Wish>,
) -> Answer {
    parameters.only(&[])?;
    let changed = admin.rotation.set(out_of_rotation);
    let on = if out_of_rotation { "out of rotation" } else { "in rotation" };
    Ok(Changed { on: on.to_owned(), count: u64::from(changed) }.beside(rotation(&admin)))
}

fn rotation(admin: &Admin) -> Response {
    let mut waiting = 0;
    admin.queue.look(&mut |stats| waiting = stats.ledger.waiting());
    let in_flight = admin.delivery.overview().iter().map(|organization| organization.in_flight).sum();
    json(StatusCode::OK, &Drained { out_of_rotation: admin.rotation.is_out(), waiting, in_flight })
}
