//! The durable queue: where an accepted event lives until it has an outcome, and its record afterwards.
//!
//! It stores opaque bytes. It knows neither Segment nor Wigzo nor an organization's settings; organizations, people
//! and message ids are strings to it.
//!
//! Invariants of every engine:
//! * [`Engine::append`] answers with success only after the envelopes are on disk, and is all or nothing.
//! * An envelope is in exactly one place: waiting (parked or not), settled, or dead. [`Stats::ledger`] counts all three in the same
//!   transaction that moves an envelope, so the counts balance at any moment and after any crash.
//! * Sequence numbers are given in commit order, never reused; per organization and lane they are the arrival order.
//! * Claiming writes nothing. One process owns the directory, so what is in flight is known in memory only; a crash
//!   means that at most the calls whose results were not on disk are made twice.

mod counts;
mod envelope;
mod fresh;
mod history;
mod record;
mod refusals;
pub mod sqlite;
pub mod transfer;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Span, UnixMillis};
use crate::outcome::Ledger;
use crate::telemetry::GROUPS;

pub use envelope::{
    Account, Attempt, Claim, Claimed, DedupKey, Envelope, LaneKey, NewEnvelope, Number, Progress, Resolution,
    Seq, Settlement, SourceRoute,
};
pub use fresh::{Arrivals, Forgotten, Fresh};
pub use record::{Fate, Filter, Hastened, Lookup, Order, Page, Place, Record, Selection, State};
pub use refusals::{Refusal, Refusals};
use transfer::{ImportError, Imported, Part};

/// `[queue]`: where events are kept and how much of the disk they may take.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The engine: `sqlite` keeps everything in one directory and needs no server.
    pub engine: EngineName,
    /// The directory of the SQLite engine. It is created if missing; one process at a time may own it.
    pub path: PathBuf,
    /// How much disk the queue may take, history included. Above it new requests get 429 until space is free;
    /// nothing that was accepted is ever dropped for it. At least 64 MiB.
    #[schemars(with = "String")]
    pub max_disk: ByteSize,
    /// For how long a `messageId` is remembered, so that a repeated event is taken once. Segment repeats a delivery
    /// for up to 4 hours.
    pub dedup_window: Span,
    /// How many `messageId`s are remembered at most; above it the oldest are forgotten early (about 40 bytes each).
    pub dedup_entries: u64,
    /// For how long the record of an ended event is kept. Dead letters are kept until somebody decides.
    pub history_retention: Span,
    /// How much disk the records of ended events may take; the oldest go first. They also give way to new events at
    /// `max_disk`.
    #[schemars(with = "String")]
    pub history_size: ByteSize,
    /// How many dead letters are kept at most; above it the oldest go, with an error line in the log and a count in the
    /// metrics. 0: all are kept until a person decides.
    pub max_dead_letters: u64,
    /// How many delivered events per second and organization are recorded in full (payload, calls, answers). Above
    /// it a record is one line: ids, name, time, outcome.
    pub history_full_per_second: u32,
    /// The same for all organizations together. When it runs short, what each organization may have shrinks with what
    /// is left of it; those with less traffic than that keep all of theirs in full.
    pub history_full_per_second_in_all: u32,
    /// What the queue is for. A queue remembers it, and opens for nothing else.
    #[serde(skip)]
    pub purpose: Purpose,
}

/// What a queue is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Events for Wigzo.
    #[default]
    Live,
    /// Test events of `serve --sandbox`, which Wigzo must never get.
    Sandbox,
}

/// The engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineName {
    /// One directory, no server.
    Sqlite,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: EngineName::Sqlite,
            path: PathBuf::from("data"),
            max_disk: ByteSize::gib(10),
            dedup_window: Span::secs(24 * 3_600),
            dedup_entries: 20_000_000,
            history_retention: Span::secs(7 * 24 * 3_600),
            history_size: ByteSize::gib(1),
            max_dead_letters: 0,
            history_full_per_second: 50,
            history_full_per_second_in_all: 1_000,
            purpose: Purpose::Live,
        }
    }
}

/// What an engine promises to answer later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A queue, shared by every room that uses it.
pub type Queue = Arc<dyn Engine>;

