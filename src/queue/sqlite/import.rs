//! Events of another queue, out of its export.
//!
//! Invariants:
//! * A line is taken once: how far the import has come is noted in the transaction that takes the lines.
//! * An event whose key is remembered here is left out: this queue has it, or had it.
//! * Events get new numbers in the order in which they stand, so a lane keeps its order. What was parked lines up again.

use std::sync::Arc;

use rusqlite::{OptionalExtension, Transaction, params};

use super::dead::Moved;
use super::seen::Seen;
use super::store::Totals;
use crate::clock::UnixMillis;
use crate::outcome::Outcome;
use crate::queue::transfer::{Carried, ImportError, Imported, Line, Part};
use crate::queue::{Place, Seq};

/// Takes a part, if it is the next one.
pub(super) fn take(
    transaction: &Transaction<'_>,
    part: &Part,
    now: UnixMillis,
    (seen, totals): (&mut Seen, &mut Totals),
    moved: &mut Moved,
) -> rusqlite::Result<Result<Imported, ImportError>> {
    let taken = transaction
        .prepare_cached("SELECT lines FROM imports WHERE export = ?")?
        .query_row([&part.export], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    if part.lines.is_empty() {
        return Ok(Ok(Imported { lines: taken, ..Imported::default() }));
    }
    if taken != part.from {
        return Ok(Err(ImportError::NotNext { taken }));
    }
    let mut imported = Imported { lines: taken + part.lines.len() as u64, ..Imported::default() };
    for line in &part.lines {
        match line {
            Line::Export(_) | Line::End(_) => {}
            Line::Keys(keys) => {
                for key in &keys.keys {
                    // Their events are not here: no number leads to them.
                    seen.note(transaction, *key, 0)?;
                }
            }
            Line::Event(event) => {
                let key = event.key_in(&part.export);
                if seen.note(transaction, key, totals.last_seq + 1)? {
                    imported.duplicates += 1;
                } else {
                    insert(transaction, event, totals, moved)?;
                    imported.accepted += 1;
                }
            }
        }
    }
    transaction
        .prepare_cached(
            "INSERT INTO imports (export, lines, at) VALUES (?, ?, ?)
             ON CONFLICT DO UPDATE SET lines = excluded.lines, at = excluded.at",
        )?
        .execute(params![part.export, imported.lines, now.0])?;
    Ok(Ok(imported))
}

fn insert(
    transaction: &Transaction<'_>,
    event: &Carried,
    totals: &mut Totals,
    moved: &mut Moved,
) -> rusqlite::Result<()> {
    let seq = totals.next_seq();
    let organization: Arc<str> = Arc::from(event.organization.as_str());
    let counts = moved.tally.of(&organization);
    totals.ledger.accepted += 1;
    // The record of a person's decision about a dead letter is one of the ended.
    let outcome = event.outcome.unwrap_or(Outcome::Dead);
    match event.place {
        Place::Waiting => {
            counts.waiting += 1;
            moved.latest.insert(organization, Seq(seq));
            insert_waiting(transaction, event, seq)?;
        }
        Place::Dead => {
            counts.dead += 1;
            totals.dead_letters += 1;
            totals.ledger.count(Outcome::Dead);
            insert_ended(transaction, "dead", event, seq, Outcome::Dead)?;
        }
        Place::Settled => {
            totals.ledger.count(outcome);
            totals.history_bytes += event.size();
            insert_ended(transaction, "settled", event, seq, outcome)?;
        }
    }
    let mut attempts = transaction.prepare_cached(
        "INSERT INTO attempts (seq, at, call, status, duration_ms, reason, request, response)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for attempt in &event.attempts {
        attempts.execute(params![
            seq,
            attempt.at.0,
            attempt.call,
            attempt.status,
            attempt.duration_ms,
            attempt.reason.as_str(),
            attempt.request,
            attempt.response,
        ])?;
    }
    moved.count += 1;
    Ok(())
}

fn insert_waiting(transaction: &Transaction<'_>, event: &Carried, seq: u64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO waiting (seq, organization, route, message_id, lane, kind, title, received_at, due, reason,
                 tries, first_failed_at, soft_failures, done, surroundings, payload, replays, detail)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            seq,
            event.organization,
            event.route,
            event.message_id,
            event.person,
            event.kind,
            event.title,
            event.received_at.0,
            event.due.map(|due| due.0),
            event.reason.map(crate::outcome::Reason::as_str),
            event.tries,
            event.first_failed_at.map(|at| at.0),
            event.soft_failures,
            event.calls_done,
            event.surroundings.as_deref().unwrap_or_default(),
            event.payload.as_deref().unwrap_or_default(),
            event.replays,
            event.detail,
        ])
        .map(drop)
}

fn insert_ended(
    transaction: &Transaction<'_>,
    table: &str,
    event: &Carried,
    seq: u64,
    outcome: Outcome,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(&format!(
            "INSERT INTO {table} (seq, organization, route, message_id, lane, kind, title, received_at, ended_at, outcome,
                 reason, tries, done, surroundings, payload, size, replays, detail)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        ))?
        .execute(params![
            seq,
            event.organization,
            event.route,
            event.message_id,
            event.person,
            event.kind,
            event.title,
            event.received_at.0,
            event.ended_at.unwrap_or(event.received_at).0,
            outcome.as_str(),
            event.reason.map_or(outcome.as_str(), crate::outcome::Reason::as_str),
            event.tries,
            event.calls_done,
            event.surroundings,
            event.payload,
            event.size(),
            event.replays,
            event.detail,
        ])
        .map(drop)
}
