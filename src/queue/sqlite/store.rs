//! What a transaction does: rows in, rows moved, counts kept. Every function runs inside the writer's transaction and
//! changes a copy of the totals, so that a rollback leaves nothing behind.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, params};

use super::forget;
use super::seen::Seen;
use crate::clock::UnixMillis;
use crate::outcome::{Ledger, Outcome, Reason};
use crate::queue::counts::Tally;
use crate::queue::{
    Account, Attempt, Envelope, Forgotten, NewEnvelope, Progress, Resolution, Seq, Settlement,
};

/// Attempts of one event that are kept, the newest; `tries` knows how many there were. Without a bound a bad day
/// would fill the disk with what each waiting event was answered each time.
const KEPT_ATTEMPTS: u32 = 20;

/// Everything that a transaction changes and a rollback must restore.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) ledger: Ledger,
    /// The last sequence number that was given.
    pub(super) last_seq: u64,
    /// Dead letters of all organizations.
    pub(super) dead_letters: u64,
    /// Parked envelopes of all organizations. While there are none, nobody looks whether an envelope is one.
    pub(super) parked: u64,
    pub(super) history_bytes: u64,
}

impl Totals {
    /// The next sequence number.
    pub(super) fn next_seq(&mut self) -> u64 {
        self.last_seq += 1;
        self.last_seq
    }
}

pub(super) fn read_totals(connection: &Connection) -> rusqlite::Result<Totals> {
    connection.query_row(
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
            })
        },
    )
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
        ])
        .map(drop)
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

/// What a transaction brought.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub(super) fresh: Vec<Envelope>,
    pub(super) forgotten: Vec<Forgotten>,
    pub(super) tally: Tally,
}

/// The statements that a group runs for each of its events.
pub(super) struct Statements<'t> {
    insert: CachedStatement<'t>,
    leave: CachedStatement<'t>,
    settle: CachedStatement<'t>,
    bury: CachedStatement<'t>,
}

/// The statement that records an event that has its outcome.
macro_rules! record_in {
    ($table:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (seq, organization, route, message_id, lane, kind, title, received_at, ended_at, outcome, reason, tries,
                 done, size, detail, number, replays, surroundings, payload)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
    };
}

impl<'t> Statements<'t> {
    pub(super) fn new(transaction: &'t Transaction<'t>) -> rusqlite::Result<Self> {
        Ok(Self {
            insert: transaction.prepare_cached(
                "INSERT INTO waiting (seq, organization, route, message_id, lane, kind, title, received_at,
                     surroundings, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?,
            leave: transaction.prepare_cached("DELETE FROM waiting WHERE seq = ?")?,
            settle: transaction.prepare_cached(record_in!("settled"))?,
            bury: transaction.prepare_cached(record_in!("dead"))?,
        })
    }
}

/// Keeps an event, unless its key was seen before; whether it was new.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    statements: &mut Statements<'_>,
    envelope: NewEnvelope,
    (seen, totals): (&mut Seen, &mut Totals),
    brought: &mut Brought,
) -> rusqlite::Result<bool> {
    if seen.note(transaction, envelope.key, totals.last_seq + 1)? {
        return Ok(false);
    }
    let seq = totals.next_seq();
    totals.ledger.accepted += 1;
    if envelope.forgets {
        forget::note(transaction, &envelope, Seq(seq), totals)?;
        brought.forgotten.push(Forgotten {
            organization: envelope.organization,
            lane: envelope.lane,
            upto: Seq(seq),
        });
        return Ok(true);
    }
    statements.insert.execute(params![
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
        content: Arc::new(envelope),
        due: None,
        progress: Progress::default(),
    });
    Ok(true)
}

/// About what a one-line record takes on disk.
pub(super) const LINE_SIZE: u64 = 200;

