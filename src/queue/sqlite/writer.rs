//! The one thread that writes: commands in, one transaction and one sync per group, answers out.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{Decision, PendingBytes, Shared, trim};
use crate::clock::{Clock, UnixMillis};
use crate::outcome::{Ledger, Outcome, Reason};
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
    Settle {
        settlement: Box<Settlement>,
        reply: oneshot::Sender<()>,
    },
}

/// A group ends when it has this many bytes of envelopes, or nothing more is waiting.
const GROUP_BYTES: usize = 4 << 20;

/// How often the thread tidies up, busy or not; after a failure, how long until it tries again.
const IDLE: Duration = Duration::from_millis(500);

/// The same while there are more records than there may be: a hundred thousand can go in a second.
const HURRY: Duration = Duration::from_millis(20);

/// Attempts of one event that are kept, the newest; `tries` knows how many there were. Without a bound a bad day
/// would fill the disk with what each waiting event was answered each time.
const KEPT_ATTEMPTS: u32 = 20;

/// Living generations of seen keys: the current one and those that ended less than a window ago. A new one starts
/// every half window, or when the current one holds its share of the entries.
const GENERATIONS: u64 = 3;

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
    waiting: BTreeMap<Arc<str>, u64>,
    /// Settlements whose commit failed: they are tried again until the disk takes them.
    unsettled: Vec<(Box<Settlement>, oneshot::Sender<()>)>,
    commits: u64,
    commands: u64,
    duplicates: u64,
    failing: bool,
    disk_bytes: u64,
    tidied_at: Instant,
}

/// Everything that a transaction changes and a rollback must restore.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    pub(super) ledger: Ledger,
    pub(super) history_bytes: u64,
    current: Generation,
    /// Older generations that are still looked at, newest first.
    older: Vec<Generation>,
}

/// Keys that were seen from a time on, until the next generation started.
#[derive(Debug, Clone, Copy, Default)]
struct Generation {
    number: i64,
    started_at: UnixMillis,
    entries: u64,
}

