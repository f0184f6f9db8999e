//! What the queue stores: an event in its envelope, the attempts made for it, and its record.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Queue;
use crate::clock::UnixMillis;
use crate::outcome::{Debt, Outcome, Reason};

/// An envelope's number: given at commit, ascending, never reused. 0 lies before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
pub struct Seq(pub u64);

/// A lane's name, hashed. Two users whose names collide share a lane: they wait for each other, in order, and
/// nothing worse happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey(u64);

impl LaneKey {
    /// The key of a lane's name.
    pub fn of(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What makes two envelopes one event: the hashed pair of organization and message id (12 bytes), then the hashed
/// source route (4 bytes). Two mappings of one customer may send the same id with other data, so the route counts;
/// it stands last so that an event can be looked up by its id alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DedupKey(pub [u8; 16]);

impl DedupKey {
    /// How many leading bytes stand for organization and message id.
    pub const IDENTITY: usize = 12;

    /// The key of a message id that arrived for an organization by a source route.
    pub fn new(organization: &str, source_route: SourceRoute, message_id: &str) -> Self {
        let mut key = [0; 16];
        let (identity, route) = key.split_at_mut(Self::IDENTITY);
        identity.copy_from_slice(hash(&[organization, message_id]).split_at(Self::IDENTITY).0);
        route.copy_from_slice(&source_route.0);
        Self(key)
    }

    /// The bytes that stand for organization and message id.
    pub fn identity(self) -> [u8; Self::IDENTITY] {
        let mut identity = [0; Self::IDENTITY];
        identity.copy_from_slice(self.0.split_at(Self::IDENTITY).0);
        identity
    }
}

/// A source route, hashed: the same for all events of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceRoute([u8; 16 - DedupKey::IDENTITY]);

impl SourceRoute {
    /// A route by its name or address.
    pub fn new(name: &str) -> Self {
        let mut route = [0; 16 - DedupKey::IDENTITY];
        route.copy_from_slice(hash(&[name]).split_at(16 - DedupKey::IDENTITY).0);
        Self(route)
    }
}

/// The organization and the message id, as 24 hex digits.
impl std::fmt::Display for DedupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut number = [0; 16];
        number.split_at_mut(16 - Self::IDENTITY).1.copy_from_slice(&self.identity());
        write!(f, "{:024x}", u128::from_be_bytes(number))
    }
}

fn hash(parts: &[&str]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// An event on its way into the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEnvelope {
    /// The organization it belongs to.
    pub organization: Arc<str>,
    /// The family of routes it came by.
    pub route: Cow<'static, str>,
    /// What makes it the same event as another.
    pub key: DedupKey,
    /// Its message id.
    pub message_id: Box<str>,
    /// The person whose order is kept.
    pub lane: Box<str>,
    /// Its type, for people.
    pub kind: Cow<'static, str>,
    /// Its name, for people.
    pub title: Box<str>,
    /// When the request arrived.
    pub received_at: UnixMillis,
    /// The event's exact bytes.
    pub payload: Box<str>,
    /// What stood around it in its request.
    pub surroundings: Box<str>,
    /// Whether it asks to forget the person: it is not worked, but everything of theirs that came before it goes.
    pub forgets: bool,
}

impl NewEnvelope {
    /// About how many bytes it takes in memory and on disk.
    pub fn size(&self) -> usize {
        160 + self.payload.len()
            + self.surroundings.len()
            + self.message_id.len()
            + self.lane.len()
            + self.title.len()
    }
}

/// An event in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Its place in the order of work.
    pub seq: Seq,
    /// The number it was accepted under and is looked up by: [`Envelope::seq`], unless it was replayed.
    pub number: Seq,
    /// How often it was a dead letter and a person had it replayed.
    pub replays: u32,
    /// Whether its lane has moved on without it. Once parked, it stays so until it ends.
    pub parked: bool,
    /// What was stored.
    pub content: Arc<NewEnvelope>,
    /// Not to be worked before this time.
    pub due: Option<UnixMillis>,
    /// What earlier rounds of work have left.
    pub progress: Progress,
}

impl Envelope {
    /// Whether no round of work has left anything behind: neither attempts nor a result, and no replay.
    pub fn is_untried(&self) -> bool {
        self.replays == 0 && self.due.is_none() && self.progress == Progress::default()
    }
}

/// A waiting event without its payload, which stays in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// Its place in the order of work.
    pub seq: Seq,
    /// Its lane.
    pub lane: LaneKey,
    /// Not to be worked before this time.
    pub due: Option<UnixMillis>,
}

