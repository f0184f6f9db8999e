//! The database's format: how it is created, recognised and opened.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::seen;
use crate::clock::UnixMillis;
use crate::queue::{Purpose, QueueError};

/// The steps from each format to the next; the format of a file is its `user_version`, 0 in an empty one. A new database
/// takes all steps, so that what was created and what was migrated cannot differ. A released step never changes.
pub(super) const STEPS: [Step; 4] = [
    Step { sql: FORMAT_1, then: |_, _| Ok(()) },
    Step { sql: FORMAT_2, then: |_, _| Ok(()) },
    Step { sql: FORMAT_3, then: seen::migrate },
    Step { sql: FORMAT_4, then: |_, _| Ok(()) },
];

/// A step to the next format.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) sql: &'static str,
    /// What SQL does not say.
    then: fn(&Connection, UnixMillis) -> rusqlite::Result<()>,
}

/// The `application_id` of a sandbox's database, "WZSB" in ASCII; that of any other is 0. It lies in the file's header,
/// so a backup carries it.
const SANDBOX_ID: i32 = 0x575A_5342;

/// The page layout in which free pages can be given back in steps.
const INCREMENTAL: i64 = 2;

/// Events, their records, deduplication, the ledger.
const FORMAT_1: &str = "
CREATE TABLE waiting (
    seq             INTEGER PRIMARY KEY,
    organization    TEXT NOT NULL,
    route           TEXT NOT NULL,
    message_id      TEXT NOT NULL,
    lane            TEXT NOT NULL,
    kind            TEXT NOT NULL,
    title           TEXT NOT NULL,
    received_at     INTEGER NOT NULL,          -- milliseconds since 1970
    due             INTEGER,                   -- not before this time; null: at once
    reason          TEXT,                      -- why it waits; null: not tried yet
    tries           INTEGER NOT NULL DEFAULT 0,
    first_failed_at INTEGER,
    soft_failures   INTEGER NOT NULL DEFAULT 0,
    done            TEXT NOT NULL DEFAULT '',  -- keys of the calls that Wigzo has taken
    surroundings    TEXT NOT NULL,
    payload         TEXT NOT NULL
);
CREATE INDEX waiting_by_organization ON waiting (organization, seq);

CREATE TABLE settled (
    seq          INTEGER PRIMARY KEY,
    organization TEXT NOT NULL,
    route        TEXT NOT NULL,
    message_id   TEXT NOT NULL,
    lane         TEXT NOT NULL,
    kind         TEXT NOT NULL,
    title        TEXT NOT NULL,
    received_at  INTEGER NOT NULL,
    ended_at     INTEGER NOT NULL,
    outcome      TEXT NOT NULL,
    reason       TEXT NOT NULL,
    tries        INTEGER NOT NULL,
    done         TEXT NOT NULL,
    surroundings TEXT,
    payload      TEXT,                         -- null: a one-line record
    size         INTEGER NOT NULL
);
CREATE INDEX settled_by_message ON settled (message_id) WHERE payload IS NOT NULL;

CREATE TABLE dead (
    seq          INTEGER PRIMARY KEY,
    organization TEXT NOT NULL,
    route        TEXT NOT NULL,
    message_id   TEXT NOT NULL,
    lane         TEXT NOT NULL,
    kind         TEXT NOT NULL,
    title        TEXT NOT NULL,
    received_at  INTEGER NOT NULL,
    ended_at     INTEGER NOT NULL,
    outcome      TEXT NOT NULL,
    reason       TEXT NOT NULL,
    tries        INTEGER NOT NULL,
    done         TEXT NOT NULL,
    surroundings TEXT,
    payload      TEXT,
    size         INTEGER NOT NULL
);

CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY,
    seq         INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    call        TEXT NOT NULL,
    status      INTEGER,
    duration_ms INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    request     TEXT NOT NULL,
    response    TEXT NOT NULL
);
CREATE INDEX attempts_by_seq ON attempts (seq, id);

CREATE TABLE seen (
    generation INTEGER NOT NULL,
    key        BLOB NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (generation, key)
) WITHOUT ROWID;

