//! What a transaction does: rows in, rows moved, counts kept. Every function runs inside the writer's transaction and
//! changes a copy of the totals, so that a rollback leaves nothing behind.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::forget;
use crate::clock::UnixMillis;
use crate::outcome::{Ledger, Outcome, Reason};
use crate::queue::counts::Tally;
use crate::queue::{
    Appended, Config, DedupKey, Envelope, Forgotten, NewEnvelope, Progress, Resolution, Seq, Settlement,
};

/// Living generations of seen keys: the current one and those that ended less than a window ago. A new one starts
/// every half window, or when the current one holds its share of the entries.
const OLDER: usize = 3;

/// Attempts of one event that are kept, the newest; `tries` knows how many there were. Without a bound a bad day
/// would fill the disk with what each waiting event was answered each time.
const KEPT_ATTEMPTS: u32 = 20;

/// Everything that a transaction changes and a rollback must restore.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    pub(super) ledger: Ledger,
    /// The last sequence number that was given.
    pub(super) last_seq: u64,
    /// Dead letters of all organizations.
    pub(super) dead_letters: u64,
    /// Parked envelopes of all organizations. While there are none, nobody looks whether an envelope is one.
    pub(super) parked: u64,
    pub(super) history_bytes: u64,
    current: Generation,
    /// Older generations that are still looked at, newest first.
    older: Vec<Generation>,
}

/// Keys that were seen from a time on, until the next generation started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Generation {
    number: i64,
    started_at: UnixMillis,
    entries: u64,
}

impl Totals {
    /// The next sequence number.
    pub(super) fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// The oldest generation in which keys are still looked for.
    pub(super) fn oldest_generation(&self) -> i64 {
        self.older.last().unwrap_or(&self.current).number
    }
}

pub(super) fn read_totals(connection: &Connection) -> rusqlite::Result<Totals> {
    let mut totals = connection.query_row(
        "SELECT accepted, delivered, filtered, expired, dead, history_bytes, last_seq,
             (SELECT coalesce(sum(parked), 0) FROM counts), (SELECT coalesce(sum(dead), 0) FROM counts) FROM ledger",
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
                last_seq: row.get(6)?,
                parked: row.get(7)?,
                dead_letters: row.get(8)?,
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
            "UPDATE ledger SET accepted = ?, delivered = ?, filtered = ?, expired = ?, dead = ?, history_bytes = ?,
                 last_seq = ?",
        )?
        .execute(params![
            accepted,
            delivered,
            filtered,
            expired,
            dead,
            totals.history_bytes,
            totals.last_seq
        ])?;
    transaction
        .prepare_cached("UPDATE generations SET entries = ? WHERE generation = ?")?
        .execute(params![totals.current.entries, totals.current.number])?;
    Ok(())
}

/// Adds a transaction's changes to the stored counts: a row per organization that it touched, not per event.
pub(super) fn write_counts(transaction: &Transaction<'_>, tally: &Tally) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO counts (organization, waiting, parked, dead) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET waiting = waiting + excluded.waiting, parked = parked + excluded.parked,
             dead = dead + excluded.dead",
    )?;
    for (organization, counts) in tally.changes() {
        add.execute(params![&**organization, counts.waiting, counts.parked, counts.dead])?;
    }
    Ok(())
}

/// Removes the rows of organizations that have nothing here any more: names come and go.
pub(super) fn sweep_counts(connection: &Connection) -> rusqlite::Result<usize> {
    connection.prepare_cached("DELETE FROM counts WHERE waiting = 0 AND parked = 0 AND dead = 0")?.execute([])
}

