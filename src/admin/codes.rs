//! What the codes of a record mean, and what to do: said here, so that every client says the same.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::outcome::Reason;
use crate::queue::Record;
use crate::segment::{Event, Raw, Surroundings, Warning};

/// A code of a record.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Code")]
pub(super) struct KnownCode {
    /// What it is a code of.
    kind: CodeKind,
    /// The code.
    code: &'static str,
    /// What it means.
    meaning: &'static str,
    /// What to do about it; absent for a reason that only an earlier attempt had.
    advice: Option<&'static str>,
}

/// What a code is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum CodeKind {
    /// The status of the event.
    Status,
    /// Why it has that status, or how an attempt ended.
    Reason,
    /// Something odd about the event, which was taken all the same.
    Warning,
}

/// Every code of a record, each once: its status, its reason, those of its attempts, and the warnings of its payload.
pub(super) fn of(record: &Record) -> Vec<KnownCode> {
    let status = record.state;
    let (meaning, advice) = (status.meaning(), status.advice());
    let mut codes =
        vec![KnownCode { kind: CodeKind::Status, code: status.as_str(), meaning, advice: Some(advice) }];
    let mut named = BTreeSet::new();
    let of_attempts = record.attempts.iter().map(|attempt| attempt.reason);
    for reason in record.reason.into_iter().chain(of_attempts) {
        let (code, meaning) = (reason.as_str(), reason.meaning());
        let advice = (record.reason == Some(reason)).then(|| reason.advice());
        // Of what was delivered the status says all.
        if code != Reason::Delivered.as_str() && named.insert(code) {
            codes.push(KnownCode { kind: CodeKind::Reason, code, meaning, advice });
        }
    }
    for warning in warnings(record) {
        let (code, meaning, advice) = (warning.as_str(), warning.meaning(), Some(warning.advice()));
        if named.insert(code) {
            codes.push(KnownCode { kind: CodeKind::Warning, code, meaning, advice });
        }
    }
    codes
}

/// What is odd about the stored event. It is read again: warnings are not stored.
fn warnings(record: &Record) -> Vec<Warning> {
    let Some(payload) = &record.payload else { return Vec::new() };
    let stored = record.surroundings.as_ref().map_or("", |stored| stored.get());
    let Some(surroundings) = Surroundings::from_stored(stored) else { return Vec::new() };
    Event::read(Raw::from(&**payload), &surroundings).map(|event| event.warnings).unwrap_or_default()
}
