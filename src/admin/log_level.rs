//! `/api/log-level`: which lines are logged, and other ones from now on, until the process ends.

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Admin, json, problem};
use crate::current::Current;
use crate::telemetry::Logging;

pub(super) fn routes() -> Router<Current<Admin>> {
    Router::new().route("/api/log-level", get(show).put(change))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// As `telemetry.log` in the configuration.
    log: String,
}

async fn show() -> Response {
    match Logging::current() {
        Some(logging) => json(StatusCode::OK, &Body { log: logging.filter() }),
        None => problem(StatusCode::NOT_FOUND, NO_LOG),
    }
}

async fn change(body: Bytes) -> Response {
    let Some(logging) = Logging::current() else { return problem(StatusCode::NOT_FOUND, NO_LOG) };
    let Ok(Body { log }) = serde_json::from_slice(&body) else {
        return problem(
            StatusCode::BAD_REQUEST,
            r#"The body is {"log":"info"}, with what telemetry.log takes."#,
        );
    };
    let before = logging.filter();
    let tell = || tracing::info!(before, after = log, "an operator changes which lines are logged");
    // Whichever of the two lets the line through.
    let is_told = tracing::enabled!(tracing::Level::INFO);
    if is_told {
        tell();
    }
    if let Err(bad) = logging.set_filter(&log) {
        return problem(StatusCode::BAD_REQUEST, &format!("log: {bad}."));
    }
    if !is_told {
        tell();
    }
    json(StatusCode::OK, &Body { log: logging.filter() })
}

const NO_LOG: &str = "This process has no log of its own.";
