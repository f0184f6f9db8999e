//! `/api/dead-letters`: look at them, replay them, discard them, take them elsewhere.

pub(super) mod decide;
pub(super) mod import;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Serialize;

use super::cursor::Cursor;
use super::events::{self, found};
use super::filter::{self, InPath, Parameters};
use super::problem::{Problem, json};
use super::{Admin, Answer, body, export};
use crate::queue::{Lookup, Order, Place, Record, Seq};

/// Where an export goes on.
pub(super) const NEXT: HeaderName = HeaderName::from_static("next-cursor");

/// A page of dead letters, newest first.
#[derive(Serialize, JsonSchema)]
pub(super) struct DeadLetters {
    /// Without payloads and attempts.
    dead_letters: Vec<Record>,
    /// Where the next page begins, which may be there although this one is short.
    cursor: Option<Cursor>,
}

pub(super) async fn list(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Answer {
    let page = found(admin.queue.find(question(parameters, Order::NewestFirst)?).await)?;
    let page = DeadLetters { dead_letters: page.records, cursor: page.next.map(Cursor::from) };
    Ok(json(StatusCode::OK, &page))
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    InPath(number): InPath,
    parameters: Parameters,
) -> Answer {
    parameters.only(&[])?;
    let numbers = vec![filter::number(&number)?];
    let lookup = Lookup { numbers, state: Some(Place::Dead), limit: 1, in_full: true, ..Lookup::default() };
    let record = found(admin.queue.find(lookup).await)?.records.pop().ok_or(Problem::UnknownLetter)?;
    Ok(events::in_full(&admin, record))
}

pub(super) async fn export(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Answer {
    let lookup = Lookup { in_full: true, ..question(parameters, Order::OldestFirst)? };
    let page = found(admin.queue.find(lookup).await)?;
    let lines: String = page.records.iter().map(export::line).collect();
    let mut response = Response::new(Body::from(lines));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(body::LINES));
    if let Some(Seq(next)) = page.next {
        let cursor = HeaderValue::from_str(&Cursor::from(Seq(next)).to_string());
        response.headers_mut().insert(NEXT, cursor.expect("BUG: base64 is a header's value"));
    }
    Ok(response)
}

fn question(parameters: Parameters, order: Order) -> Result<Lookup, Problem> {
    let mut asked = parameters.filter(&["limit", "cursor"])?;
    Ok(Lookup {
        state: Some(Place::Dead),
        order,
        beyond: asked.seq()?,
        limit: asked.limit()?,
        filter: asked.filter,
        ..Lookup::default()
    })
}