-- Requests to forget a person that are being carried out: everything of theirs before `upto`.
CREATE TABLE forgotten (
    organization TEXT NOT NULL,
    lane         TEXT NOT NULL,
    upto         INTEGER NOT NULL,
    place        INTEGER NOT NULL,
    cursor       INTEGER NOT NULL,
    PRIMARY KEY (organization, lane)
) WITHOUT ROWID;

CREATE TABLE generations (
    generation INTEGER PRIMARY KEY,
    started_at INTEGER NOT NULL,
    entries    INTEGER NOT NULL
);

CREATE TABLE ledger (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    accepted      INTEGER NOT NULL,  -- also the last sequence number that was given
    delivered     INTEGER NOT NULL,
    filtered      INTEGER NOT NULL,
    expired       INTEGER NOT NULL,
    dead          INTEGER NOT NULL,
    history_bytes INTEGER NOT NULL
);
INSERT INTO ledger VALUES (1, 0, 0, 0, 0, 0, 0);
INSERT INTO generations VALUES (1, 0, 0);
";

/// Parked envelopes, replays of dead letters, counts per organization that spare a walk through `waiting` at the start.
/// Columns are added at a row's end, where a zero and a null take no room: nothing is rewritten. Only the counts walk
/// through the old rows, once.
const FORMAT_2: &str = "
ALTER TABLE waiting ADD COLUMN parked INTEGER NOT NULL DEFAULT 0;   -- 1: worked by itself, its lane has moved on
ALTER TABLE waiting ADD COLUMN number INTEGER;                      -- the number it was accepted under; null: `seq`
ALTER TABLE waiting ADD COLUMN replays INTEGER NOT NULL DEFAULT 0;  -- how often a person sent it here from `dead`
ALTER TABLE waiting ADD COLUMN detail TEXT;                         -- more about the reason
ALTER TABLE settled ADD COLUMN number INTEGER;
ALTER TABLE settled ADD COLUMN replays INTEGER NOT NULL DEFAULT 0;
ALTER TABLE settled ADD COLUMN detail TEXT;
ALTER TABLE dead ADD COLUMN number INTEGER;
ALTER TABLE dead ADD COLUMN replays INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead ADD COLUMN detail TEXT;
CREATE INDEX waiting_parked ON waiting (organization, due) WHERE parked = 1;
CREATE INDEX waiting_by_number ON waiting (number) WHERE number IS NOT NULL;
CREATE INDEX settled_by_number ON settled (number) WHERE number IS NOT NULL;
CREATE INDEX dead_by_number ON dead (number) WHERE number IS NOT NULL;
CREATE INDEX dead_by_organization ON dead (organization, seq);
CREATE INDEX dead_by_message ON dead (message_id);

-- A replay gives a number without an acceptance: the last number given is counted apart.
ALTER TABLE ledger ADD COLUMN last_seq INTEGER NOT NULL DEFAULT 0;
UPDATE ledger SET last_seq = accepted;

CREATE TABLE counts (
    organization TEXT PRIMARY KEY,
    waiting      INTEGER NOT NULL,  -- parked ones included
    parked       INTEGER NOT NULL,
    dead         INTEGER NOT NULL   -- rows of `dead`: dead letters that nobody has decided about
) WITHOUT ROWID;
INSERT INTO counts
    SELECT organization, sum(waiting), 0, sum(dead) FROM (
        SELECT organization, count(*) AS waiting, 0 AS dead FROM waiting GROUP BY organization
        UNION ALL SELECT organization, 0, count(*) FROM dead GROUP BY organization)
    GROUP BY organization;
";

/// Deduplication in runs, see `seen`.
const FORMAT_3: &str = "
CREATE TABLE seen_recent (
    id       INTEGER PRIMARY KEY,
    noted_at INTEGER NOT NULL,
    keys     BLOB NOT NULL        -- of one commit: 16 bytes of key and 8 of the event's number each
);
CREATE TABLE seen_buckets (
    id   INTEGER PRIMARY KEY,     -- the run's number and the bucket's
    keys BLOB NOT NULL
);
CREATE TABLE seen_runs (
    run      INTEGER PRIMARY KEY,
    buckets  INTEGER NOT NULL,
    entries  INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    filter   BLOB NOT NULL
);
";