impl Totals {
    /// The oldest generation in which keys are still looked for.
    pub(super) fn oldest_generation(&self) -> i64 {
        self.older.last().unwrap_or(&self.current).number
    }
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        config: &Config,
        clock: Clock,
        shared: Arc<Shared>,
    ) -> Result<Self, QueueError> {
        let totals = read_totals(&connection)?;
        let mut writer = Self {
            connection,
            clock,
            shared,
            config: config.clone(),
            budget: Budget::new(config.history_full_per_second),
            totals,
            waiting: BTreeMap::new(),
            unsettled: Vec::new(),
            commits: 0,
            commands: 0,
            duplicates: 0,
            failing: false,
            disk_bytes: 0,
            tidied_at: Instant::now(),
        };
        writer.note_backlog()?;
        writer.publish()?;
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
            self.waiting.insert(Arc::clone(&organization), row.get(1)?);
            self.shared.fresh.note(organization, Seq(row.get(2)?));
        }
        Ok(())
    }

    /// Serves commands until every sender is gone.
    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        let mut idle = false;
        loop {
            let rest = if self.records_to_remove() > 0 { HURRY } else { IDLE };
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
        if !self.unsettled.is_empty() {
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
            Command::Settle { settlement, reply } => {
                group.bytes += 256;
                self.unsettled.push((settlement, reply));
            }
        }
    }

    /// Writes a group in one transaction and answers everybody in it.
    fn commit(&mut self, group: Group) {
        let settlements = std::mem::take(&mut self.unsettled);
        match self.write(&group, &settlements) {
            Ok((results, fresh)) => {
                self.failing = false;
                self.commits += 1;
                let mut replies: Replies = Vec::with_capacity(group.appends.len());
                for (append, result) in group.appends.into_iter().zip(results) {
                    self.duplicates += result.duplicates as u64;
                    replies.push((append.reply, result));
                }
                self.count_waiting(&fresh, &settlements);
                if let Err(error) = self.publish() {
                    tracing::warn!(%error, "the queue's size cannot be read");
                }
                self.shared.fresh.offer(fresh);
                for (reply, result) in replies {
                    // A sender that has gone away is told nothing; its events are stored all the same.
                    drop(reply.send(Ok(result)));
                }
                for (_, reply) in settlements {
                    let _gone = reply.send(());
                }
            }
            Err(error) => {
                tracing::error!(%error, "the queue cannot write; new events are refused until it can");
                self.unsettled = settlements;
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

    fn write(
        &mut self,
        group: &Group,
        settlements: &[(Box<Settlement>, oneshot::Sender<()>)],
    ) -> rusqlite::Result<(Vec<Appended>, Vec<Envelope>)> {
        let now = self.clock.now();
        let mut totals = self.totals.clone();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (settlement, _) in settlements {
            let full = match settlement.resolution {
                Resolution::Ended { outcome: Outcome::Delivered, .. } if settlement.tries == 0 => {
                    self.budget.spend(&settlement.organization, now)
                }
                Resolution::Ended { .. } | Resolution::Later { .. } => true,
            };
            settle(&transaction, settlement, now, full, &mut totals)?;
        }
        rotate_generation(&transaction, &self.config, now, &mut totals)?;
        let mut results = Vec::with_capacity(group.appends.len());
        let mut fresh = Vec::new();
        for append in &group.appends {
            results.push(insert(&transaction, &append.envelopes, &mut totals, &mut fresh)?);
        }
        write_totals(&transaction, &totals)?;
        transaction.commit()?;
        self.totals = totals;
        Ok((results, fresh))
    }

    fn count_waiting(&mut self, fresh: &[Envelope], settlements: &[(Box<Settlement>, oneshot::Sender<()>)]) {
        for envelope in fresh {
            *self.waiting.entry(Arc::clone(&envelope.content.organization)).or_default() += 1;
        }
        for (settlement, _) in settlements {
            if matches!(settlement.resolution, Resolution::Ended { .. })
                && let Some(count) = self.waiting.get_mut(&settlement.organization)
            {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// Makes the state of the last commit visible.
    fn publish(&mut self) -> rusqlite::Result<()> {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        self.disk_bytes = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
        let disk_bytes = self.disk_bytes;
        let full = disk_bytes >= self.config.max_disk.as_u64();
        let stats = Stats {
            ledger: self.totals.ledger,
            duplicates: self.duplicates,
            waiting: self.waiting.clone(),
            disk_bytes,
            history_bytes: self.totals.history_bytes,
            commits: self.commits,
            commands: self.commands,
            refusing: full.then_some(Refusing::Full),
            committed_at: self.clock.now(),
        };
        *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
        Ok(())
    }

    fn refuse(&self, refusing: Refusing) {
        self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner).refusing = Some(refusing);
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
            .and_then(|()| if idle { trim::give_back(&self.connection) } else { Ok(()) })
            .and_then(|()| self.publish());
        self.tidied_at = Instant::now();
        if let Err(error) = tidied {
            tracing::warn!(%error, "the queue could not be tidied; it is tried again");
        }
    }
}

fn read_totals(connection: &Connection) -> rusqlite::Result<Totals> {
    let mut totals = connection.query_row(
        "SELECT accepted, delivered, filtered, expired, dead, history_bytes FROM ledger",
        [],
        |row| {
            Ok(Totals {
                ledger: Ledger {
                    accepted: row.get(0)?,
                    delivered: row.get(1)?,
                    filtered: row.get(2)?,
                    expired: row.get(3)?,
                    dead: row.get(4)?,
                },
                history_bytes: row.get(5)?,
                ..Totals::default()
            })
        },
    )?;
    let mut generations = connection
        .prepare("SELECT generation, started_at, entries FROM generations ORDER BY generation DESC")?
        .query_map([], |row| {
            Ok(Generation { number: row.get(0)?, started_at: UnixMillis(row.get(1)?), entries: row.get(2)? })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    totals.current = generations.remove(0);
    totals.older = generations;
    Ok(totals)
}

pub(super) fn write_totals(transaction: &Transaction<'_>, totals: &Totals) -> rusqlite::Result<()> {
    let Ledger { accepted, delivered, filtered, expired, dead } = totals.ledger;
    transaction
        .prepare_cached(
            "UPDATE ledger SET accepted = ?, delivered = ?, filtered = ?, expired = ?, dead = ?, history_bytes = ?",
        )?
        .execute(params![accepted, delivered, filtered, expired, dead, totals.history_bytes])?;
    transaction
        .prepare_cached("UPDATE generations SET entries = ? WHERE generation = ?")?
        .execute(params![totals.current.entries, totals.current.number])?;
    Ok(())
}

/// Starts a new generation of seen keys when it is time, and stops looking at those that ended a window ago.
fn rotate_generation(
    transaction: &Transaction<'_>,
    config: &Config,
    now: UnixMillis,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    let window = config.dedup_window.0;
    let crowded = totals.current.entries >= config.dedup_entries / GENERATIONS;
    if crowded || now.since(totals.current.started_at) >= window / 2 {
        totals.older.insert(0, totals.current);
        let number = totals.current.number + 1;
        totals.current = Generation { number, started_at: now, entries: 0 };
        transaction
            .prepare_cached("INSERT INTO generations VALUES (?, ?, 0)")?
            .execute(params![number, now.0])?;
        // A crowded store forgets early rather than grow.
        totals.older.truncate(GENERATIONS as usize);
    }
    let mut ended_at = totals.current.started_at;
    totals.older.retain(|generation| {
        let alive = now.since(ended_at) < window;
        ended_at = generation.started_at;
        alive
    });
    Ok(())
}

fn insert(
    transaction: &Transaction<'_>,
    envelopes: &[NewEnvelope],
    totals: &mut Totals,
    fresh: &mut Vec<Envelope>,
) -> rusqlite::Result<Appended> {
    let mut result = Appended { accepted: 0, duplicates: 0 };
    for envelope in envelopes {
        let seq = totals.ledger.accepted + 1;
        if seen(transaction, envelope, seq, totals)? {
            result.duplicates += 1;
            continue;
        }
        transaction
            .prepare_cached(
                "INSERT INTO waiting (seq, organization, route, message_id, lane, kind, title, received_at,
                     surroundings, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                seq,
                &*envelope.organization,
                &*envelope.route,
                &*envelope.message_id,
                &*envelope.lane,
                &*envelope.kind,
                &*envelope.title,
                envelope.received_at.0,
                &*envelope.surroundings,
                &*envelope.payload,
            ])?;
        totals.ledger.accepted = seq;
        result.accepted += 1;
        fresh.push(Envelope {
            seq: Seq(seq),
            content: envelope.clone(),
            due: None,
            tries: 0,
            first_failed_at: None,
            done: String::new(),
        });
    }
    Ok(result)
}

/// Whether the key was seen in a living generation; if not, it is noted in the current one.
fn seen(
    transaction: &Transaction<'_>,
    envelope: &NewEnvelope,
    seq: u64,
    totals: &mut Totals,
) -> rusqlite::Result<bool> {
    let key = envelope.key.0;
    let mut look = transaction.prepare_cached("SELECT 1 FROM seen WHERE generation = ? AND key = ?")?;
    for generation in &totals.older {
        if look.query_row(params![generation.number, key], |_| Ok(())).optional()?.is_some() {
            return Ok(true);
        }
    }
    let noted = transaction
        .prepare_cached("INSERT OR IGNORE INTO seen (generation, key, seq) VALUES (?, ?, ?)")?
        .execute(params![totals.current.number, key, seq])?;
    totals.current.entries += noted as u64;
    Ok(noted == 0)
}

const MOVED: &str =
    "(seq, organization, route, message_id, lane, kind, title, received_at, ended_at, outcome,
     reason, tries, done, surroundings, payload, size)
     SELECT seq, organization, route, message_id, lane, kind, title, received_at, ?2, ?3, ?4, ?5, ?6,";

fn settle(
    transaction: &Transaction<'_>,
    settlement: &Settlement,
    now: UnixMillis,
    full: bool,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    let Settlement { seq, resolution, tries, first_failed_at, done, attempts, .. } = settlement;
    let moved = match *resolution {
        Resolution::Later { due, reason } => transaction
            .prepare_cached(
                "UPDATE waiting SET due = ?, reason = ?, tries = ?, first_failed_at = ?, done = ? WHERE seq = ?",
            )?
            .execute(params![due.0, reason.as_str(), tries, first_failed_at.map(|at| at.0), done, seq.0])?,
        Resolution::Ended { outcome, reason } => {
            let attempts: u64 = attempts.iter().map(|attempt| attempt.size() as u64).sum();
            let earlier = if *tries == 0 { 0 } else { size_of_attempts(transaction, *seq)? };
            end(transaction, settlement, (outcome, reason), now, full, earlier + attempts, totals)?
        }
    };
    if moved == 0 {
        // Only a second settlement of the same envelope comes here; the first one stands.
        tracing::error!(seq = seq.0, "an envelope was settled twice; the second settlement is ignored");
        return Ok(());
    }
    if full {
        for attempt in attempts {
            transaction
                .prepare_cached(
                    "INSERT INTO attempts (seq, at, call, status, duration_ms, reason, request, response)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    seq.0,
                    attempt.at.0,
                    attempt.call,
                    attempt.status,
                    attempt.duration_ms,
                    attempt.reason.as_str(),
                    attempt.request,
                    attempt.response,
                ])?;
        }
        if *tries > 0 || matches!(resolution, Resolution::Later { .. }) {
            transaction
                .prepare_cached(
                    "DELETE FROM attempts WHERE seq = ?1 AND id <=
                         (SELECT id FROM attempts WHERE seq = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                )?
                .execute(params![seq.0, KEPT_ATTEMPTS])?;
        }
    }
    Ok(())
}

/// About how many bytes the stored attempts of an event take; see `Attempt::size`.
fn size_of_attempts(transaction: &Transaction<'_>, Seq(seq): Seq) -> rusqlite::Result<u64> {
    transaction
        .prepare_cached(
            "SELECT coalesce(sum(80 + octet_length(call) + octet_length(request) + octet_length(response)), 0)
             FROM attempts WHERE seq = ?",
        )?
        .query_row([seq], |row| row.get(0))
}

/// Moves an envelope from `waiting` to where its outcome belongs; how many rows were moved (0 or 1).
fn end(
    transaction: &Transaction<'_>,
    settlement: &Settlement,
    (outcome, reason): (Outcome, Reason),
    now: UnixMillis,
    full: bool,
    attempts_size: u64,
    totals: &mut Totals,
) -> rusqlite::Result<usize> {
    let (table, content) = match (outcome, full) {
        (Outcome::Dead, _) => ("dead", "surroundings, payload, 200 + octet_length(payload) + ?7"),
        (Outcome::Delivered | Outcome::Filtered | Outcome::Expired, true) => {
            ("settled", "surroundings, payload, 200 + octet_length(payload) + ?7")
        }
        (Outcome::Delivered | Outcome::Filtered | Outcome::Expired, false) => {
            ("settled", "NULL, NULL, 200 + 0 * ?7")
        }
    };
    let size: Option<u64> = transaction
        .prepare_cached(&format!(
            "INSERT INTO {table} {MOVED} {content} FROM waiting WHERE seq = ?1 RETURNING size"
        ))?
        .query_row(
            params![
                settlement.seq.0,
                now.0,
                outcome.as_str(),
                reason.as_str(),
                settlement.tries,
                settlement.done,
                attempts_size
            ],
            |row| row.get(0),
        )
        .optional()?;
    let Some(size) = size else { return Ok(0) };
    totals.ledger.count(outcome);
    totals.history_bytes += if outcome == Outcome::Dead { 0 } else { size };
    transaction.prepare_cached("DELETE FROM waiting WHERE seq = ?")?.execute([settlement.seq.0])
}
