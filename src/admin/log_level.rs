//! `/api/log-level`: which lines are logged, and other ones from now on, until the process ends or the configuration is
//! reloaded with another `telemetry.log`. Audit lines are told all the same.

use axum::response::Response;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Answer;
use super::body::Json;
use super::filter::Parameters;
use super::guard::Changed;
use super::problem::{Problem, json};
use crate::telemetry::Logging;

/// Which lines are logged.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogLevel {
    /// As `telemetry.log` in the configuration: a level, or levels per target.
    log: String,
}

pub(super) async fn show(parameters: Parameters) -> Answer {
    parameters.only(&[])?;
    Ok(shown(logging()?))
}

pub(super) async fn change(parameters: Parameters, Json(LogLevel { log }): Json<LogLevel>) -> Answer {
    parameters.only(&[])?;
    let logging = logging()?;
    let before = logging.filter();
    logging.set_filter(&log).map_err(|bad| Problem::Body(format!("log: {bad}.")))?;
    Ok(Changed { on: format!("{before} to {log}"), count: u64::from(before != log) }.beside(shown(logging)))
}

/// The process's log: a service always has one.
fn logging() -> Result<Logging, Problem> {
    Logging::current().ok_or(Problem::UnknownPath)
}

fn shown(logging: Logging) -> Response {
    json(StatusCode::OK, &LogLevel { log: logging.filter() })
}
