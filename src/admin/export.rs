//! A dead letter as a line of JSON: out of one queue, into another.
//!
//! Text in text: the event stands in `payload` as a string, because its bytes may hold line breaks and must not change.
//! What lets a reader send events (a `writeKey` in it, a partner's token beside it) is masked.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::intake::Came;
use crate::clock::UnixMillis;
use crate::organization::Organizations;
use crate::outcome::Reason;
use crate::queue::{Attempt, NewEnvelope, Record};
use crate::segment::{Event, Kind, Route, Surroundings, without_key};

/// A line of an export. An import reads what it needs and passes over the rest.
#[derive(Debug, Serialize)]
struct Exported<'a> {
    organization: &'a str,
    route: &'a str,
    message_id: &'a str,
    received_at: UnixMillis,
    payload: &'a str,
    surroundings: &'a str,
    // From here on for people.
    number: u64,
    person: &'a str,
    kind: &'a str,
    title: &'a str,
    ended_at: Option<UnixMillis>,
    reason: Option<&'a str>,
    detail: Option<&'a str>,
    tries: u32,
    replays: u32,
    calls_done: &'a str,
    attempts: &'a [Attempt],
}

/// Writes a record in full as a line, with its end.
pub(super) fn line(record: &Record) -> String {
    let payload = record.payload.as_deref().map(without_key).unwrap_or_default();
    let surroundings = record.surroundings.as_deref().map(Surroundings::shown).unwrap_or_default();
    let exported = Exported {
        organization: &record.organization,
        route: &record.route,
        message_id: &record.message_id,
        received_at: record.received_at,
        payload: &payload,
        surroundings: &surroundings,
        number: record.number.0,
        person: &record.person,
        kind: &record.kind,
        title: &record.title,
        ended_at: record.ended_at,
        reason: record.reason.map(Reason::as_str),
        detail: record.detail.as_deref(),
        tries: record.tries,
        replays: record.replays,
        calls_done: &record.calls_done,
        attempts: &record.attempts,
    };
    let mut line =
        serde_json::to_string(&exported).expect("BUG: a letter is a plain struct of text and numbers");
    line.push('\n');
    line
}

#[derive(Debug, Deserialize)]
struct Imported {
    organization: String,
    route: String,
    message_id: String,
    received_at: String,
    payload: String,
    #[serde(default)]
    surroundings: String,
}

/// Reads a line as an event for this queue.
///
/// # Errors
/// What is wrong with it, without anything that stands in it.
pub(super) fn envelope(line: &[u8], organizations: &Organizations) -> Result<NewEnvelope, String> {
    let letter: Imported = serde_json::from_slice(line).map_err(|error| {
        // Serde's own text may quote the line.
        format!("column {}: this is not a line of an export", error.column())
    })?;
    if organizations.by_name(&letter.organization).is_none() {
        return Err("its organization is not configured here".to_owned());
    }
    let route = Route::parse(&letter.route).ok_or("its `route` is neither v1 nor webhook")?;
    let received_at = letter.received_at.parse().map_err(|bad| format!("received_at: {bad}"))?;
    let raw: &RawValue = serde_json::from_str(&letter.payload).map_err(|_| "its `payload` is not JSON")?;
    let surroundings = Surroundings::from_stored(&letter.surroundings)
        .ok_or("its `surroundings` are not what this program stores")?;
    let event = Event::read(raw, &surroundings).map_err(|broken| {
        format!("its event is refused: {} at {:?}", broken.code.as_str(), broken.pointer)
    })?;
    if event.kind == Kind::Delete {
        return Err("a deletion is taken from Segment's webhooks only".to_owned());
    }
    let message_id: Box<str> = event.message_id.as_deref().unwrap_or(&letter.message_id).into();
    if message_id.is_empty() {
        return Err("it has no message id".to_owned());
    }
    let came = Came {
        organization: &letter.organization,
        route,
        message_id: &message_id,
        received_at,
        payload: &letter.payload,
        surroundings: &letter.surroundings,
    };
    Ok(came.envelope(&event))
}
