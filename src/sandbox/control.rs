//! The `/_sandbox` routes: reading and clearing the ledger, setting faults. JSON in, JSON out, strict about
//! names, because a misspelt filter or rule in a test would otherwise prove the wrong thing.

use std::borrow::Cow;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::answer::{AnswerBody, SUCCESS, error, json, json_of, wrong_method};
use super::call::endpoint_name;
use super::fault::Rule;
use super::filter::Question;
use super::handle::{Handle, Listing};
use super::ledger::{Counts, RecordedCall};

/// The prefix of the routes; nothing of Wigzo's lies there.
pub(super) const PREFIX: &str = "/_sandbox";

/// A recorded call as it is shown.
#[derive(Serialize)]
struct CallView<'a> {
    number: u64,
    at: u64,
    endpoint: &'static str,
    org_token: Option<&'a str>,
    status: Option<u16>,
    carried_out: bool,
    idempotency_key: Option<&'a str>,
    body: BodyView<'a>,
}

/// A body: JSON as it came, every digit of it; anything else as a text.
#[derive(Serialize)]
#[serde(untagged)]
enum BodyView<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

#[derive(Serialize)]
struct ListingView<'a> {
    total: u64,
    next: Option<u64>,
    calls: Vec<CallView<'a>>,
}

#[derive(Serialize)]
struct CountView {
    /// How many kept calls match the filter.
    total: u64,
    #[serde(flatten)]
    counts: Counts,
}

impl<'a> From<&'a RecordedCall> for CallView<'a> {
    fn from(call: &'a RecordedCall) -> Self {
        Self {
            number: call.number,
            at: call.at.0,
            endpoint: endpoint_name(call.endpoint),
            org_token: call.org_token.as_deref(),
            status: call.status,
            carried_out: call.carried_out,
            idempotency_key: call.idempotency_key.as_deref(),
            body: serde_json::from_slice(&call.body)
                .map_or_else(|_| BodyView::Text(call.text()), BodyView::Json),
        }
    }
}

/// Answers a request below [`PREFIX`].
pub(super) async fn answer(
    handle: Handle,
    method: Method,
    path: &str,
    query: Option<&str>,
    body: Bytes,
) -> Response<AnswerBody> {
    match path.strip_prefix(PREFIX).unwrap_or(path) {
        "" | "/" if method == Method::GET => index(),
        "/health" if method == Method::GET => json(StatusCode::OK, SUCCESS),
        "" | "/" | "/health" => wrong_method("GET"),
        "/calls" if method == Method::GET => match Question::parse(query.unwrap_or_default()) {
            Ok(question) => calls(handle, question).await,
            Err(bad) => error(StatusCode::BAD_REQUEST, &bad.to_string()),
        },
        "/calls" if method == Method::DELETE => {
            handle.clear();
            json(StatusCode::OK, SUCCESS)
        }
        "/calls" => wrong_method("GET, DELETE"),
        "/faults" if method == Method::GET => json_of(StatusCode::OK, &handle.faults()),
        "/faults" if method == Method::PUT => match set_faults(&handle, &body) {
            Ok(()) => json(StatusCode::OK, SUCCESS),
            Err(problem) => error(StatusCode::BAD_REQUEST, &problem),
        },
        "/faults" if method == Method::DELETE => {
            handle.set_faults(Vec::new()).expect("BUG: an empty list has no bad rule");
            json(StatusCode::OK, SUCCESS)
        }
        "/faults" => wrong_method("GET, PUT, DELETE"),
        _ => error(StatusCode::NOT_FOUND, "no such route; GET /_sandbox lists them"),
    }
}

fn index() -> Response<AnswerBody> {
    json_of(
        StatusCode::OK,
        &json!({ "routes": {
            "GET /_sandbox/health": "200 while the sandbox runs",
            "GET /_sandbox/calls": "recorded calls; filter by org_token, endpoint, event_name, user_id, status, \
                carried_out, contains; page by after, limit, order=asc|desc; count=true for numbers only",
            "DELETE /_sandbox/calls": "forget calls and counters",
            "GET /_sandbox/faults": "the fault rules, with what is left of each",
            "PUT /_sandbox/faults": "replace the fault rules: a list of {org_token, endpoint, event_name, \
                probability, next, latency, status, retry_after, body, effect}",
            "DELETE /_sandbox/faults": "behave well again",
        }}),
    )
}

/// Reads the ledger on a thread of its own: a question about a million calls must not hold up the calls.
async fn calls(handle: Handle, question: Question) -> Response<AnswerBody> {
    let read = move || {
        let Question { filter, page, count } = question;
        if count {
            let total = handle.total(&filter);
            return json_of(StatusCode::OK, &CountView { total, counts: handle.count() });
        }
        let Listing { total, next, calls } = handle.page(&filter, page);
        let calls = calls.iter().map(|call| CallView::from(&**call)).collect();
        json_of(StatusCode::OK, &ListingView { total, next, calls })
    };
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|_| error(StatusCode::INTERNAL_SERVER_ERROR, "the ledger could not be read"))
}

fn set_faults(handle: &Handle, body: &[u8]) -> Result<(), String> {
    let rules: Vec<Rule> = serde_json::from_slice(body).map_err(|bad| bad.to_string())?;
    handle.set_faults(rules).map_err(|bad| bad.to_string())
}
