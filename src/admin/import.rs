//! `/api/queue/import`: takes the events of another queue, part by part, into the one that is served here.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use axum::routing::post;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Admin, json, problem};
use crate::current::Current;
use crate::organization::{Organizations, Partner};
use crate::queue::transfer::{Header, ImportError, Line, LineReader, Part};

/// Bytes of a part; the command sends smaller ones.
const MAX_PART: usize = 48 << 20;

pub(super) fn routes() -> Router<Current<Admin>> {
    Router::new().route("/api/queue/import", post(import))
}

#[derive(Debug, Deserialize)]
struct Asked {
    /// The export's id.
    export: String,
    /// Lines of it that were taken before.
    from: u64,
}

async fn import(State(admin): State<Arc<Admin>>, Query(asked): Query<Asked>, request: Request) -> Response {
    #[derive(Serialize)]
    struct Elsewhere {
        message: String,
        lines: u64,
    }
    let Ok(body) = axum::body::to_bytes(request.into_body(), MAX_PART).await else {
        let message = format!("A part has at most {} MiB; send smaller ones.", MAX_PART >> 20);
        return problem(StatusCode::PAYLOAD_TOO_LARGE, &message);
    };
    let lines = match read(&body, &admin.organizations) {
        Ok(lines) => lines,
        Err(message) => return problem(StatusCode::BAD_REQUEST, &message),
    };
    match admin.queue.import(Part { export: asked.export, from: asked.from, lines }).await {
        Ok(imported) => {
            if imported.accepted > 0 {
                let (accepted, duplicates) = (imported.accepted, imported.duplicates);
                tracing::info!(
                    accepted,
                    duplicates,
                    lines = imported.lines,
                    "events of another queue were imported"
                );
            }
            json(StatusCode::OK, &imported)
        }
        Err(error @ ImportError::NotNext { taken }) => {
            json(StatusCode::CONFLICT, &Elsewhere { message: format!("{error}."), lines: taken })
        }
        Err(error @ ImportError::Full) => problem(StatusCode::TOO_MANY_REQUESTS, &format!("{error}.")),
        Err(ImportError::Queue(error)) => {
            tracing::error!(%error, "a part of an export could not be imported");
            problem(StatusCode::SERVICE_UNAVAILABLE, "Nothing of this part was imported; see the log.")
        }
    }
}

/// The lines of a part, if all of them can be served.
fn read(body: &[u8], organizations: &Organizations) -> Result<Vec<Line>, String> {
    let mut reader = LineReader::new(body);
    let mut lines = Vec::new();
    while let Some(line) = reader.next().map_err(|flaw| format!("{flaw}."))? {
        match &line {
            Line::Export(header) => served(header, organizations)?,
            Line::Event(event) if !is_served(&event.organization, organizations) => {
                return Err(not_served(&[&event.organization]));
            }
            Line::Event(_) | Line::Keys(_) | Line::End(_) => {}
        }
        lines.push(line);
    }
    Ok(lines)
}

/// Whether somebody would deliver this organization's events. A partner brings its own token.
pub(super) fn is_served(organization: &str, organizations: &Organizations) -> bool {
    Partner::is_name(organization) || organizations.by_name(organization).is_some()
}

/// Checks that each organization of an export is configured here.
///
/// # Errors
/// Which ones are not, and what to do.
pub fn served(header: &Header, organizations: &Organizations) -> Result<(), String> {
    let names = header.organizations.keys().map(String::as_str);
    let unserved: Vec<_> = names.filter(|name| !is_served(name, organizations)).collect();
    if unserved.is_empty() { Ok(()) } else { Err(not_served(&unserved)) }
}

fn not_served(names: &[&str]) -> String {
    format!(
        "Nobody would deliver the events of {}: configure what is missing first. Nothing of this was imported.",
        names.join(", ")
    )
}
