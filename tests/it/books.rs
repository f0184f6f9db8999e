//! The books of a queue that nobody has open: what the ledger says and what is there.

use std::path::Path;

use rusqlite::Connection;

/// The counts of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    pub accepted: u64,
    pub waiting: u64,
}

/// Checks that the database is sound, that each event ever accepted is in exactly one place, and that the ledger says
/// where; nothing may have been trimmed.
pub fn balance(queue: &Path) -> Books {
    let connection = Connection::open(queue.join("queue.sqlite")).unwrap();
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
    let accepted = count("SELECT accepted FROM ledger");
    let ended = count("SELECT delivered + filtered + expired FROM ledger");
    let dead = count("SELECT dead FROM ledger");
    let rows = |table: &str| count(&format!("SELECT count(*) FROM {table}"));
    let books = Books { accepted, waiting: rows("waiting") };
    assert_eq!((rows("settled"), rows("dead")), (ended, dead), "{books:?}");
    assert_eq!(accepted, ended + dead + books.waiting, "{books:?}");
    let numbers = "SELECT seq FROM waiting UNION ALL SELECT seq FROM settled UNION ALL SELECT seq FROM dead";
    let distinct =
        count(&format!("SELECT count(DISTINCT seq) FROM ({numbers}) WHERE seq BETWEEN 1 AND {accepted}"));
    assert_eq!(distinct, accepted, "an event is in two places, or in none");
    books
}