/// The verbs of a queue.
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// Stores envelopes, all or none, leaving out those whose [`DedupKey`] was seen within the window. When the
    /// answer is not there within `patience` and nothing has been written yet, the request is withdrawn.
    fn append(
        &self,
        envelopes: Vec<NewEnvelope>,
        patience: Duration,
    ) -> Pending<'_, Result<Appended, AppendError>>;

    /// Reads waiting envelopes of an organization after a sequence number, in order, parked ones left out. It reserves
    /// nothing. Of the lanes in `skip` (sorted) it reads numbers only, which do not count towards `limit`. One read
    /// looks at 20 000 rows at most; if it ends there, what follows the last one may be asked for again.
    fn claim(
        &self,
        organization: Arc<str>,
        after: Seq,
        limit: usize,
        skip: Arc<[LaneKey]>,
    ) -> Pending<'_, Result<Vec<Claimed>, QueueError>>;

    /// The same without any payload.
    fn numbers(
        &self,
        organization: Arc<str>,
        after: Seq,
        limit: usize,
    ) -> Pending<'_, Result<Vec<Number>, QueueError>>;

    /// Reads waiting envelopes of an organization again by their numbers, in order, as far as they still wait and are
    /// not parked. It brings at least one if there is any; what it leaves out behind the last one may be asked for again.
    fn reread(
        &self,
        organization: Arc<str>,
        numbers: Vec<Seq>,
    ) -> Pending<'_, Result<Vec<Envelope>, QueueError>>;

    /// Reads the parked envelopes of an organization, due or not, earliest due first. It reserves nothing.
    fn parked(&self, organization: Arc<str>, limit: usize) -> Pending<'_, Result<Vec<Envelope>, QueueError>>;

    /// Records how one round of work on an envelope ended; returns when that is on disk. It waits as long as the
    /// disk refuses, because an outcome that is known must not get lost.
    fn settle(&self, settlement: Settlement) -> Pending<'_, ()>;

    /// The same of many, without waiting: when they are on disk, their numbers are handed over with [`Arrivals::settled`].
    fn settle_all(&self, settlements: Vec<Settlement>);

    /// Whether one more delivered event of an organization is recorded in full ([`Account`]): spends of the budgets
    /// `queue.history_full_per_second` and `queue.history_full_per_second_in_all`.
    fn records_in_full(&self, organization: &Arc<str>) -> bool;

    /// Notes the calls of an envelope in work that have been answered (see [`Progress::done`]); returns when that is
    /// on disk. Made between the calls of one event, so that a crash repeats at most the call that was in flight.
    fn progress(&self, seq: Seq, done: String) -> Pending<'_, ()>;

    /// When the first waiting envelope of each organization arrived, for a page of organizations by name after this one.
    /// One indexed look-up each, however many wait. What a person had replayed was waiting elsewhere before: of an
    /// organization whose first hundred are all of that kind nothing is said.
    fn oldest(&self, after: Option<Arc<str>>) -> Pending<'_, Result<Oldest, QueueError>>;

    /// Looks up events.
    fn find(&self, lookup: Lookup) -> Pending<'_, Result<Page, QueueError>>;

    /// Does with dead letters, named by their [`Record::seq`], what a person has decided; how many there were. Others
    /// are passed over: nothing is replayed twice. It happens in small transactions, each of which holds whatever comes
    /// after it; the answer comes when all is on disk.
    fn decide(&self, letters: Vec<Seq>, fate: Fate) -> Pending<'_, Result<u64, QueueError>>;

    /// Makes waiting events of an organization due at `now`, parked ones included, if they are due later than that. No
    /// other event is changed. It happens in small transactions, so that appends are not held up; the answer comes when
    /// all is on disk.
    fn hasten(
        &self,
        organization: Arc<str>,
        selection: Selection,
        now: UnixMillis,
    ) -> Pending<'_, Result<Hastened, QueueError>>;

    /// Takes the next part of an export, as far as it is not known already: in one transaction with the note of how far the
    /// import has come, so that no line of an export is ever taken twice. What is waiting goes to the end of the queue,
    /// in the order in which it stands.
    fn import(&self, part: Part) -> Pending<'_, Result<Imported, ImportError>>;

    /// The queue's state as of the last commit.
    fn stats(&self) -> Stats;

    /// Shows the same state where it stands: nothing is copied, and a commit that wants to change it waits meanwhile.
    fn look(&self, look: &mut dyn FnMut(&Stats));

    /// Where refused events are remembered for a while, so that they can be asked for.
    fn refusals(&self) -> &Refusals;

    /// Where freshly committed envelopes are handed to delivery without being read back.
    fn fresh(&self) -> &Fresh;
}

/// A page of organizations with what has been waiting longest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oldest {
    /// Organizations, and when their first waiting envelope arrived.
    pub arrivals: Vec<(Arc<str>, UnixMillis)>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<Arc<str>>,
}

/// What became of an appended request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Envelopes now on disk.
    pub accepted: usize,
    /// Envelopes left out because their key was seen before.
    pub duplicates: usize,
}

/// Why nothing of a request was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AppendError {
    /// `queue.max_disk` is reached.
    #[error("the queue has reached its disk limit (queue.max_disk)")]
    Full,
    /// More requests are waiting for the disk than memory should hold.
    #[error("too many requests are waiting for the disk")]
    Busy,
    /// The engine cannot write: disk full, input/output error.
    #[error("the queue cannot write to its disk")]
    Unavailable,
    /// The disk did not take the request in time; it was withdrawn.
    #[error("the disk did not take the request in time")]
    TooSlow,
}

