//! A whole copy of the queue's database, made while it is served or not, and how it is put back.
//!
//! Invariants:
//! * A copy is of one moment (see `reading`), one file, and has been checked before it gets its name.
//! * A copy is made at a bounded pace, so that the service's own syncs are not held up by it.
//! * A copy goes only into a directory without a queue. What waited in it may have been delivered since it was made: the
//!   person who puts it back says whether it is sent again, or held as dead letters for a person to decide.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::file::{self, NewFile, sync_directory};
use super::reading::Reading;
use super::{FILE, create, export, lock, schema};
use crate::clock::UnixMillis;
use crate::outcome::{Ledger, Outcome, Reason};
use crate::queue::{CopyError, QueueError};

/// Pages that are copied at a time: a MiB.
const PAGES: i32 = 256;

/// How long a step waits for a source that is locked. In this mode of the log nobody locks it for longer.
const BUSY: Duration = Duration::from_millis(50);

/// What stands in a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    /// Bytes of the file.
    pub bytes: u64,
    /// The conservation count in it.
    pub ledger: Ledger,
    /// Events without an outcome.
    pub waiting: u64,
    /// Dead letters that nobody has decided about.
    pub dead_letters: u64,
}

/// What becomes of the events that waited in a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// They are delivered, also those that were delivered after the copy was made.
    Send,
    /// They become dead letters, with [`Reason::Restored`].
    Hold,
}

/// Copies the queue of a directory to a new file, and tells how far it is: bytes copied, of how many.
///
/// # Errors
/// When the queue cannot be read, the file cannot be written, or the copy is not sound; then there is no file.
pub fn backup(
    directory: &Path,
    file: &Path,
    per_second: Option<ByteSize>,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Copied, CopyError> {
    let reading = Reading::begin(directory)?;
    let (new, _) = NewFile::begin(file)?;
    {
        let mut copy = Connection::open(new.partial()).map_err(QueueError::from)?;
        copy_pages(&reading.connection, &mut copy, per_second, tell).map_err(QueueError::from)?;
        // One file without a log beside it; the service turns it back.
        copy.pragma_update(None, "journal_mode", "DELETE").map_err(QueueError::from)?;
    }
    drop(reading);
    let copied = check(new.partial())?;
    new.finish()?;
    Ok(copied)
}

fn copy_pages(
    from: &Connection,
    to: &mut Connection,
    per_second: Option<ByteSize>,
    tell: &mut dyn FnMut(u64, u64),
) -> rusqlite::Result<()> {
    let page_size: u64 = from.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let backup = Backup::new(from, to)?;
    let began = Instant::now();
    loop {
        let step = backup.step(PAGES)?;
        let progress = backup.progress();
        let bytes = |pages: i32| u64::try_from(pages).unwrap_or(0) * page_size;
        let (total, left) = (bytes(progress.pagecount), bytes(progress.remaining));
        tell(total.saturating_sub(left), total);
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {
                // What should have taken this long so far.
                let Some(ByteSize(per_second)) = per_second else { continue };
                let wanted = Duration::from_millis(total.saturating_sub(left) * 1_000 / per_second.max(1));
                std::thread::sleep(wanted.saturating_sub(began.elapsed()));
            }
            _ => std::thread::sleep(BUSY),
        }
    }
}

/// Checks a copy: that it is sound, of a format that is known, and that its books balance.
///
/// # Errors
/// What is wrong with it.
pub fn check(file: &Path) -> Result<Copied, CopyError> {
    let damaged = |what: String| CopyError::Damaged { path: file.to_owned(), what };
    let bytes = fs::metadata(file).map_err(|error| CopyError::File { path: file.to_owned(), error })?.len();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error: rusqlite::Error| damaged(error.to_string());
    let connection = Connection::open_with_flags(file, flags).map_err(failed)?;
    let (found, known) = (schema::format(&connection).map_err(failed)?, schema::known());
    if found > known {
        return Err(QueueError::TooNew { path: file.to_owned(), found, known }.into());
    }
    if found == 0 {
        return Err(damaged("it is no queue".to_owned()));
    }
    let sound: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if sound != "ok" {
        return Err(damaged(sound));
    }
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0)).map_err(failed);
    let ledger = Ledger {
        accepted: count("SELECT accepted FROM ledger")?,
        delivered: count("SELECT delivered FROM ledger")?,
        filtered: count("SELECT filtered FROM ledger")?,
        expired: count("SELECT expired FROM ledger")?,
        dead: count("SELECT dead FROM ledger")?,
    };
    let waiting = count("SELECT count(*) FROM waiting")?;
    let ended = ledger.delivered + ledger.filtered + ledger.expired + ledger.dead;
    if ledger.accepted != ended + waiting {
        let Ledger { accepted, .. } = ledger;
        return Err(damaged(format!("events accepted: {accepted}, ended: {ended}, waiting: {waiting}")));
    }
    Ok(Copied { bytes, ledger, waiting, dead_letters: count("SELECT count(*) FROM dead")? })
}

/// Puts a copy into a directory that holds no queue, and does with what waited in it as the person has said.
///
/// # Errors
/// When the copy is not sound, the directory holds a queue or is in use, or its disk does not take the copy; then there is
/// no queue in it.
pub fn restore(
    copy: &Path,
    directory: &Path,
    waiting: Waiting,
    now: UnixMillis,
) -> Result<Copied, CopyError> {
    let copied = check(copy)?;
    create(directory).map_err(|error| CopyError::File { path: directory.to_owned(), error })?;
    let _lock = lock(directory)?;
    let path = directory.join(FILE);
    let occupied =
        [FILE, "queue.sqlite-wal", "queue.sqlite-shm"].iter().any(|name| directory.join(name).exists());
    if occupied || export::is_sealed(directory) {
        return Err(CopyError::Occupied(directory.to_owned()));
    }
    let (new, mut out) = NewFile::begin(&path)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| CopyError::File { path, error }
    };
    let mut from = File::open(copy).map_err(failed(copy))?;
    std::io::copy(&mut from, &mut out).map_err(failed(&path))?;
    if waiting == Waiting::Hold {
        hold(new.partial(), now)?;
    }
    new.finish()?;
    file::adopt(&path);
    sync_directory(directory).map_err(failed(directory))?;
    Ok(copied)
}

/// Makes dead letters of everything that waits.
fn hold(file: &Path, now: UnixMillis) -> Result<(), QueueError> {
    let mut connection = schema::open_any(file, now)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let held = transaction.execute(
        "INSERT INTO dead (seq, organization, route, message_id, lane, kind, title, received_at, ended_at, outcome, reason,
             tries, done, size, detail, number, replays, surroundings, payload)
         SELECT seq, organization, route, message_id, lane, kind, title, received_at, ?, ?, ?, tries, done,
             200 + octet_length(payload) + octet_length(surroundings), detail, number, replays, surroundings, payload
         FROM waiting",
        params![now.0, Outcome::Dead.as_str(), Reason::Restored.as_str()],
    )?;
    transaction.execute("DELETE FROM waiting", [])?;
    transaction.execute("UPDATE ledger SET dead = dead + ?", [held as u64])?;
    transaction.execute("UPDATE counts SET dead = dead + waiting, waiting = 0, parked = 0", [])?;
    transaction.commit()?;
    // Without a log beside it, the file can be given its name.
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(())
}
