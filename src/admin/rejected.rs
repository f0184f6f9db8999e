//! `/api/rejected`: the newest events that were refused, for whoever misses one.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::filter::Parameters;
use super::problem::json;
use super::{Admin, Answer};
use crate::queue::Refusal;

/// Refused events, newest first.
#[derive(Serialize, JsonSchema)]
pub(super) struct Rejected {
    /// At most as many as were asked for; 200 of each organization are remembered, in memory.
    rejected: Vec<Refusal>,
}

pub(super) async fn list(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Answer {
    let mut asked = parameters.only(&["organization", "message_id", "limit"])?;
    let (organization, message_id) = (asked.text("organization"), asked.text("message_id"));
    let limit = asked.limit()?;
    let rejected = admin.queue.refusals().find(organization.as_deref(), message_id.as_deref(), limit);
    Ok(json(StatusCode::OK, &Rejected { rejected }))
}