/// Starts a new generation of seen keys when it is time, and stops looking at those that ended a window ago.
pub(super) fn rotate_generation(
    transaction: &Transaction<'_>,
    config: &Config,
    now: UnixMillis,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    let window = config.dedup_window.0;
    let crowded = totals.current.entries >= config.dedup_entries / (OLDER as u64 + 1);
    if crowded || now.since(totals.current.started_at) >= window / 2 {
        totals.older.insert(0, totals.current);
        let number = totals.current.number + 1;
        totals.current = Generation { number, started_at: now, entries: 0 };
        transaction
            .prepare_cached("INSERT INTO generations VALUES (?, ?, 0)")?
            .execute(params![number, now.0])?;
        // A crowded store forgets early rather than grow.
        totals.older.truncate(OLDER);
    }
    let mut ended_at = totals.current.started_at;
    totals.older.retain(|generation| {
        let alive = now.since(ended_at) < window;
        ended_at = generation.started_at;
        alive
    });
    Ok(())
}

/// What a transaction brought.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub(super) fresh: Vec<Envelope>,
    pub(super) forgotten: Vec<Forgotten>,
    pub(super) tally: Tally,
}

pub(super) fn insert(
    transaction: &Transaction<'_>,
    envelopes: &[NewEnvelope],
    totals: &mut Totals,
    brought: &mut Brought,
) -> rusqlite::Result<Appended> {
    let mut result = Appended { accepted: 0, duplicates: 0 };
    for envelope in envelopes {
        if seen(transaction, envelope.key, totals.last_seq + 1, totals)? {
            result.duplicates += 1;
            continue;
        }
        let seq = totals.next_seq();
        totals.ledger.accepted += 1;
        result.accepted += 1;
        if envelope.forgets {
            forget::note(transaction, envelope, Seq(seq), totals)?;
            brought.forgotten.push(Forgotten {
                organization: Arc::clone(&envelope.organization),
                lane: envelope.lane.clone(),
                upto: Seq(seq),
            });
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
        brought.tally.of(&envelope.organization).waiting += 1;
        brought.fresh.push(Envelope {
            seq: Seq(seq),
            number: Seq(seq),
            replays: 0,
            parked: false,
            content: envelope.clone(),
            due: None,
            progress: Progress::default(),
        });
    }
    Ok(result)
}

/// Whether the key was seen in a living generation; if not, it is noted in the current one.
pub(super) fn seen(
    transaction: &Transaction<'_>,
    DedupKey(key): DedupKey,
    seq: u64,
    totals: &mut Totals,
) -> rusqlite::Result<bool> {
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

/// The statement that copies a waiting row to where its outcome belongs: a record in full, or one line.
macro_rules! copy_to {
    ($table:literal, $content:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (seq, organization, route, message_id, lane, kind, title, received_at, ended_at, outcome, reason, tries,
                  done, size, detail, number, replays, surroundings, payload)
              SELECT seq, organization, route, message_id, lane, kind, title, received_at, ?2, ?3, ?4, ?5, ?6, ?7, ?8,
                  number, replays, ",
            $content,
            " FROM waiting WHERE seq = ?1"
        )
    };
}

const TO_DEAD: &str = copy_to!("dead", "surroundings, payload");
const TO_SETTLED: &str = copy_to!("settled", "surroundings, payload");
const TO_SETTLED_IN_A_LINE: &str = copy_to!("settled", "NULL, NULL");

/// About what a one-line record takes on disk.
pub(super) const LINE_SIZE: u64 = 200;

pub(super) fn settle(
    transaction: &Transaction<'_>,
    settlement: &Settlement,
    now: UnixMillis,
    full: bool,
    totals: &mut Totals,
    brought: &mut Brought,
) -> rusqlite::Result<()> {
    let Settlement { seq, resolution, progress, attempts, .. } = settlement;
    let moved = match *resolution {
        Resolution::Later { due, reason, parked } => {
            if parked {
                park(transaction, settlement, totals, brought)?;
            }
            transaction
                .prepare_cached(
                    "UPDATE waiting SET due = ?, reason = ?, tries = ?, soft_failures = ?, first_failed_at = ?,
                         done = ?, detail = ? WHERE seq = ?",
                )?
                .execute(params![
                    due.0,
                    reason.as_str(),
                    progress.tries,
                    progress.soft_failures,
                    progress.first_failed_at.map(|at| at.0),
                    progress.done,
                    settlement.detail,
                    seq.0,
                ])?
        }
        Resolution::Ended { outcome, reason } => {
            end(transaction, settlement, (outcome, reason), now, full, totals, brought)?
        }
    };
    if moved == 0 {
        // The person was forgotten while the envelope was in flight. The first outcome stands.
        tracing::warn!(seq = seq.0, "an envelope had ended before it was settled; its first outcome stands");
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
        if progress.tries > 0 || matches!(resolution, Resolution::Later { .. }) {
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

/// Notes which calls of a waiting envelope have been answered.
pub(super) fn progress(transaction: &Transaction<'_>, seq: Seq, done: &str) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached("UPDATE waiting SET done = ? WHERE seq = ?")?;
    update.execute(params![done, seq.0]).map(drop)
}

/// Parks an envelope, unless it is parked already or has ended.
fn park(
    transaction: &Transaction<'_>,
    settlement: &Settlement,
    totals: &mut Totals,
    brought: &mut Brought,
) -> rusqlite::Result<()> {
    let parked = transaction
        .prepare_cached("UPDATE waiting SET parked = 1 WHERE seq = ? AND parked = 0")?
        .execute([settlement.seq.0])?;
    totals.parked += parked as u64;
    brought.tally.of(&settlement.organization).parked += i64::from(parked > 0);
    Ok(())
}

/// Takes a row that leaves `waiting` out of the counts.
pub(super) fn count_out(
    transaction: &Transaction<'_>,
    Seq(seq): Seq,
    organization: &Arc<str>,
    totals: &mut Totals,
    tally: &mut Tally,
) -> rusqlite::Result<()> {
    let counts = tally.of(organization);
    counts.waiting -= 1;
    if totals.parked > 0 {
        let parked: bool = transaction
            .prepare_cached("SELECT parked FROM waiting WHERE seq = ?")?
            .query_row([seq], |row| row.get(0))?;
        counts.parked -= i64::from(parked);
        totals.parked -= u64::from(parked);
    }
    Ok(())
}

/// Moves an envelope from `waiting` to where its outcome belongs; how many rows were moved (0 or 1).
fn end(
    transaction: &Transaction<'_>,
    settlement: &Settlement,
    (outcome, reason): (Outcome, Reason),
    now: UnixMillis,
    full: bool,
    totals: &mut Totals,
    brought: &mut Brought,
) -> rusqlite::Result<usize> {
    let copy = match (outcome, full) {
        (Outcome::Dead, _) => TO_DEAD,
        (Outcome::Delivered | Outcome::Filtered | Outcome::Expired, true) => TO_SETTLED,
        (Outcome::Delivered | Outcome::Filtered | Outcome::Expired, false) => TO_SETTLED_IN_A_LINE,
    };
    // An event that never failed has no attempts from before, and is spared the look.
    let earlier =
        if settlement.progress.tries == 0 { 0 } else { size_of_attempts(transaction, settlement.seq)? };
    let size = LINE_SIZE + if full { settlement.size() + earlier } else { 0 };
    let copied = transaction.prepare_cached(copy)?.execute(params![
        settlement.seq.0,
        now.0,
        outcome.as_str(),
        reason.as_str(),
        settlement.progress.tries,
        settlement.progress.done,
        size,
        settlement.detail,
    ])?;
    if copied == 0 {
        return Ok(0);
    }
    count_out(transaction, settlement.seq, &settlement.organization, totals, &mut brought.tally)?;
    if outcome == Outcome::Dead {
        brought.tally.of(&settlement.organization).dead += 1;
        totals.dead_letters += 1;
    }
    totals.ledger.count(outcome);
    totals.history_bytes += if outcome == Outcome::Dead { 0 } else { size };
    transaction.prepare_cached("DELETE FROM waiting WHERE seq = ?")?.execute([settlement.seq.0])
}