/// How far imports have come, so that no line of an export is taken twice, however late it is repeated.
const FORMAT_4: &str = "
CREATE TABLE imports (
    export TEXT PRIMARY KEY,
    lines  INTEGER NOT NULL,  -- lines of the export that have been taken
    at     INTEGER NOT NULL
) WITHOUT ROWID;
";

/// The newest format that this program knows.
pub(super) fn known() -> i64 {
    (1_i64..).zip(STEPS).last().map_or(0, |(format, _)| format)
}

/// The format of a database.
pub(super) fn format(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Opens the one connection that writes, creating or migrating the database.
pub(super) fn open(path: &Path, purpose: Purpose, now: UnixMillis) -> Result<Connection, QueueError> {
    let connection = Connection::open(path)?;
    check_purpose(&connection, path, purpose)?;
    set_up(connection, path, purpose, now)
}

/// Opens a database to write, whatever it is for.
pub(super) fn open_any(path: &Path, now: UnixMillis) -> Result<Connection, QueueError> {
    set_up(Connection::open(path)?, path, Purpose::Live, now)
}

fn set_up(
    connection: Connection,
    path: &Path,
    purpose: Purpose,
    now: UnixMillis,
) -> Result<Connection, QueueError> {
    // Nobody else should write here; if a tool does, requests must be refused before their senders give up.
    connection.busy_timeout(Duration::from_secs(1))?;
    // Must come before the first table: it decides the file's page layout. Once it has, to say so again would be a write,
    // and a full disk would refuse the start.
    let vacuum: i64 = connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
    if vacuum != INCREMENTAL {
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // `log` does that: SQLite would do it while somebody reads, and keep its failures to itself.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // Small on purpose: after a commit SQLite may look at every page in the cache, and what is needed again soon are the
    // ends of the tables.
    connection.pragma_update(None, "cache_size", -4_096)?;
    plan_once(&connection)?;
    connection.set_prepared_statement_cache_capacity(64);
    migrate(&connection, path, purpose, now)?;
    Ok(connection)
}

/// Refuses a database with events that are for something else.
fn check_purpose(connection: &Connection, path: &Path, purpose: Purpose) -> Result<(), QueueError> {
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let directory = || path.parent().unwrap_or(path).to_owned();
    match (purpose, id == SANDBOX_ID) {
        (Purpose::Live, true) => Err(QueueError::OfSandbox(directory())),
        (Purpose::Sandbox, false) if format(connection)? > 0 => Err(QueueError::NotOfSandbox(directory())),
        (Purpose::Live, false) | (Purpose::Sandbox, _) => Ok(()),
    }
}

/// Takes the steps that are missing, each in a transaction with the format that it leads to.
fn migrate(
    connection: &Connection,
    path: &Path,
    purpose: Purpose,
    now: UnixMillis,
) -> Result<(), QueueError> {
    let (known, found) = (known(), format(connection)?);
    if !(0..=known).contains(&found) {
        return Err(QueueError::TooNew { path: path.to_owned(), found, known });
    }
    for (format, step) in (1_i64..).zip(STEPS).filter(|(format, _)| *format > found) {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {}", step.sql))?;
        if format == 1 && purpose == Purpose::Sandbox {
            connection.pragma_update(None, "application_id", SANDBOX_ID)?;
        }
        (step.then)(connection, now)?;
        connection.execute_batch(&format!("PRAGMA user_version = {format}; COMMIT;"))?;
        if found > 0 {
            tracing::info!(path = %path.display(), from = format - 1, to = format, "the queue's format was migrated");
        }
    }
    Ok(())
}

/// Opens a connection that can only read.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "cache_size", -8_192)?;
    plan_once(&connection)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Keeps a statement's plan whatever is bound to it. Else each new limit is looked at for a better one, which means to
/// parse and plan the statement again: a quarter of what an idle service took of the processor.
fn plan_once(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_planned_once_whatever_is_bound_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("queue.sqlite");
        let writer = open(&path, Purpose::Live, UnixMillis(0)).unwrap();
        for connection in [writer, open_reader(&path).unwrap()] {
            let mut statement = connection.prepare("SELECT seq FROM settled WHERE seq > ? LIMIT ?").unwrap();
            for values in [[1, 10], [2, 20], [3, 30]] {
                assert_eq!(statement.query(values).unwrap().next().unwrap().map(|_| ()), None);
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
        }
    }
}
