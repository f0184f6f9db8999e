//! The one thread that writes: commands in, one transaction and one sync per group, answers out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::store::{self, Brought, Totals};
use super::{Decision, PendingBytes, Shared, forget, trim};
use crate::clock::{Clock, UnixMillis};
use crate::outcome::Outcome;
use crate::queue::history::Budget;
use crate::queue::{
    AppendError, Appended, Config, Envelope, NewEnvelope, QueueError, Refusing, Resolution, Seq, Settlement,
    Stats,
};

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Append {
        envelopes: Vec<NewEnvelope>,
        bytes: PendingBytes,
        decision: Arc<Decision>,
        reply: oneshot::Sender<Result<Appended, AppendError>>,
    },
    Change {
        change: Change,
        reply: oneshot::Sender<()>,
    },
}

/// What happens to an envelope that is in the queue already.
#[derive(Debug)]
pub(super) enum Change {
    /// A round of work on it has ended.
    Settle(Box<Settlement>),
    /// One of its calls has been answered; see [`Engine::progress`](crate::queue::Engine::progress).
    Progress { seq: Seq, done: String },
}

/// Changes, each with whom to tell.
type Changes = Vec<(Change, oneshot::Sender<()>)>;

/// A group ends when it has this many bytes of envelopes, or nothing more is waiting.
const GROUP_BYTES: usize = 4 << 20;

/// How often the thread tidies up, busy or not; after a failure, how long until it tries again.
const IDLE: Duration = Duration::from_millis(500);

/// The same while there are more records than there may be: a hundred thousand can go in a second.
const HURRY: Duration = Duration::from_millis(20);

/// Appends of a group, each with its answer-to-be.
type Replies = Vec<(oneshot::Sender<Result<Appended, AppendError>>, Appended)>;

#[derive(Debug, Default)]
struct Group {
    appends: Vec<Append>,
    bytes: usize,
}