/// Why the queue could not be read or opened.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Another process owns the directory.
    #[error("{0} is in use by another process: stop it, or give this one another `queue.path`")]
    InUse(PathBuf),
    /// The directory was written by a newer version of this program.
    #[error(
        "{path} was written by a newer version (format {found}, this one knows {known}): use that version"
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// The format found in it.
        found: i64,
        /// The newest format this program knows.
        known: i64,
    },
    /// The directory was last written by an older version of this program.
    #[error(
        "{path} was last written by an older version (format {found}, this one reads {known}): start the service with this version once, or use that one"
    )]
    TooOld {
        /// The directory.
        path: PathBuf,
        /// The format found in it.
        found: i64,
        /// The format that is read.
        known: i64,
    },
    /// Its events were exported to be served from elsewhere.
    #[error(
        "{0} is sealed: its events were exported to be served elsewhere. If they are not, remove the file `sealed` in it"
    )]
    Sealed(PathBuf),
    /// A sandbox wrote it, and it was to be opened for Wigzo.
    #[error(
        "{0} holds test events of `serve --sandbox`, which must not reach Wigzo: set another `queue.path`, or delete this directory if they are not needed"
    )]
    OfSandbox(PathBuf),
    /// It holds events for Wigzo, and was to be opened for a sandbox.
    #[error("{0} holds events for Wigzo, which the sandbox must not take: set another `sandbox.queue_path`")]
    NotOfSandbox(PathBuf),
    /// The directory or its lock file cannot be created.
    #[error("{path}: {error}: check that the directory exists and this user may write to it")]
    Directory {
        /// What could not be created.
        path: PathBuf,
        /// The operating system's word.
        error: std::io::Error,
    },
    /// The database cannot be opened: not a database, damaged, or its disk has no room or no sense.
    #[error(
        "{path} cannot be opened as a queue: {error}: check `queue.path`, and that its disk works and has room"
    )]
    Database {
        /// The database file.
        path: PathBuf,
        /// SQLite's word.
        error: rusqlite::Error,
    },
    /// SQLite failed.
    #[error("the queue's database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The engine's thread has ended.
    #[error("the queue has been closed")]
    Closed,
}

/// Why a queue could not be copied, exported or put back.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The queue itself.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// The operating system's word.
        error: std::io::Error,
    },
    /// There is a file already.
    #[error("{0} exists already: name another file, or remove it")]
    Exists(PathBuf),
    /// There is a queue already.
    #[error(
        "{0} holds a queue already: put the copy into an empty directory (queue.path), and keep this one aside"
    )]
    Occupied(PathBuf),
    /// A copy is not sound.
    #[error("{path} is not a sound copy of a queue: {what}")]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// The queue's state as of its last commit: all fields belong to the same moment.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Stats {
    /// The conservation count.
    pub ledger: Ledger,
    /// Envelopes that were left out as duplicates since the process started.
    pub duplicates: u64,
    /// Waiting envelopes per organization that has any, parked ones included.
    pub waiting: BTreeMap<Arc<str>, u64>,
    /// Parked envelopes per organization.
    pub parked: BTreeMap<Arc<str>, u64>,
    /// Dead letters per organization that nobody has decided about yet.
    pub dead_letters: BTreeMap<Arc<str>, u64>,
    /// Dead letters that `queue.max_dead_letters` has cost since the process started.
    pub dropped: u64,
    /// Bytes of disk in use, without space that is free for reuse.
    pub disk_bytes: u64,
    /// What `disk_bytes` may grow to (`queue.max_disk`).
    pub disk_limit: u64,
    /// Bytes of `disk_bytes` which are records of ended events (an estimate from the stored lengths).
    pub history_bytes: u64,
    /// Commits since the process started.
    pub commits: u64,
    /// Commands that those commits carried.
    pub commands: u64,
    /// Groups of commands by their size, one a commit.
    #[serde(skip)]
    pub groups: Groups,
    /// Why the queue takes no new events, if so.
    pub refusing: Option<Refusing>,
    /// When the last commit was made.
    pub committed_at: UnixMillis,
}

/// How many groups had up to 1, 2, 4, … commands, and more than any of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Groups {
    /// By size.
    pub counts: [u64; GROUPS],
    /// Commands in all of them.
    pub commands: u64,
}

impl Groups {
    /// Counts a group.
    pub fn count(&mut self, commands: usize) {
        let power = commands.max(1).next_power_of_two().trailing_zeros() as usize;
        if let Some(count) = self.counts.get_mut(power.min(GROUPS - 1)) {
            *count += 1;
        }
        self.commands += commands as u64;
    }
}

/// Why a queue takes no new events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Refusing {
    /// `queue.max_disk` is reached.
    Full,
    /// The last write failed.
    Failing,
    /// The directory or one of its files was moved, removed or replaced since it was opened.
    Displaced,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_apart_by_powers_of_two() {
        let mut groups = Groups::default();
        for commands in [0, 1, 2, 3, 4, 5, 1_024, 1_025, 1 << 20] {
            groups.count(commands);
        }
        assert_eq!(groups.counts, [2, 1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(groups.commands, 15 + 1_024 + 1_025 + (1 << 20));
    }
}
