//! What people look for, and what is known about each event.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{Attempt, LaneKey, Seq};
use crate::clock::UnixMillis;
use crate::outcome::{Outcome, Reason};

/// Where a looked-up event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waiting for its turn.
    Waiting,
    /// Waiting for another try, and its lane waits with it.
    Retrying,
    /// Waiting for another try by itself; its lane has moved on.
    Parked,
    /// Ended.
    Delivered,
    /// Ended.
    Filtered,
    /// Ended.
    Expired,
    /// A dead letter.
    Dead,
    /// Was a dead letter until a person, or `queue.max_dead_letters`, put an end to that.
    Discarded,
}

impl State {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Waiting,
        Self::Retrying,
        Self::Parked,
        Self::Delivered,
        Self::Filtered,
        Self::Expired,
        Self::Dead,
        Self::Discarded,
    ];

    /// The stable string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Retrying => "retrying",
            Self::Parked => "parked",
            Self::Delivered => "delivered",
            Self::Filtered => "filtered",
            Self::Expired => "expired",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
        }
    }

    /// What it means, in a line.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Waiting => "The event waits for its first attempt, or for its turn after it was replayed.",
            Self::Retrying => {
                "An attempt failed and another one is planned; the user's later events wait behind it."
            }
            Self::Parked => {
                "The event failed for too long and is retried on its own; the user's later events go on."
            }
            Self::Delivered => Outcome::Delivered.meaning(),
            Self::Filtered => Outcome::Filtered.meaning(),
            Self::Expired => Outcome::Expired.meaning(),
            Self::Dead => Outcome::Dead.meaning(),
            Self::Discarded => {
                "The event was a dead letter until an operator, or `queue.max_dead_letters`, gave it up."
            }
        }
    }

    /// What to do about it, in a line.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Waiting => {
                "Nothing. If it takes long, `wigzo-destination delivery list` shows what its organization waits for."
            }
            Self::Retrying | Self::Parked => {
                "Nothing, or correct what the reason names; `wigzo-destination events retry NUMBER` tries it now."
            }
            Self::Delivered => Outcome::Delivered.advice(),
            Self::Filtered => Outcome::Filtered.advice(),
            Self::Expired => Outcome::Expired.advice(),
            Self::Dead => Outcome::Dead.advice(),
            Self::Discarded => {
                "Nothing. If it is needed after all, ask the sender to send the event again, with another `messageId`."
            }
        }
    }

    /// Where events in this state are.
    pub fn place(self) -> Place {
        match self {
            Self::Waiting | Self::Retrying | Self::Parked => Place::Waiting,
            Self::Delivered | Self::Filtered | Self::Expired | Self::Discarded => Place::Settled,
            Self::Dead => Place::Dead,
        }
    }

    /// The state that an outcome leads to.
    pub fn of(outcome: Outcome, reason: Option<Reason>) -> Self {
        match (outcome, reason) {
            (Outcome::Delivered, _) => Self::Delivered,
            (Outcome::Filtered, _) => Self::Filtered,
            (Outcome::Expired, _) => Self::Expired,
            (Outcome::Dead, Some(Reason::Discarded | Reason::Dropped)) => Self::Discarded,
            (Outcome::Dead, _) => Self::Dead,
        }
    }
}

/// Which events are meant. Absent fields match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this organization.
    pub organization: Option<Arc<str>>,
    /// Of this person.
    pub person: Option<String>,
    /// With this message id.
    pub message_id: Option<String>,
    /// For this reason.
    pub reason: Option<Reason>,
    /// Of this type (`track`).
    pub kind: Option<String>,
    /// Of this name, as it is written.
    pub title: Option<String>,
    /// Arrived at this time or later.
    pub since: Option<UnixMillis>,
    /// Arrived before this time.
    pub until: Option<UnixMillis>,
}