pub(super) fn settle(
    transaction: &Transaction<'_>,
    statements: &mut Statements<'_>,
    settlement: &Settlement,
    now: UnixMillis,
    totals: &mut Totals,
    brought: &mut Brought,
) -> rusqlite::Result<()> {
    let Settlement { seq, resolution, progress, .. } = settlement;
    let is_there = match *resolution {
        Resolution::Later { due, reason, parked } => {
            if parked {
                park(transaction, settlement, totals, brought)?;
            }
            transaction
                .prepare_cached(
                    // What is parked without another try keeps the reason of the last one.
                    "UPDATE waiting SET due = ?1, reason = iif(?9, coalesce(reason, ?2), ?2), tries = ?3,
                         soft_failures = ?4, first_failed_at = ?5, done = ?6, detail = iif(?9, coalesce(?7, detail), ?7)
                     WHERE seq = ?8",
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
                    parked,
                ])?
                > 0
        }
        Resolution::Ended { outcome, reason } => {
            end(transaction, statements, settlement, (outcome, reason), now, totals, brought)?
        }
    };
    if !is_there {
        // The person was forgotten while the envelope was in flight. The first outcome stands.
        tracing::warn!(seq = seq.0, "an envelope had ended before it was settled; its first outcome stands");
        return Ok(());
    }
    if let Account::InFull(attempts) = &settlement.account {
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
        if settlement.may_have_attempts() || matches!(resolution, Resolution::Later { .. }) {
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
    brought.tally.of(&settlement.content.organization).parked += i64::from(parked > 0);
    Ok(())
}

/// Takes a row that leaves `waiting` out of the counts.
pub(super) fn count_out(
    transaction: &Transaction<'_>,
    seq: Seq,
    organization: &Arc<str>,
    totals: &mut Totals,
    tally: &mut Tally,
) -> rusqlite::Result<()> {
    let counts = tally.of(organization);
    counts.waiting -= 1;
    if totals.parked > 0 && is_parked(transaction, seq)? {
        counts.parked -= 1;
        totals.parked -= 1;
    }
    Ok(())
}

/// Moves an envelope from `waiting` to where its outcome belongs; whether it was there.
fn end(
    transaction: &Transaction<'_>,
    statements: &mut Statements<'_>,
    settlement: &Settlement,
    (outcome, reason): (Outcome, Reason),
    now: UnixMillis,
    totals: &mut Totals,
    brought: &mut Brought,
) -> rusqlite::Result<bool> {
    let Settlement { seq, content, progress, .. } = settlement;
    let was_parked = totals.parked > 0 && is_parked(transaction, *seq)?;
    if statements.leave.execute([seq.0])? == 0 {
        return Ok(false);
    }
    let mut size = LINE_SIZE;
    let mut kept = None;
    let attempts = match &settlement.account {
        Account::InFull(attempts) => Some(attempts.as_slice()),
        // A record in one line has no attempts.
        Account::InALine if settlement.may_have_attempts() => Some(&[][..]),
        Account::InALine => None,
    };
    if let Some(attempts) = attempts {
        let bytes: usize = attempts.iter().map(Attempt::size).sum();
        size += (content.size() + bytes) as u64;
        // An event that was never tried has no attempts from before, and is spared the look.
        size += if settlement.may_have_attempts() { size_of_attempts(transaction, *seq)? } else { 0 };
        kept = Some((&*content.surroundings, &*content.payload));
    }
    let is_dead = outcome == Outcome::Dead;
    let record = if is_dead { &mut statements.bury } else { &mut statements.settle };
    record.execute(params![
        seq.0,
        &*content.organization,
        &*content.route,
        &*content.message_id,
        &*content.lane,
        &*content.kind,
        &*content.title,
        content.received_at.0,
        now.0,
        outcome.as_str(),
        reason.as_str(),
        progress.tries,
        progress.done,
        size,
        settlement.detail,
        (settlement.number != *seq).then_some(settlement.number.0),
        settlement.replays,
        kept.map(|(surroundings, _)| surroundings),
        kept.map(|(_, payload)| payload),
    ])?;
    let counts = brought.tally.of(&content.organization);
    counts.waiting -= 1;
    counts.parked -= i64::from(was_parked);
    counts.dead += i64::from(is_dead);
    totals.parked -= u64::from(was_parked);
    totals.dead_letters += u64::from(is_dead);
    totals.history_bytes += if is_dead { 0 } else { size };
    totals.ledger.count(outcome);
    Ok(true)
}

fn is_parked(transaction: &Transaction<'_>, Seq(seq): Seq) -> rusqlite::Result<bool> {
    let mut look = transaction.prepare_cached("SELECT parked FROM waiting WHERE seq = ?")?;
    Ok(look.query_row([seq], |row| row.get(0)).optional()?.unwrap_or(false))
}
