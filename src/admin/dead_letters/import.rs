//! Dead letters of an export, taken in as new events.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::filter::Parameters;
use super::super::guard::Changed;
use super::super::problem::{Problem, json};
use super::super::{Admin, Answer, body, export};
use crate::queue::NewEnvelope;

/// Bytes of an import; the command sends its file in smaller parts.
const MAX: usize = 32 << 20;

/// Refused lines that a reply names; the rest is counted.
const NAMED: usize = 100;

/// How long an import may wait for the disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// A line that was passed over.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RefusedLine")]
struct Refused {
    /// The line, from 1.
    line: usize,
    /// What is wrong with it.
    problem: String,
}

/// What became of an import.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Imported")]
pub(in super::super) struct Taken {
    /// Events that are in the queue now.
    accepted: usize,
    /// Events that were known already.
    duplicates: usize,
    /// Lines that were passed over.
    refused_total: usize,
    /// The first of them.
    refused: Vec<Refused>,
}

pub(in super::super) async fn import(
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
    request: Request,
) -> Answer {
    parameters.only(&[])?;
    let body = body::read(request, MAX).await?;
    let (mut envelopes, mut refused) = (Vec::new(), Vec::new());
    for (line, envelope) in read_lines(&body, &admin) {
        match envelope {
            Ok(envelope) => envelopes.push(envelope),
            Err(problem) => refused.push(Refused { line, problem }),
        }
    }
    let appended = admin.queue.append(envelopes, PATIENCE).await.map_err(Problem::Append)?;
    let (accepted, duplicates, refused_total) = (appended.accepted, appended.duplicates, refused.len());
    refused.truncate(NAMED);
    let changed = Changed { on: "dead letters".to_owned(), count: accepted as u64 };
    Ok(changed.beside(json(StatusCode::OK, &Taken { accepted, duplicates, refused_total, refused })))
}

/// Every line that is not blank, with its place.
fn read_lines(body: &Bytes, admin: &Admin) -> Vec<(usize, Result<NewEnvelope, String>)> {
    (1..)
        .zip(body.split(|byte| *byte == b'\n'))
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(place, line)| (place, export::envelope(line, &admin.organizations)))
        .collect()
}
