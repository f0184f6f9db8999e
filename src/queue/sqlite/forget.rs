//! Forgetting a person: what is kept of them goes, and the counts stay.
//!
//! A request to forget is noted in the transaction that accepts it. From then on no claim finds the person's earlier
//! envelopes; the rows themselves are gone through in small steps, so that a long backlog or history holds nobody up.
//! Where a row was, an anonymous one stays: number, type, times and outcome, without ids, name, payload and attempts.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::store::{LINE_SIZE, Totals, count_out, write_counts, write_totals};
use crate::clock::UnixMillis;
use crate::outcome::{Outcome, Reason};
use crate::queue::counts::Tally;
use crate::queue::{NewEnvelope, Seq};

/// Rows that one step looks at: a few milliseconds of work.
const STEP: u32 = 4_000;

/// The places that are gone through, in this order.
const PLACES: [&str; 3] = ["waiting", "dead", "settled"];

/// Notes a request to forget, and ends the request itself: it is accepted, filtered, and leaves no name.
pub(super) fn note(
    transaction: &Transaction<'_>,
    envelope: &NewEnvelope,
    Seq(seq): Seq,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO forgotten (organization, lane, upto, place, cursor) VALUES (?, ?, ?, 0, 0)
             ON CONFLICT DO UPDATE SET upto = excluded.upto, place = 0, cursor = 0",
        )?
        .execute(params![&*envelope.organization, &*envelope.lane, seq])?;
    transaction
        .prepare_cached(
            "INSERT INTO settled (seq, organization, route, message_id, lane, kind, title, received_at, ended_at,
                 outcome, reason, tries, done, size) VALUES (?1, ?2, ?3, '', '', ?4, '', ?5, ?5, ?6, ?7, 0, '', ?8)",
        )?
        .execute(params![
            seq,
            &*envelope.organization,
            &*envelope.route,
            &*envelope.kind,
            envelope.received_at.0,
            Outcome::Filtered.as_str(),
            Reason::UserDeleted.as_str(),
            LINE_SIZE,
        ])?;
    totals.ledger.count(Outcome::Filtered);
    totals.history_bytes += LINE_SIZE;
    Ok(())
}

/// A request that is being carried out.
struct Request {
    organization: Arc<str>,
    lane: String,
    upto: u64,
    place: usize,
    cursor: u64,
}

/// Goes through one step's worth of rows for one request; what that changed, or `None` if there is no request.
pub(super) fn step(
    connection: &mut Connection,
    now: UnixMillis,
    totals: &mut Totals,
) -> rusqlite::Result<Option<Tally>> {
    let Some(request) = next(connection)? else { return Ok(None) };
    let (mut after, mut tally) = (*totals, Tally::default());
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(table) = PLACES.get(request.place) else {
        transaction
            .prepare_cached("DELETE FROM forgotten WHERE organization = ? AND lane = ?")?
            .execute(params![&*request.organization, request.lane])?;
        transaction.commit()?;
        return Ok(Some(tally));
    };
    let (seen, last, found) = rows(&transaction, table, &request)?;
    for seq in &found {
        transaction.prepare_cached("DELETE FROM attempts WHERE seq = ?")?.execute([seq])?;
        match *table {
            "waiting" => {
                count_out(&transaction, Seq(*seq), &request.organization, &mut after, &mut tally)?;
                bury(&transaction, "waiting", *seq, now, Some((Outcome::Filtered, Reason::UserDeleted)))?;
                after.ledger.count(Outcome::Filtered);
                after.history_bytes += LINE_SIZE;
            }
            "dead" => {
                bury(&transaction, "dead", *seq, now, None)?;
                tally.of(&request.organization).dead -= 1;
                after.dead_letters -= 1;
                after.history_bytes += LINE_SIZE;
            }
            _ => {
                let size: u64 = transaction
                    .prepare_cached("SELECT size FROM settled WHERE seq = ?")?
                    .query_row([seq], |row| row.get(0))?;
                transaction
                    .prepare_cached(
                        "UPDATE settled SET message_id = '', lane = '', title = '', done = '', detail = NULL,
                             surroundings = NULL, payload = NULL, size = ? WHERE seq = ?",
                    )?
                    .execute(params![LINE_SIZE, seq])?;
                after.history_bytes = (after.history_bytes + LINE_SIZE).saturating_sub(size);
            }
        }
    }
    let (place, cursor) = if seen < STEP { (request.place + 1, 0) } else { (request.place, last) };
    transaction
        .prepare_cached("UPDATE forgotten SET place = ?, cursor = ? WHERE organization = ? AND lane = ?")?
        .execute(params![place as u64, cursor, &*request.organization, request.lane])?;
    write_totals(&transaction, &after)?;
    write_counts(&transaction, &tally)?;
    transaction.commit()?;
    *totals = after;
    Ok(Some(tally))
}

fn next(connection: &Connection) -> rusqlite::Result<Option<Request>> {
    connection
        .prepare_cached("SELECT organization, lane, upto, place, cursor FROM forgotten LIMIT 1")?
        .query_row([], |row| {
            Ok(Request {
                organization: row.get(0)?,
                lane: row.get(1)?,
                upto: row.get(2)?,
                place: usize::try_from(row.get::<_, u64>(3)?).unwrap_or(PLACES.len()),
                cursor: row.get(4)?,
            })
        })
        .optional()
}

/// The next rows of a table: how many were looked at, the last of them, and those that are about the person.
fn rows(
    transaction: &Transaction<'_>,
    table: &str,
    request: &Request,
) -> rusqlite::Result<(u32, u64, Vec<u64>)> {
    let mut statement = transaction.prepare_cached(&format!(
        "SELECT seq, organization = ? AND lane = ? FROM {table} WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?"
    ))?;
    let mut rows =
        statement.query(params![&*request.organization, request.lane, request.cursor, request.upto, STEP])?;
    let (mut seen, mut last, mut found) = (0, request.cursor, Vec::new());
    while let Some(row) = rows.next()? {
        (seen, last) = (seen + 1, row.get(0)?);
        if row.get(1)? {
            found.push(last);
        }
    }
    Ok((seen, last, found))
}

/// Moves a row to `settled` without its names; with another outcome, or with the one that it has.
fn bury(
    transaction: &Transaction<'_>,
    table: &str,
    seq: u64,
    now: UnixMillis,
    ended: Option<(Outcome, Reason)>,
) -> rusqlite::Result<()> {
    let outcome = match ended {
        Some((outcome, reason)) => format!("{}, '{outcome}', '{reason}'", now.0),
        None => "ended_at, outcome, reason".to_owned(),
    };
    transaction
        .prepare_cached(&format!(
            "INSERT INTO settled (seq, organization, route, message_id, lane, kind, title, received_at, ended_at,
                 outcome, reason, tries, done, size, number, replays)
             SELECT seq, organization, route, '', '', kind, '', received_at, {outcome}, tries, '', ?, number, replays
             FROM {table} WHERE seq = ?"
        ))?
        .execute(params![LINE_SIZE, seq])?;
    transaction.prepare_cached(&format!("DELETE FROM {table} WHERE seq = ?"))?.execute([seq]).map(drop)
}
