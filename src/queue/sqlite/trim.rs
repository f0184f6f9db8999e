//! Tidying: old records and forgotten keys go in small steps, and free pages go back to the file system.

use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::seen;
use super::store::{Totals, write_totals};
use crate::clock::UnixMillis;
use crate::queue::Config;

/// Rows that one step removes: a few milliseconds of work.
const STEP: u32 = 2_000;

/// Free pages that one step gives back; a pause of a few milliseconds.
const PAGES: u32 = 512;

/// How long the oldest records are not looked at, at most: clocks jump, and an import may bring old ones.
const LOOK: Duration = Duration::from_mins(1);

/// Removes what is too old or too much, and knows when to look again: a look reads [`STEP`] records.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    /// When the oldest records were last looked at, and the time before which none of them is too old.
    looked: Option<(Instant, UnixMillis)>,
}

impl Trimmer {
    /// Removes one step's worth of records that are too old, of the oldest until `excess` bytes are gone, and of keys in
    /// forgotten runs. Writes nothing if there is nothing to remove.
    pub(super) fn step(
        &mut self,
        connection: &mut Connection,
        config: &Config,
        excess: u64,
        now: UnixMillis,
        oldest_run: i64,
        totals: &mut Totals,
    ) -> rusqlite::Result<()> {
        let mut after = *totals;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let retention = config.history_retention.0;
        let mut removed = seen::trim(&transaction, oldest_run)?;
        let is_spared = |(at, none_before): (Instant, UnixMillis)| now < none_before && at.elapsed() < LOOK;
        let mut looked = self.looked.filter(|_| excess == 0).filter(|it| is_spared(*it));
        if looked.is_none() {
            let records: Vec<(u64, u64, UnixMillis)> = transaction
                .prepare_cached("SELECT seq, size, ended_at FROM settled ORDER BY seq LIMIT ?")?
                .query_map([STEP], |row| Ok((row.get(0)?, row.get(1)?, UnixMillis(row.get(2)?))))?
                .collect::<rusqlite::Result<_>>()?;
            if records.is_empty() {
                // Sizes are estimates; this is where they become exact.
                after.history_bytes = 0;
            }
            let (mut freed, mut first_kept) = (0, now);
            for (seq, size, ended_at) in records {
                if freed >= excess && now.since(ended_at) <= retention {
                    first_kept = first_kept.min(ended_at);
                    continue;
                }
                transaction.prepare_cached("DELETE FROM attempts WHERE seq = ?")?.execute([seq])?;
                removed += transaction.prepare_cached("DELETE FROM settled WHERE seq = ?")?.execute([seq])?;
                freed += size;
            }
            after.history_bytes = after.history_bytes.saturating_sub(freed);
            // Where some have gone, others have come to the front.
            let none_before = if freed > 0 { now } else { first_kept.plus(retention) };
            looked = Some((Instant::now(), none_before));
        }
        if removed > 0 || after.history_bytes != totals.history_bytes {
            write_totals(&transaction, &after)?;
            transaction.commit()?;
            *totals = after;
        }
        self.looked = looked;
        Ok(())
    }
}

/// Gives one step's worth of free pages back to the file system; whether there are more.
pub(super) fn give_back(connection: &Connection) -> rusqlite::Result<bool> {
    let free: u32 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free < PAGES * 2 {
        return Ok(false);
    }
    // As a query, stepped to its end: through `execute` SQLite stops after the first page.
    let mut statement = connection.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(free >= PAGES * 3)
}
