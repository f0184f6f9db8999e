//! `/api/queue/import`: takes the events of another queue, part by part, into the one that is served here.

use std::sync::Arc;

use axum::extract::{Request, State};
use http::StatusCode;

use super::filter::Parameters;
use super::guard::Changed;
use super::problem::{Problem, json};
use super::{Admin, Answer, body};
use crate::organization::{Organizations, Partner};
use crate::queue::AppendError;
use crate::queue::transfer::{Header, ImportError, Line, LineReader, Part};

/// Bytes of a part; the command sends smaller ones.
const MAX_PART: usize = 48 << 20;

/// Takes the next part of an export: `export` is its id, `from` how many lines of it were taken before.
pub(super) async fn import(
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
    request: Request,
) -> Answer {
    let mut asked = parameters.only(&["export", "from"])?;
    let export = asked.text("export").ok_or_else(|| Problem::Parameter("Say which `export`.".to_owned()))?;
    let from = asked.parse("from", "a whole number", |text| text.parse().ok())?;
    let from = from.ok_or_else(|| Problem::Parameter("Say `from` which line on.".to_owned()))?;
    let body = body::read(request, MAX_PART).await?;
    let lines = read(&body, &admin.organizations).map_err(Problem::Body)?;
    match admin.queue.import(Part { export, from, lines }).await {
        Ok(imported) => {
            let changed = Changed { on: "events of another queue".to_owned(), count: imported.accepted };
            Ok(changed.beside(json(StatusCode::OK, &imported)))
        }
        Err(ImportError::NotNext { taken }) => Err(Problem::NotNext(taken)),
        Err(ImportError::Full) => Err(Problem::Append(AppendError::Full)),
        Err(ImportError::Queue(error)) => {
            tracing::error!(%error, "a part of an export could not be imported");
            Err(Problem::Append(AppendError::Unavailable))
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
