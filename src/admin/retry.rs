//! Retry now: events that wait for another attempt are tried at once, because what made them fail is over.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::Json;
use super::events::found;
use super::filter::{self, InPath, Parameters};
use super::guard::Changed;
use super::problem::{Problem, json};
use super::{Admin, Answer, organizations};
use crate::outcome::Reason;
use crate::queue::{Lookup, Selection, State as Status};

/// The body of a retry of an organization's events.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub(super) struct Which {
    /// Only events whose last attempt failed for this reason, such as `wigzo_500`; absent: all that wait for another
    /// attempt.
    #[schemars(with = "Option<Reason>")]
    reason: Option<String>,
}

/// The body of a retry of one event: nothing.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetryEvent {}

/// What a retry has done.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Retried {
    /// Events whose wait has ended. An event that waits for nothing but its turn is not one of them.
    retried: u64,
}

pub(super) async fn organization(
    State(admin): State<Arc<Admin>>,
    InPath(name): InPath,
    parameters: Parameters,
    Json(Which { reason }): Json<Which>,
) -> Answer {
    parameters.only(&[])?;
    let (selection, on) = match reason {
        None => (Selection::All, name.clone()),
        Some(text) => {
            let reason = Reason::parse(&text).ok_or_else(|| unknown(&text))?;
            (Selection::Reason(reason), format!("{name} reason={reason}"))
        }
    };
    organizations::one(&admin, &name)?;
    retry(&admin, &name, selection, on).await
}

pub(super) async fn event(
    State(admin): State<Arc<Admin>>,
    InPath(number): InPath,
    parameters: Parameters,
    Json(RetryEvent {}): Json<RetryEvent>,
) -> Answer {
    parameters.only(&[])?;
    let number = filter::number(&number)?;
    let lookup = Lookup { numbers: vec![number], limit: 1, ..Lookup::default() };
    let record = found(admin.queue.find(lookup).await)?.records.pop().ok_or(Problem::UnknownEvent)?;
    match record.state {
        Status::Waiting | Status::Retrying | Status::Parked => {
            retry(&admin, &record.organization, Selection::Event(number), number.0.to_string()).await
        }
        ended @ (Status::Delivered
        | Status::Filtered
        | Status::Expired
        | Status::Dead
        | Status::Discarded) => Err(Problem::NotWaiting(ended)),
    }
}

async fn retry(admin: &Admin, organization: &str, selection: Selection, on: String) -> Answer {
    // Delivery logs why it failed.
    let retried = admin.delivery.retry(organization, selection).await.map_err(|_| Problem::Queue)?;
    Ok(Changed { on, count: retried }.beside(json(StatusCode::OK, &Retried { retried })))
}

fn unknown(reason: &str) -> Problem {
    let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    Problem::Body(format!("reason: {reason:?} is no reason; there is {}.", known.join(", ")))
}
