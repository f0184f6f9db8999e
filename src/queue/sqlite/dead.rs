//! What becomes of dead letters: back to the end of the queue, or on to the history.
//!
//! Invariants:
//! * A letter moves in one transaction with the counts, so it is in exactly one place at any moment.
//! * What belongs to a person who is being forgotten does not move: it must not escape behind the request's number.
//! * It gets a new place in the order, and keeps its number. Its attempts go with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::store::{LINE_SIZE, Totals};
use crate::clock::UnixMillis;
use crate::outcome::Reason;
use crate::queue::counts::Tally;
use crate::queue::{Fate, Seq};

/// Letters that one transaction moves at most, and about how many bytes: some ten milliseconds of work.
const STEP: usize = 500;
const STEP_BYTES: u64 = 8 << 20;

/// What one step did.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// How many of the letters were looked at, from the first on.
    pub(super) looked_at: usize,
    /// How many of those were moved.
    pub(super) count: u64,
    pub(super) tally: Tally,
    /// The newest place in the order that each organization's replayed letters got.
    pub(super) latest: BTreeMap<Arc<str>, Seq>,
}

/// Leaves out what belongs to a person who is being forgotten.
macro_rules! not_forgotten {
    () => {
        "NOT EXISTS (SELECT 1 FROM forgotten WHERE forgotten.organization = dead.organization
             AND forgotten.lane = dead.lane AND upto > dead.seq)"
    };
}

const TO_WAITING: &str = concat!(
    "INSERT INTO waiting (seq, number, replays, organization, route, message_id, lane, kind, title, received_at, done,
         surroundings, payload)
     SELECT ?1, coalesce(number, seq), replays + 1, organization, route, message_id, lane, kind, title, received_at,
         iif(?2, '', done), coalesce(surroundings, ''), payload
     FROM dead WHERE seq = ?3 AND payload IS NOT NULL AND ",
    not_forgotten!(),
    " RETURNING organization, octet_length(payload)"
);

const TO_SETTLED: &str = concat!(
    "INSERT INTO settled (seq, number, replays, organization, route, message_id, lane, kind, title, received_at,
         ended_at, outcome, reason, detail, tries, done, size, surroundings, payload)
     SELECT ?1, coalesce(number, seq), replays, organization, route, message_id, lane, kind, title, received_at,
         ?3, outcome, ?4, ?5, tries, done, iif(?6, size, ?7), iif(?6, surroundings, NULL), iif(?6, payload, NULL)
     FROM dead WHERE seq = ?2 AND ",
    not_forgotten!(),
    " RETURNING organization, size"
);

/// Moves the first of these letters, as many as one transaction should.
pub(super) fn decide(
    transaction: &Transaction<'_>,
    letters: &[Seq],
    fate: &Fate,
    now: UnixMillis,
    totals: &mut Totals,
) -> rusqlite::Result<Moved> {
    let mut step = Moved::default();
    let mut bytes = 0;
    for letter in letters.iter().take(STEP) {
        if bytes > STEP_BYTES {
            break;
        }
        step.looked_at += 1;
        bytes += match fate {
            Fate::Replay { repeat_done } => replay(transaction, *letter, *repeat_done, totals, &mut step)?,
            Fate::Discard { why } => {
                let because = Because { reason: Reason::Discarded, detail: Some(why), in_full: true };
                discard(transaction, *letter, &because, now, totals, &mut step)?
            }
        };
    }
    Ok(step)
}

/// Moves the oldest of so many letters to the history, one line each.
pub(super) fn drop_oldest(
    transaction: &Transaction<'_>,
    excess: u64,
    now: UnixMillis,
    totals: &mut Totals,
) -> rusqlite::Result<Moved> {
    let oldest: Vec<Seq> = transaction
        .prepare_cached(concat!("SELECT seq FROM dead WHERE ", not_forgotten!(), " ORDER BY seq LIMIT ?"))?
        .query_map([excess.min(STEP as u64)], |row| row.get(0).map(Seq))?
        .collect::<rusqlite::Result<_>>()?;
    let because = Because { reason: Reason::Dropped, detail: None, in_full: false };
    let mut step = Moved::default();
    for letter in oldest {
        discard(transaction, letter, &because, now, totals, &mut step)?;
    }
    Ok(step)
}

/// Puts a letter at the end of the queue; about how many bytes that moved.
fn replay(
    transaction: &Transaction<'_>,
    Seq(letter): Seq,
    repeat_done: bool,
    totals: &mut Totals,
    step: &mut Moved,
) -> rusqlite::Result<u64> {
    let seq = totals.last_seq + 1;
    let copied = transaction
        .prepare_cached(TO_WAITING)?
        .query_row(params![seq, repeat_done, letter], organization_and_size)
        .optional()?;
    let Some((organization, size)) = copied else { return Ok(0) };
    leave(transaction, letter, seq, &organization, totals, step)?;
    transaction.prepare_cached("UPDATE attempts SET seq = ? WHERE seq = ?")?.execute(params![seq, letter])?;
    totals.ledger.revived();
    step.tally.of(&organization).waiting += 1;
    step.latest.insert(organization, Seq(seq));
    Ok(size)
}

/// Why a letter leaves for the history, and how much of it is kept there.
struct Because<'a> {
    reason: Reason,
    detail: Option<&'a str>,
    in_full: bool,
}

/// Puts a letter into the history; about how many bytes that moved.
fn discard(
    transaction: &Transaction<'_>,
    Seq(letter): Seq,
    because: &Because<'_>,
    now: UnixMillis,
    totals: &mut Totals,
    step: &mut Moved,
) -> rusqlite::Result<u64> {
    // A new place in the order, so that the history stays ordered by when things ended, and is trimmed by that.
    let seq = totals.last_seq + 1;
    let Because { reason, detail, in_full } = because;
    let copied = transaction
        .prepare_cached(TO_SETTLED)?
        .query_row(
            params![seq, letter, now.0, reason.as_str(), detail, in_full, LINE_SIZE],
            organization_and_size,
        )
        .optional()?;
    let Some((organization, size)) = copied else { return Ok(0) };
    leave(transaction, letter, seq, &organization, totals, step)?;
    let attempts = if *in_full {
        "UPDATE attempts SET seq = ?2 WHERE seq = ?1"
    } else {
        "DELETE FROM attempts WHERE seq = ?1"
    };
    let mut attempts = transaction.prepare_cached(attempts)?;
    if *in_full {
        attempts.execute(params![letter, seq])?
    } else {
        attempts.execute([letter])?
    };
    totals.history_bytes += if *in_full { size } else { LINE_SIZE };
    Ok(size)
}

/// Takes a letter that was copied out of the dead ones.
fn leave(
    transaction: &Transaction<'_>,
    letter: u64,
    seq: u64,
    organization: &Arc<str>,
    totals: &mut Totals,
    step: &mut Moved,
) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM dead WHERE seq = ?")?.execute([letter])?;
    totals.last_seq = seq;
    totals.dead_letters -= 1;
    step.tally.of(organization).dead -= 1;
    step.count += 1;
    Ok(())
}

fn organization_and_size(row: &Row<'_>) -> rusqlite::Result<(Arc<str>, u64)> {
    Ok((Arc::from(row.get_ref(0)?.as_str()?), row.get(1)?))
}
