//! `/api/requests/refused`: the newest requests that could not be authenticated, for whoever sets up a sender.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::filter::Parameters;
use super::problem::json;
use super::{Admin, Answer};
use crate::telemetry::RefusedRequest;

/// Requests that could not be authenticated, newest first.
#[derive(Serialize, JsonSchema)]
pub(super) struct RefusedRequests {
    /// At most as many as were asked for. 200 are kept of each organization, and 200 whose organization is unknown, in
    /// memory; requests that are alike are one entry.
    refused: Vec<Explained>,
}

/// A request with what its reason means.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RefusedRequest")]
struct Explained {
    #[serde(flatten)]
    request: RefusedRequest,
    /// What `reason` means.
    meaning: &'static str,
    /// What to do about it.
    advice: &'static str,
}

pub(super) async fn list(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Answer {
    let mut asked = parameters.only(&["organization", "limit"])?;
    let (organization, limit) = (asked.text("organization"), asked.limit()?);
    let found = admin.refused_requests.find(organization.as_deref(), limit);
    let explain = |request: RefusedRequest| {
        let reason = request.request.reason;
        Explained { request, meaning: reason.meaning(), advice: reason.advice() }
    };
    Ok(json(StatusCode::OK, &RefusedRequests { refused: found.into_iter().map(explain).collect() }))
}
