//! Writes a queue as lines: what waits with its progress, dead letters, remembered keys, if asked the history.
//!
//! Invariants:
//! * All of one moment, served or not (see `reading`).
//! * What belongs to a person who is being forgotten is left out.
//! * An export that says it is sealed comes from a queue that nobody serves any more. The seal stands in the directory
//!   before the export is whole: a crash leaves a queue that must be unsealed by hand, never two that both deliver.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, Row, params};

use super::file::{self, FILE_MODE, NewFile, sync_directory};
use super::reading::Reading;
use super::{lock, lookup, seen};
use crate::clock::UnixMillis;
use crate::outcome::{Outcome, Reason};
use crate::queue::transfer::{Carried, FORMAT, Header, Held, Keys, Line, LineWriter};
use crate::queue::{CopyError, DedupKey, Place, QueueError, Seq};

/// The file that says that a directory's queue is served no more.
pub(super) const SEAL: &str = "sealed";

/// Keys in a line.
const KEYS: usize = 500;

/// What should be exported, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// Whether the records of ended events are wanted too.
    pub history: bool,
    /// Whether the queue is given up: it must not be in use, and is not opened again.
    pub seal: bool,
}

/// What an export holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    /// Events without an outcome.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Records of ended events.
    pub history: u64,
    /// Keys that are remembered of events which are not in it.
    pub keys: u64,
}

/// Whether a directory's queue was exported to be served from elsewhere.
pub(super) fn is_sealed(directory: &Path) -> bool {
    directory.join(SEAL).exists()
}

/// How many events wait in the queue of a directory, and how many dead letters it has.
///
/// # Errors
/// When the queue cannot be read.
pub fn count(directory: &Path) -> Result<(u64, u64), QueueError> {
    let reading = Reading::begin(directory)?.current(directory)?;
    let of = |place| -> Result<u64, QueueError> {
        Ok(counts(&reading.connection, place)?.into_iter().map(|(_, count)| count).sum())
    };
    Ok((of(Place::Waiting)?, of(Place::Dead)?))
}

/// Exports the queue of a directory to a new file, and tells how far it is: events written, of how many.
///
/// # Errors
/// When the queue cannot be read, is in use and should be sealed, or the file cannot be written; then there is no file,
/// and no seal.
pub fn export(
    directory: &Path,
    file: &Path,
    wish: Wish,
    now: UnixMillis,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Exported, CopyError> {
    let lock = wish.seal.then(|| lock(directory)).transpose()?;
    let reading = Reading::begin(directory)?.current(directory)?;
    let (new, out) = NewFile::begin(file)?;
    let failed = |error| CopyError::File { path: file.to_owned(), error };
    let seal = wish.seal.then(|| Seal::set(directory, file, now)).transpose()?;
    let lines = LineWriter::new(BufWriter::with_capacity(1 << 20, out));
    let mut pass =
        Pass { connection: &reading.connection, wish, lines, exported: Exported::default(), failed: &failed };
    pass.prepare()?;
    let total = pass.header(now)?;
    pass.keys()?;
    if wish.history {
        pass.events(Place::Settled, total, tell)?;
    }
    // Letters before what waits: nothing of a letter goes out, so it holds nobody up.
    pass.events(Place::Dead, total, tell)?;
    pass.events(Place::Waiting, total, tell)?;
    let exported = pass.exported;
    pass.lines.end().map_err(failed)?;
    new.finish()?;
    if let Some(seal) = seal {
        seal.keep();
    }
    drop(lock);
    Ok(exported)
}

/// A seal that goes away again unless it is kept.
struct Seal<'a>(Option<&'a Path>);