/// A waiting event as [`Engine::claim`](super::Engine::claim) reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// With its payload.
    Envelope(Envelope),
    /// Without: its lane is to be skipped.
    Number(Number),
}

impl Claimed {
    /// The envelope, if it was read with its payload.
    pub fn envelope(self) -> Option<Envelope> {
        match self {
            Self::Envelope(envelope) => Some(envelope),
            Self::Number(_) => None,
        }
    }
}

/// What rounds of work on an envelope have left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rounds that ended with "later" because a call failed.
    pub tries: u32,
    /// How many of them were soft failures.
    pub soft_failures: u32,
    /// When the first of them ended.
    pub first_failed_at: Option<UnixMillis>,
    /// Keys of the calls that Wigzo has taken already, separated by spaces.
    pub done: String,
}

impl Progress {
    /// Adds the key of a call that Wigzo has taken.
    pub fn has_done(&mut self, key: &str) {
        if !self.done.is_empty() {
            self.done.push(' ');
        }
        self.done.push_str(key);
    }
}

/// An envelope in flight: whoever holds it owes it an outcome.
#[derive(Debug)]
pub struct Claim {
    /// The envelope.
    pub envelope: Envelope,
    /// Where it goes back to.
    pub queue: Queue,
}

impl Debt for Claim {
    /// A bug let go of the envelope: it becomes a dead letter, so that a person finds it.
    fn abandoned(self) {
        let Self { envelope, queue } = self;
        tracing::error!(
            seq = envelope.seq.0,
            "an event was dropped without an outcome; it becomes a dead letter"
        );
        // The command is queued when `settle` is called; there is nobody here to wait for the commit.
        drop(queue.settle(Settlement::ended(&envelope, Outcome::Dead, Reason::Internal)));
    }
}

/// One try of one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// When it began.
    pub at: UnixMillis,
    /// The call's key within the event: `identify`, `event/buy`.
    pub call: String,
    /// The HTTP status; absent if there was no answer.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What it meant.
    pub reason: Reason,
    /// Method, redacted URL and body.
    pub request: String,
    /// The first 16 KB of the answer's body.
    pub response: String,
}

impl Attempt {
    /// About how many bytes its record takes.
    pub fn size(&self) -> usize {
        80 + self.call.len() + self.request.len() + self.response.len()
    }
}

/// How one round of work on an envelope ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The envelope's place in the order of work.
    pub seq: Seq,
    /// The number that it was accepted under.
    pub number: Seq,
    /// See [`Envelope::replays`].
    pub replays: u32,
    /// Whether there were earlier rounds of work. Such an event is recorded in full.
    pub was_tried: bool,
    /// What was stored.
    pub content: Arc<NewEnvelope>,
    /// What becomes of it.
    pub resolution: Resolution,
    /// What this round and earlier ones have left.
    pub progress: Progress,
    /// How much of it the record keeps.
    pub account: Account,
    /// What the reason leaves open, in a few words for people: which field was missing, that the body of an answer
    /// broke off. No personal data.
    pub detail: Option<Box<str>>,
}

/// How much of a round of work the record keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// Everything, with these attempts.
    InFull(Vec<Attempt>),
    /// Ids, name, times and outcome. Only for what was delivered in the first round of work on it: beside attempts of
    /// earlier rounds, a record without the payload and the last attempt would contradict itself.
    InALine,
}

impl Settlement {
    /// A settlement of an envelope, recorded in full and without attempts.
    pub fn of(envelope: &Envelope, resolution: Resolution) -> Self {
        Self {
            seq: envelope.seq,
            number: envelope.number,
            replays: envelope.replays,
            was_tried: !envelope.is_untried(),
            content: Arc::clone(&envelope.content),
            resolution,
            progress: envelope.progress.clone(),
            account: Account::InFull(Vec::new()),
            detail: None,
        }
    }

    /// Whether attempts of earlier rounds may be stored.
    pub fn may_have_attempts(&self) -> bool {
        self.was_tried || self.progress.tries > 0
    }

    /// A settlement of an envelope that has its outcome.
    pub fn ended(envelope: &Envelope, outcome: Outcome, reason: Reason) -> Self {
        Self::of(envelope, Resolution::Ended { outcome, reason })
    }
}

/// What becomes of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It has its outcome.
    Ended {
        /// The outcome.
        outcome: Outcome,
        /// Why.
        reason: Reason,
    },
    /// It waits for another round.
    Later {
        /// Not before this time.
        due: UnixMillis,
        /// Why it waits.
        reason: Reason,
        /// Whether its lane goes on without it from now on. An envelope that was parked before stays parked.
        parked: bool,
    },
}