#[derive(Debug)]
struct Append {
    envelopes: Vec<NewEnvelope>,
    _bytes: PendingBytes,
    reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// The state of the thread. What is here equals what is in the database as of the last commit.
#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    clock: Clock,
    shared: Arc<Shared>,
    config: Config,
    budget: Budget,
    totals: Totals,
    /// Changes whose commit is to come, or has failed: they are tried again until the disk takes them.
    changes: Changes,
    commits: u64,
    commands: u64,
    duplicates: u64,
    failing: bool,
    /// Whether there may be a person to forget.
    forgetting: bool,
    disk_bytes: u64,
    tidied_at: Instant,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        config: &Config,
        clock: Clock,
        shared: Arc<Shared>,
    ) -> Result<Self, QueueError> {
        let totals = store::read_totals(&connection)?;
        let mut writer = Self {
            connection,
            clock,
            shared,
            config: config.clone(),
            budget: Budget::new(config.history_full_per_second),
            totals,
            changes: Changes::new(),
            commits: 0,
            commands: 0,
            duplicates: 0,
            failing: false,
            forgetting: true,
            disk_bytes: 0,
            tidied_at: Instant::now(),
        };
        writer.note_backlog()?;
        writer.publish(&[], &[]);
        Ok(writer)
    }

    /// Tells delivery which organizations have envelopes from before. One index step per organization, however
    /// many envelopes wait; the counts cost one walk over that index.
    fn note_backlog(&mut self) -> rusqlite::Result<()> {
        let mut statement = self
            .connection
            .prepare("SELECT organization, count(*), max(seq) FROM waiting GROUP BY organization")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let organization: Arc<str> = Arc::from(row.get_ref(0)?.as_str()?);
            self.shared.stats().waiting.insert(Arc::clone(&organization), row.get(1)?);
            self.shared.fresh.note(organization, Seq(row.get(2)?));
        }
        Ok(())
    }

    /// Serves commands until every sender is gone.
    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        let mut idle = false;
        loop {
            let rest = if self.forgetting || self.records_to_remove() > 0 { HURRY } else { IDLE };
            // By the time, not when idle: a busy queue is never idle, and must not grow for it.
            if !self.failing && self.tidied_at.elapsed() >= rest {
                self.tidy(idle);
            }
            idle = false;
            let mut group = Group::default();
            match inbox.recv_timeout(rest) {
                Ok(command) => self.take(command, &mut group),
                Err(RecvTimeoutError::Timeout) if self.failing => {}
                Err(RecvTimeoutError::Timeout) => {
                    idle = true;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while group.bytes < GROUP_BYTES
                && let Ok(command) = inbox.try_recv()
            {
                self.take(command, &mut group);
            }
            self.commit(group);
        }
        if !self.changes.is_empty() {
            self.commit(Group::default());
        }
    }

    fn take(&mut self, command: Command, group: &mut Group) {
        self.commands += 1;
        match command {
            Command::Append { envelopes, bytes, decision, reply } => {
                if decision.take() {
                    group.bytes += bytes.1;
                    group.appends.push(Append { envelopes, _bytes: bytes, reply });
                }
            }
            Command::Change { change, reply } => {
                group.bytes += 256;
                self.changes.push((change, reply));
            }
        }
    }

    /// Writes a group in one transaction and answers everybody in it.
    fn commit(&mut self, group: Group) {
        let changes = std::mem::take(&mut self.changes);
        match self.write(&group, &changes) {
            Ok((results, Brought { fresh, forgotten, ended })) => {
                self.failing = false;
                self.forgetting |= !forgotten.is_empty();
                self.commits += 1;
                let mut replies: Replies = Vec::with_capacity(group.appends.len());
                for (append, result) in group.appends.into_iter().zip(results) {
                    self.duplicates += result.duplicates as u64;
                    replies.push((append.reply, result));
                }
                self.publish(&fresh, &ended);
                self.shared.fresh.forget(forgotten);
                self.shared.fresh.offer(fresh);
                for (reply, result) in replies {
                    // A sender that has gone away is told nothing; its events are stored all the same.
                    drop(reply.send(Ok(result)));
                }
                for (_, reply) in changes {
                    let _gone = reply.send(());
                }
            }
            Err(error) => {
                tracing::error!(%error, "the queue cannot write; new events are refused until it can");
                self.changes = changes;
                self.failing = true;
                self.refuse(Refusing::Failing);
                for append in group.appends {
                    drop(append.reply.send(Err(AppendError::Unavailable)));
                }
                // Without a pause a full disk would be hammered.
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    fn write(&mut self, group: &Group, changes: &Changes) -> rusqlite::Result<(Vec<Appended>, Brought)> {
        let now = self.clock.now();
        let mut totals = self.totals.clone();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut brought = Brought::default();
        for (change, _) in changes {
            match change {
                Change::Settle(settlement) => {
                    let full = match settlement.resolution {
                        Resolution::Ended { outcome: Outcome::Delivered, .. }
                            if settlement.progress.tries == 0 =>
                        {
                            self.budget.spend(&settlement.organization, now)
                        }
                        Resolution::Ended { .. } | Resolution::Later { .. } => true,
                    };
                    store::settle(&transaction, settlement, now, full, &mut totals, &mut brought)?;
                }
                Change::Progress { seq, done } => store::progress(&transaction, *seq, done)?,
            }
        }
        store::rotate_generation(&transaction, &self.config, now, &mut totals)?;
        let mut results = Vec::with_capacity(group.appends.len());
        for append in &group.appends {
            results.push(store::insert(&transaction, &append.envelopes, &mut totals, &mut brought)?);
        }
        store::write_totals(&transaction, &totals)?;
        transaction.commit()?;
        self.totals = totals;
        Ok((results, brought))
    }

    /// Makes the state of the last commit visible, with what came to `waiting` and whose left it.
    fn publish(&mut self, fresh: &[Envelope], ended: &[Arc<str>]) {
        match self.measure() {
            Ok(bytes) => self.disk_bytes = bytes,
            Err(error) => tracing::warn!(%error, "the queue's size cannot be read"),
        }
        let full = self.disk_bytes >= self.config.max_disk.as_u64();
        let mut stats = self.shared.stats();
        count_waiting(&mut stats.waiting, fresh, ended);
        *stats = Stats {
            ledger: self.totals.ledger,
            duplicates: self.duplicates,
            waiting: std::mem::take(&mut stats.waiting),
            disk_bytes: self.disk_bytes,
            disk_limit: self.config.max_disk.as_u64(),
            history_bytes: self.totals.history_bytes,
            commits: self.commits,
            commands: self.commands,
            refusing: full.then_some(Refusing::Full),
            committed_at: self.clock.now(),
        };
    }

    /// Bytes of disk in use, without pages that are free for reuse.
    fn measure(&self) -> rusqlite::Result<u64> {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
    }

    fn refuse(&self, refusing: Refusing) {
        self.shared.stats().refusing = Some(refusing);
    }

    /// Bytes of records that must go: what exceeds the history's own size, and whatever new events need below the
    /// disk limit.
    fn records_to_remove(&self) -> u64 {
        let max_disk = self.config.max_disk.as_u64();
        let too_much = self.totals.history_bytes.saturating_sub(self.config.history_size.as_u64());
        let in_the_way = if self.disk_bytes < max_disk {
            0
        } else {
            // Some room more, else every other request would be refused.
            self.disk_bytes - max_disk + max_disk / 64
        };
        too_much.max(in_the_way).min(self.totals.history_bytes)
    }

    /// Old records go, and when idle free space goes back to the file system, both in small steps. (A busy queue would
    /// take that space again at once.)
    fn tidy(&mut self, idle: bool) {
        let excess = self.records_to_remove();
        let now = self.clock.now();
        let tidied = trim::trim(&mut self.connection, &self.config, excess, now, &mut self.totals)
            .and_then(|()| if idle { trim::give_back(&self.connection) } else { Ok(()) });
        if let Err(error) = self.forget(now) {
            tracing::warn!(%error, "a person could not be forgotten yet; it is tried again");
        }
        self.publish(&[], &[]);
        self.tidied_at = Instant::now();
        if let Err(error) = tidied {
            tracing::warn!(%error, "the queue could not be tidied; it is tried again");
        }
    }

    /// Carries a request to forget a step further.
    fn forget(&mut self, now: UnixMillis) -> rusqlite::Result<()> {
        if !self.forgetting {
            return Ok(());
        }
        let forgotten = forget::step(&mut self.connection, now, &mut self.totals)?;
        self.forgetting = forgotten.more;
        if let Some((organization, count)) = forgotten.ended {
            count_down(&mut self.shared.stats().waiting, &organization, count);
        }
        Ok(())
    }
}

/// Keeps count of what waits, per organization.
fn count_waiting(waiting: &mut BTreeMap<Arc<str>, u64>, fresh: &[Envelope], ended: &[Arc<str>]) {
    for envelope in fresh {
        *waiting.entry(Arc::clone(&envelope.content.organization)).or_default() += 1;
    }
    for organization in ended {
        count_down(waiting, organization, 1);
    }
}

/// Takes envelopes off an organization's count. One without any is let go: names come and go, and there may be more of
/// them over time than memory should hold.
fn count_down(waiting: &mut BTreeMap<Arc<str>, u64>, organization: &str, by: u64) {
    let Some(count) = waiting.get_mut(organization) else { return };
    *count = count.saturating_sub(by);
    if *count == 0 {
        waiting.remove(organization);
    }
}