impl<'a> Seal<'a> {
    fn set(directory: &'a Path, to: &Path, now: UnixMillis) -> Result<Self, CopyError> {
        let path = directory.join(SEAL);
        let text = format!("exported to {} at {now}\n", to.display());
        let mut options = File::options();
        let written = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&path)
            .and_then(|mut seal| seal.write_all(text.as_bytes()).and_then(|()| seal.sync_all()))
            .and_then(|()| sync_directory(directory));
        written.map_err(|error| CopyError::File { path: path.clone(), error })?;
        file::adopt(&path);
        Ok(Self(Some(directory)))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Seal<'_> {
    fn drop(&mut self) {
        if let Some(directory) = self.0 {
            // One that stays keeps the queue closed, and says how to open it.
            let _ = fs::remove_file(directory.join(SEAL));
        }
    }
}

/// One pass over the queue.
struct Pass<'a, W> {
    connection: &'a Connection,
    wish: Wish,
    lines: LineWriter<W>,
    exported: Exported,
    failed: &'a dyn Fn(std::io::Error) -> CopyError,
}

/// The tables, and the columns in which they differ: soft failures, first failure, due, outcome, end.
fn table(place: Place) -> (&'static str, &'static str) {
    match place {
        Place::Waiting => ("waiting", "soft_failures, first_failed_at, due, NULL, NULL"),
        Place::Settled => ("settled", "0, NULL, NULL, outcome, ended_at"),
        Place::Dead => ("dead", "0, NULL, NULL, outcome, ended_at"),
    }
}

/// Leaves out what belongs to a person who is being forgotten.
fn remembered(table: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM forgotten WHERE forgotten.organization = {table}.organization
             AND forgotten.lane = {table}.lane AND upto > {table}.seq)"
    )
}

/// How many events of each organization are in a place.
fn counts(connection: &Connection, place: Place) -> Result<Vec<(String, u64)>, QueueError> {
    let (table, _) = table(place);
    let sql = format!(
        "SELECT organization, count(*) FROM {table} WHERE {} GROUP BY organization",
        remembered(table)
    );
    let mut statement = connection.prepare(&sql)?;
    let counts = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(counts.collect::<rusqlite::Result<_>>()?)
}

