//! Tidying: old records and forgotten keys go in small steps, and free pages go back to the file system.

use rusqlite::{Connection, TransactionBehavior, params};

use super::store::{Totals, write_totals};
use crate::clock::UnixMillis;
use crate::queue::Config;

/// Rows that one step removes: a few milliseconds of work.
const STEP: u32 = 2_000;

/// Free pages that one step gives back; a pause of a few milliseconds.
const PAGES: u32 = 512;

/// Removes one step's worth of records that are too old or too many, and of keys in forgotten generations.
pub(super) fn trim(
    connection: &mut Connection,
    config: &Config,
    now: UnixMillis,
    totals: &mut Totals,
) -> rusqlite::Result<()> {
    let mut after = totals.clone();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let too_much = after.history_bytes > config.history_size.as_u64();
    let oldest_kept =
        now.0.saturating_sub(u64::try_from(config.history_retention.0.as_millis()).unwrap_or(u64::MAX));
    let (last, freed): (Option<u64>, Option<u64>) = transaction
        .prepare_cached(
            "SELECT max(seq), sum(size) FROM
                 (SELECT seq, size, ended_at FROM settled ORDER BY seq LIMIT ?1) WHERE ?2 OR ended_at < ?3",
        )?
        .query_row(params![STEP, too_much, oldest_kept], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if let Some(last) = last {
        let gone = "seq IN (SELECT seq FROM settled WHERE seq <= ?1 AND (?2 OR ended_at < ?3))";
        for statement in
            [format!("DELETE FROM attempts WHERE {gone}"), format!("DELETE FROM settled WHERE {gone}")]
        {
            transaction.prepare_cached(&statement)?.execute(params![last, too_much, oldest_kept])?;
        }
        after.history_bytes = after.history_bytes.saturating_sub(freed.unwrap_or(0));
    }
    forget(&transaction, after.oldest_generation())?;
    write_totals(&transaction, &after)?;
    transaction.commit()?;
    *totals = after;
    Ok(())
}

/// Removes one step's worth of keys older than the oldest living generation.
fn forget(connection: &Connection, oldest: i64) -> rusqlite::Result<()> {
    let Some(dead) = connection
        .prepare_cached("SELECT min(generation) FROM generations WHERE generation < ?")?
        .query_row([oldest], |row| row.get::<_, Option<i64>>(0))?
    else {
        return Ok(());
    };
    let removed = connection
        .prepare_cached(
            "DELETE FROM seen WHERE generation = ?1
                 AND key IN (SELECT key FROM seen WHERE generation = ?1 ORDER BY key LIMIT ?2)",
        )?
        .execute(params![dead, STEP])?;
    if removed == 0 {
        connection.prepare_cached("DELETE FROM generations WHERE generation = ?")?.execute([dead])?;
    }
    Ok(())
}

/// Gives one step's worth of free pages back to the file system.
pub(super) fn give_back(connection: &Connection) -> rusqlite::Result<()> {
    let free: u32 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free < PAGES * 2 {
        return Ok(());
    }
    // As a query, stepped to its end: through `execute` SQLite stops after the first page.
    let mut statement = connection.prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}
