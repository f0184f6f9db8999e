//! Ending the wait for another attempt: events become due at once.

use rusqlite::{Connection, TransactionBehavior, params};

use super::reader::REMEMBERED;
use crate::clock::UnixMillis;
use crate::queue::{Hastened, LaneKey, Selection, Seq};

/// Rows that one step looks at, and events that it changes: some milliseconds of work each.
const LOOKED_AT: u64 = if cfg!(test) { 50 } else { 4_000 };
const CHANGED: usize = if cfg!(test) { 20 } else { 500 };

/// Goes through the next waiting events of an organization, in a transaction of its own; what that changed, and after
/// which event to go on, if there are more.
pub(super) fn step(
    connection: &mut Connection,
    organization: &str,
    selection: Selection,
    after: Seq,
    now: UnixMillis,
) -> rusqlite::Result<(Hastened, Option<Seq>)> {
    let (hastened, seqs, next) = find(connection, organization, selection, after, now)?;
    if !seqs.is_empty() {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut update = transaction.prepare_cached("UPDATE waiting SET due = ? WHERE seq = ?")?;
        for Seq(seq) in seqs {
            update.execute(params![now.0, seq])?;
        }
        drop(update);
        transaction.commit()?;
    }
    Ok((hastened, next))
}

/// The statement that reads the next events and whether they are to be changed.
pub(super) fn sql(selection: Selection) -> String {
    let which = match selection {
        // The plus signs keep SQLite from walking through the whole organization.
        Selection::Event(_) => {
            "(seq = ?3 AND number IS NULL OR number = ?3) AND +seq > ?4 AND +organization = ?5"
        }
        Selection::All | Selection::Reason(_) => "?3 IS NULL AND seq > ?4 AND organization = ?5",
    };
    // What has no due time is due already.
    format!(
        "SELECT seq, lane, parked, due IS NOT NULL AND due > ?1 AND (?2 IS NULL OR reason IS ?2)
         FROM waiting WHERE {which} AND {REMEMBERED} ORDER BY seq LIMIT ?6"
    )
}

/// The next events that are to be changed, and after which one to go on.
fn find(
    connection: &Connection,
    organization: &str,
    selection: Selection,
    Seq(after): Seq,
    now: UnixMillis,
) -> rusqlite::Result<(Hastened, Vec<Seq>, Option<Seq>)> {
    let (reason, number) = match selection {
        Selection::All => (None, None),
        Selection::Reason(reason) => (Some(reason.as_str()), None),
        Selection::Event(Seq(number)) => (None, Some(number)),
    };
    let mut statement = connection.prepare_cached(&sql(selection))?;
    let mut rows = statement.query(params![now.0, reason, number, after, organization, LOOKED_AT])?;
    let (mut hastened, mut seqs, mut seen, mut last) = (Hastened::default(), Vec::new(), 0, Seq(after));
    while seqs.len() < CHANGED
        && let Some(row) = rows.next()?
    {
        (seen, last) = (seen + 1, Seq(row.get(0)?));
        if !row.get::<_, bool>(3)? {
            continue;
        }
        seqs.push(last);
        hastened.count += 1;
        if row.get(2)? {
            hastened.parked += 1;
        } else {
            hastened.events.push((LaneKey::of(row.get_ref(1)?.as_str()?), last));
        }
    }
    let is_cut = seen == LOOKED_AT || seqs.len() == CHANGED;
    Ok((hastened, seqs, is_cut.then_some(last)))
}