impl<W: Write> Pass<'_, W> {
    fn places(&self) -> impl Iterator<Item = Place> + use<W> {
        let history = self.wish.history.then_some(Place::Settled);
        [Place::Waiting, Place::Dead].into_iter().chain(history)
    }

    /// Finds the keys of the events that are exported: no index leads from an event to its key.
    fn prepare(&self) -> Result<(), QueueError> {
        let exported: Vec<_> = self
            .places()
            .map(|place| {
                let (table, _) = table(place);
                format!(
                    "EXISTS (SELECT 1 FROM {table} WHERE seq = ?1 AND number IS NULL)
                     OR EXISTS (SELECT 1 FROM {table} WHERE number = ?1)"
                )
            })
            .collect();
        self.connection
            .execute_batch("CREATE TEMP TABLE living (number INTEGER PRIMARY KEY, key BLOB NOT NULL)")?;
        let mut insert = self.connection.prepare(&format!(
            "INSERT OR IGNORE INTO living SELECT ?1, ?2 WHERE ?1 > 0 AND ({})",
            exported.join(" OR ")
        ))?;
        seen::each(self.connection, &mut |DedupKey(key), number| {
            insert.execute(params![number, key]).map(drop)
        })?;
        Ok(())
    }

    /// Writes the header; how many events there will be.
    fn header(&mut self, now: UnixMillis) -> Result<u64, CopyError> {
        let mut organizations: BTreeMap<String, Held> = BTreeMap::new();
        for place in [Place::Waiting, Place::Dead] {
            for (organization, count) in counts(self.connection, place)? {
                let held = organizations.entry(organization).or_default();
                match place {
                    Place::Waiting => held.waiting = count,
                    Place::Dead | Place::Settled => held.dead = count,
                }
            }
        }
        let mut total = organizations.values().map(|held| held.waiting + held.dead).sum();
        if self.wish.history {
            let sql = format!("SELECT count(*) FROM settled WHERE {}", remembered("settled"));
            total +=
                self.connection.query_row(&sql, [], |row| row.get::<_, u64>(0)).map_err(QueueError::from)?;
        }
        let header = Header {
            format: FORMAT,
            export: uuid::Uuid::new_v4().to_string(),
            made_at: now,
            sealed: self.wish.seal,
            history: self.wish.history,
            organizations,
        };
        self.write(&Line::Export(header))?;
        Ok(total)
    }

    /// Writes the keys of all other events.
    fn keys(&mut self) -> Result<(), CopyError> {
        let living = "SELECT EXISTS (SELECT 1 FROM living WHERE number = ?)";
        let mut living = self.connection.prepare(living).map_err(QueueError::from)?;
        let mut keys = Keys::default();
        let mut written = Ok(());
        let connection = self.connection;
        let each = seen::each(connection, &mut |key, number| {
            if written.is_ok() && !living.query_row([number], |row| row.get::<_, bool>(0))? {
                keys.keys.push(key);
                self.exported.keys += 1;
                if keys.keys.len() == KEYS {
                    written = self.write(&Line::Keys(std::mem::take(&mut keys)));
                }
            }
            Ok(())
        });
        each.map_err(QueueError::from)?;
        written?;
        if keys.keys.is_empty() { Ok(()) } else { self.write(&Line::Keys(keys)) }
    }

    /// Writes the events of a place, in their order.
    fn events(&mut self, place: Place, total: u64, tell: &mut dyn FnMut(u64, u64)) -> Result<(), CopyError> {
        let (table, differing) = table(place);
        let sql = format!(
            "SELECT seq, coalesce({table}.number, seq), organization, route, message_id, lane, kind, title, received_at, key,
                 tries, done, replays, reason, detail, surroundings, payload, {differing}
             FROM {table} LEFT JOIN living ON living.number = coalesce({table}.number, seq)
             WHERE {} ORDER BY seq",
            remembered(table)
        );
        let mut statement = self.connection.prepare(&sql).map_err(QueueError::from)?;
        let mut rows = statement.query([]).map_err(QueueError::from)?;
        while let Some(row) = rows.next().map_err(QueueError::from)? {
            let event = carried(self.connection, row, place).map_err(QueueError::from)?;
            self.write(&Line::Event(Box::new(event)))?;
            let Exported { waiting, dead, history, .. } = &mut self.exported;
            *match place {
                Place::Waiting => waiting,
                Place::Dead => dead,
                Place::Settled => history,
            } += 1;
            tell(self.exported.waiting + self.exported.dead + self.exported.history, total);
        }
        Ok(())
    }

    fn write(&mut self, line: &Line) -> Result<(), CopyError> {
        self.lines.write(line).map_err(self.failed)
    }
}

fn carried(connection: &Connection, row: &Row<'_>, place: Place) -> rusqlite::Result<Carried> {
    let time = |column| -> rusqlite::Result<_> { Ok(row.get::<_, Option<u64>>(column)?.map(UnixMillis)) };
    let reason: Option<String> = row.get(13)?;
    let outcome: Option<String> = row.get(20)?;
    Ok(Carried {
        place,
        number: row.get(1)?,
        organization: row.get(2)?,
        route: row.get(3)?,
        message_id: row.get(4)?,
        person: row.get(5)?,
        kind: row.get(6)?,
        title: row.get(7)?,
        received_at: UnixMillis(row.get(8)?),
        key: row.get::<_, Option<[u8; 16]>>(9)?.map(DedupKey),
        tries: row.get(10)?,
        calls_done: row.get(11)?,
        replays: row.get(12)?,
        reason: reason.as_deref().and_then(Reason::parse),
        detail: row.get(14)?,
        surroundings: row.get(15)?,
        payload: row.get(16)?,
        soft_failures: row.get(17)?,
        first_failed_at: time(18)?,
        due: time(19)?,
        outcome: outcome.as_deref().and_then(Outcome::parse),
        ended_at: time(21)?,
        attempts: lookup::attempts(connection, Seq(row.get(0)?))?,
    })
}