/// What to look for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Only these, by their numbers; empty: any.
    pub numbers: Vec<Seq>,
    /// Which of them.
    pub filter: Filter,
    /// Organizations among which a [`Filter::message_id`] is looked up that comes without an organization.
    pub candidates: Vec<Arc<str>>,
    /// In one of these places: waiting, history or dead letters.
    pub state: Option<Place>,
    /// Only those in this state.
    pub standing: Option<State>,
    /// In which order.
    pub order: Order,
    /// Only what comes after this [`Record::seq`] in that order (for paging).
    pub beyond: Option<Seq>,
    /// At most this many.
    pub limit: usize,
    /// With payload and attempts.
    pub in_full: bool,
}

/// The order of a list, by [`Record::seq`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// For people.
    #[default]
    NewestFirst,
    /// For work.
    OldestFirst,
}

/// The places an envelope can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Not ended yet.
    Waiting,
    /// Ended as delivered, filtered, expired or discarded.
    Settled,
    /// A dead letter.
    Dead,
}

/// What a look-up has found.
#[derive(Debug, Default)]
pub struct Page {
    /// The records, in the order that was asked for.
    pub records: Vec<Record>,
    /// Look again with [`Lookup::beyond`] set to this for more. A look-up that no index serves goes through a bounded
    /// number of events: its page may be short, even empty, and there is more all the same.
    pub next: Option<Seq>,
}

/// What is known about one event.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Record {
    /// Its number: the one that it was accepted under.
    pub number: Seq,
    /// Its place in the order of work, and of lists: its number, unless it was replayed or discarded.
    pub seq: Seq,
    /// Its organization.
    pub organization: String,
    /// The family of routes it came by.
    pub route: String,
    /// Its message id.
    pub message_id: String,
    /// The person it is about.
    pub person: String,
    /// Its type.
    pub kind: String,
    /// Its name.
    pub title: String,
    /// When it arrived.
    pub received_at: UnixMillis,
    /// Where it stands.
    pub state: State,
    /// Why it stands there; absent for an event that was not tried yet.
    pub reason: Option<Reason>,
    /// What the reason leaves open, if anything: which field was missing, that the body of an
    /// answer broke off, why a person discarded it.
    pub detail: Option<String>,
    /// When it is tried again.
    pub retry_at: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// Failed rounds of work since it was accepted or last replayed.
    pub tries: u32,
    /// How often it was a dead letter and a person had it replayed.
    pub replays: u32,
    /// Keys of the calls that Wigzo has taken, separated by spaces.
    pub calls_done: String,
    /// The event's bytes as they arrived; absent in a one-line record and when not asked for.
    #[schemars(with = "Option<serde_json::Value>")]
    pub payload: Option<Box<RawValue>>,
    /// What stood around it in its request, if anything.
    #[schemars(with = "Option<serde_json::Value>")]
    pub surroundings: Option<Box<RawValue>>,
    /// The newest attempts, oldest first; empty in a one-line record and when not asked for.
    pub attempts: Vec<Attempt>,
}

/// What a person decides about dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// They go to the end of the queue, in the order in which they stand, under the number they have.
    Replay {
        /// Whether the calls that Wigzo has taken before are made again.
        repeat_done: bool,
    },
    /// They leave the dead letters for the history.
    Discard {
        /// Why, in the person's words.
        why: Box<str>,
    },
}

/// Which waiting events of an organization are to be retried at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All that wait for another attempt.
    All,
    /// Those whose last attempt failed for this reason.
    Reason(Reason),
    /// The one that was accepted under this number.
    Event(Seq),
}

/// Events whose wait for another attempt has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hastened {
    /// How many they are.
    pub count: u64,
    /// How many of them are parked.
    pub parked: u64,
    /// The first [`Hastened::MAX_EVENTS`] of the others, in the order of work.
    pub events: Vec<(LaneKey, Seq)>,
}

impl Hastened {
    /// How many events are named at most.
    pub const MAX_EVENTS: usize = 10_000;

    /// Whether every event that is not parked is named.
    pub fn is_complete(&self) -> bool {
        self.events.len() as u64 == self.count - self.parked
    }
}

impl JsonSchema for Reason {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let all: Vec<&str> = Self::ALL.iter().map(|reason| reason.as_str()).collect();
        schemars::json_schema!({ "type": "string", "enum": all })
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("no reason"))
    }
}

impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("no outcome"))
    }
}
