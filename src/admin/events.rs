//! `/api/events`: what became of events, and of one with everything that is known of it: what came in, what went out,
//! what Wigzo said, and when it is tried next.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::codes::{self, KnownCode};
use super::cursor::Cursor;
use super::filter::{self, InPath, Parameters};
use super::problem::{Problem, json};
use super::{Admin, Answer};
use crate::clock::UnixMillis;
use crate::delivery::{self, Overview};
use crate::queue::{Filter, Lookup, Page, QueueError, Record, State as Stands};
use crate::segment::{self, Raw, Surroundings};

/// A page of events, newest first.
#[derive(Serialize, JsonSchema)]
pub(super) struct Events {
    /// Without payloads and attempts.
    events: Vec<Record>,
    /// Where the next page begins, which may be there although this one is short: a look-up that no index serves goes
    /// through 20 000 events at a time.
    cursor: Option<Cursor>,
}

pub(super) async fn list(State(admin): State<Arc<Admin>>, parameters: Parameters) -> Answer {
    let mut asked = parameters.filter(&["state", "place", "limit", "cursor"])?;
    let candidates = match asked.filter {
        Filter { organization: None, message_id: Some(_), .. } => names(&admin),
        _ => Vec::new(),
    };
    let lookup = Lookup {
        standing: asked.state()?,
        state: asked.place()?,
        beyond: asked.seq()?,
        limit: asked.limit()?,
        filter: asked.filter,
        candidates,
        ..Lookup::default()
    };
    let page = found(admin.queue.find(lookup).await)?;
    Ok(json(StatusCode::OK, &Events { events: page.records, cursor: page.next.map(Cursor::from) }))
}

/// The organizations that are known here: configured ones, and those with events that wait or are dead.
fn names(admin: &Admin) -> Vec<Arc<str>> {
    let mut names: BTreeSet<Arc<str>> =
        admin.organizations.iter().map(|organization| Arc::from(organization.name.as_str())).collect();
    admin.queue.look(&mut |stats| {
        names.extend(stats.waiting.keys().chain(stats.dead_letters.keys()).map(Arc::clone));
    });
    names.into_iter().collect()
}

/// One event.
#[derive(Serialize, JsonSchema)]
pub(super) struct Event {
    /// What is recorded of it, with the payloads: `payload` as it came in, and in each of `attempts` the `request` and
    /// the `response`.
    #[serde(flatten)]
    record: Record,
    /// When it is tried next, if it waits.
    next_attempt: Option<NextAttempt>,
    /// What each code of the record means, and what to do.
    codes: Vec<KnownCode>,
}

/// When a waiting event is tried next.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct NextAttempt {
    /// Not before this time; absent where nobody knows.
    at: Option<UnixMillis>,
    /// What it waits for.
    waits_for: WaitsFor,
    /// The same in a sentence.
    message: &'static str,
}

/// What an event waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WaitsFor {
    /// Its turn.
    Turn,
    /// The time of its next try.
    Retry,
    /// An operator who resumes its organization.
    Operator,
    /// The end of a pause that Wigzo asked for.
    Pause,
    /// A token or address that Wigzo does not refuse.
    Correction,
    /// A circuit breaker.
    Breaker,
    /// Other events of its organization that find out whether calls go again.
    Probe,
    /// An organization of its name.
    Organization,
    /// Its organization, which is switched off in the configuration.
    Switch,
}

impl WaitsFor {
    fn message(self) -> &'static str {
        match self {
            Self::Turn => {
                "It comes as soon as events of the same person before it have ended, its endpoint may be called and a slot is free."
            }
            Self::Retry => "The last try failed, as `reason` says; it is tried again then.",
            Self::Operator => "An operator has paused its organization; it waits until that one is resumed.",
            Self::Pause => "Wigzo has asked its organization to pause.",
            Self::Correction => {
                "Wigzo refuses its organization's token or address; it waits until that is corrected, or a probe succeeds."
            }
            Self::Breaker => {
                "Its organization's calls failed one after the other; it waits until a probe succeeds."
            }
            Self::Probe => "Other events of its organization find out at this moment whether calls go again.",
            Self::Switch => "Its organization is switched off in the configuration (`disabled`).",
            Self::Organization => "Its organization is not configured: nobody delivers it until it is.",
        }
    }
}

/// When an event is tried next, by its record and how its organization stands (`None`: it is not served).
fn next_attempt(record: &Record, overview: Option<&Overview>) -> Option<NextAttempt> {
    if !matches!(record.state, Stands::Waiting | Stands::Retrying | Stands::Parked) {
        return None;
    }
    let retry = record.retry_at;
    let (waits_for, at) = match overview {
        None => (WaitsFor::Organization, None),
        Some(overview) => {
            let until = overview.until.max(retry);
            match overview.state {
                delivery::State::Open if retry.is_some() => (WaitsFor::Retry, retry),
                delivery::State::Open => (WaitsFor::Turn, None),
                delivery::State::Held => (WaitsFor::Operator, None),
                delivery::State::Paused => (WaitsFor::Pause, until),
                delivery::State::Suspended => (WaitsFor::Correction, until),
                delivery::State::Failing => (WaitsFor::Breaker, until),
                delivery::State::Probing => (WaitsFor::Probe, retry),
                delivery::State::Disabled => (WaitsFor::Switch, None),
                delivery::State::Unconfigured => (WaitsFor::Organization, None),
            }
        }
    };
    Some(NextAttempt { at, waits_for, message: waits_for.message() })
}

pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    InPath(number): InPath,
    parameters: Parameters,
) -> Answer {
    parameters.only(&[])?;
    let numbers = vec![filter::number(&number)?];
    let lookup = Lookup { numbers, limit: 1, in_full: true, ..Lookup::default() };
    let record = found(admin.queue.find(lookup).await)?.records.pop().ok_or(Problem::UnknownEvent)?;
    Ok(in_full(&admin, record))
}

/// A record that was read in full, as it may be shown.
pub(super) fn in_full(admin: &Admin, mut record: Record) -> Response {
    let codes = codes::of(&record);
    show_safely(&mut record);
    let overview = admin.delivery.overview();
    let overview = overview.iter().find(|it| *it.organization == *record.organization);
    let next_attempt = next_attempt(&record, overview);
    json(StatusCode::OK, &Event { record, next_attempt, codes })
}

/// Takes out of a record what would let its reader send events.
fn show_safely(record: &mut Record) {
    record.payload = record.payload.take().map(|payload| showable(payload, segment::without_key));
    record.surroundings = record.surroundings.take().map(|stored| showable(stored, Surroundings::shown));
}

/// What was stored, without what would let its reader send events.
fn showable(stored: Box<RawValue>, hide: impl for<'r> Fn(Raw<'r>) -> Cow<'r, str>) -> Box<RawValue> {
    match hide(Raw::from(&*stored)) {
        Cow::Borrowed(_) => stored,
        Cow::Owned(shown) => {
            RawValue::from_string(shown).expect("BUG: a value in JSON was replaced by another one")
        }
    }
}

/// What a look-up has found.
pub(super) fn found(found: Result<Page, QueueError>) -> Result<Page, Problem> {
    found.map_err(|error| {
        tracing::error!(%error, "the queue could not be searched");
        Problem::Queue
    })
}
