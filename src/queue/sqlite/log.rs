//! The write-ahead log: what is believed of it after a failed sync, and when it is carried over into the database.
//!
//! When a sync fails, the kernel drops what it could not write, goes on showing it to whoever reads the file, and says
//! that the next sync went well. Two things must not happen then:
//! * A commit is appended to pages that are only in the cache. Within a process `SQLite` writes the pages of a failed
//!   commit again; but a process that is started after a crash takes what it reads for committed. So before the log is
//!   relied on (at each start, and after each failure) it is written over itself, which makes every page count as
//!   changed, and synced.
//! * Pages of the database count as carried over although their sync failed. `SQLite` carries over in parts while
//!   somebody reads, syncs with the last part only, and does not repeat the others if that fails. So the log is carried
//!   over while nobody reads, and then always as a whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};

use super::identity::OpenFiles;
use super::reading;

/// Pages in the log from which on they are carried over: 6 MiB. Requests wait meanwhile, so rather often than long.
const LONG: u64 = 1_500;

/// Pages in the log above which readers have to wait for it: 64 MiB.
const TOO_LONG: u64 = 16_000;

/// About how many bytes are written before the log's length is looked at again, which costs locks in shared memory.
const STRETCH: usize = 4 << 20;

/// What a commit writes at least, and how much more than the bytes that it carries: whole pages, some of them twice.
const LEAST: usize = 64 << 10;
const TIMES: usize = 4;

/// How long carrying over rests after a failure; every commit would try it again else.
const REST: Duration = Duration::from_secs(1);

/// The log of one database.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    files: OpenFiles,
    /// The only connection of this process that reads beside the writer's.
    reader: Arc<Mutex<Connection>>,
    /// Locked by readers in other processes. `None` if it cannot be opened: then there are none.
    elsewhere: Option<File>,
    /// Whether something may be in the cache only.
    suspect: bool,
    /// About how many bytes were written since the log's length was last looked at.
    written: usize,
    /// When carrying over last failed.
    failed_at: Option<Instant>,
}

impl Log {
    /// The log of a database that has been opened after [`write_again`].
    pub(super) fn new(database: &Path, reader: Arc<Mutex<Connection>>, files: OpenFiles) -> Self {
        let elsewhere = reading::lock_file(database).ok();
        Self { path: path(database), files, reader, elsewhere, suspect: false, written: 0, failed_at: None }
    }

    /// What a failure says about the log.
    pub(super) fn doubt(&mut self, error: &rusqlite::Error) {
        self.suspect |= error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
    }

    /// Whether the queue's directory and files are where they were opened.
    pub(super) fn in_place(&self) -> rusqlite::Result<()> {
        self.files.check()
    }

    /// Makes sure, before something is written, that a restart will find it and that what was committed is on disk.
    pub(super) fn trust(&mut self) -> rusqlite::Result<()> {
        self.in_place()?;
        if self.suspect {
            write_file_again(&self.path).map_err(|error| {
                let code = ffi::Error::new(ffi::SQLITE_IOERR);
                rusqlite::Error::SqliteFailure(
                    code,
                    Some(format!("the log cannot be written again: {error}")),
                )
            })?;
            self.suspect = false;
        }
        Ok(())
    }

    /// A commit has been made that carried so many bytes.
    pub(super) fn has_written(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(LEAST + bytes * TIMES);
    }

    /// Something else has been written.
    pub(super) fn has_written_much(&mut self) {
        self.written = STRETCH;
    }

    /// Carries a long log over into the database. A failure changes nothing that was committed; it is tried again.
    pub(super) fn carry_over(&mut self, writer: &Connection) -> rusqlite::Result<()> {
        if self.written < STRETCH {
            return Ok(());
        }
        if self.failed_at.is_some_and(|at| at.elapsed() < REST) {
            return Ok(());
        }
        let carried_over = self.carry_over_now(writer);
        self.failed_at = carried_over.is_err().then(Instant::now);
        carried_over
    }

    fn carry_over_now(&mut self, writer: &Connection) -> rusqlite::Result<()> {
        let pending = pages(writer, "NOOP")?;
        if pending < LONG {
            self.written = 0;
            return Ok(());
        }
        let Some(_nobody_reads) = self.reader(pending > TOO_LONG) else { return Ok(()) };
        let Some(_nobody_reads_elsewhere) = self.elsewhere() else { return Ok(()) };
        // The writer notices it with its next commit, or when it tidies up.
        if self.in_place().is_err() {
            return Ok(());
        }
        pages(writer, "PASSIVE").map(drop)
    }

    /// Keeps readers in other processes from beginning, unless one has.
    fn elsewhere(&self) -> Option<Elsewhere<'_>> {
        let is_free = self.elsewhere.as_ref().is_none_or(|file| file.try_lock().is_ok());
        is_free.then_some(Elsewhere(self.elsewhere.as_ref()))
    }

    fn reader(&self, wait: bool) -> Option<MutexGuard<'_, Connection>> {
        match self.reader.try_lock() {
            Ok(reader) => Some(reader),
            Err(TryLockError::Poisoned(reader)) => Some(reader.into_inner()),
            Err(TryLockError::WouldBlock) => {
                wait.then(|| self.reader.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

/// Nobody begins to read in another process while this is held.
struct Elsewhere<'a>(Option<&'a File>);

impl Drop for Elsewhere<'_> {
    fn drop(&mut self) {
        // A lock that cannot be given back goes with the file.
        let _ = self.0.map(File::unlock);
    }
}

/// Pages of the log that are not in the database yet, after this kind of checkpoint.
fn pages(connection: &Connection, kind: &str) -> rusqlite::Result<u64> {
    let pragma = format!("PRAGMA wal_checkpoint({kind})");
    // Both are -1 while there is no log.
    connection.prepare_cached(&pragma)?.query_row([], |row| {
        let (written, carried_over): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(u64::try_from(written - carried_over).unwrap_or(0))
    })
}

/// Writes the log of a database over itself and syncs it, before the database is opened.
pub(super) fn write_again(database: &Path) -> io::Result<()> {
    write_file_again(&path(database))
}

fn path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

fn write_file_again(path: &Path) -> io::Result<()> {
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mut bytes = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let count = file.read_at(&mut bytes, at)?;
        let Some(read @ [_, ..]) = bytes.get(..count) else { break };
        file.write_all_at(read, at)?;
        at += count as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::queue::sqlite::schema;

    /// A log with more pages than it should have.
    fn long() -> (tempfile::TempDir, Connection, Log) {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("queue.sqlite");
        let writer = schema::open_any(&database, UnixMillis(0)).unwrap();
        let reader = Arc::new(Mutex::new(schema::open_reader(&database).unwrap()));
        writer.execute_batch("CREATE TABLE filling (bytes BLOB)").unwrap();
        for _ in 0..=LONG / 1_000 {
            writer.execute("INSERT INTO filling VALUES (zeroblob(4000000))", []).unwrap();
        }
        assert!(pages(&writer, "NOOP").unwrap() > LONG);
        let lock_path = directory.path().join("lock");
        let lock = File::create(&lock_path).unwrap();
        let files = OpenFiles::note(&database, &lock_path, &lock).unwrap();
        let mut log = Log::new(&database, reader, files);
        log.has_written_much();
        (directory, writer, log)
    }

    #[test]
    fn a_log_is_carried_over_as_a_whole_when_nobody_reads() {
        let (_directory, writer, mut log) = long();
        let reader = Arc::clone(&log.reader);
        let reading = reader.lock().unwrap();
        log.carry_over(&writer).unwrap();
        assert!(pages(&writer, "NOOP").unwrap() > LONG, "somebody reads");
        drop(reading);
        log.carry_over(&writer).unwrap();
        assert_eq!(pages(&writer, "NOOP").unwrap(), 0);
    }

    #[test]
    fn a_log_is_left_alone_while_another_process_reads() {
        let (directory, writer, mut log) = long();
        let database = directory.path().join("queue.sqlite");
        let elsewhere = reading::lock_file(&database).unwrap();
        elsewhere.lock_shared().unwrap();
        log.carry_over(&writer).unwrap();
        assert!(pages(&writer, "NOOP").unwrap() > LONG, "somebody reads");
        elsewhere.unlock().unwrap();
        log.carry_over(&writer).unwrap();
        assert_eq!(pages(&writer, "NOOP").unwrap(), 0);
        assert!(elsewhere.try_lock_shared().is_ok(), "the writer has let go");
    }

    #[test]
    fn writing_a_log_again_changes_nothing() {
        let (directory, _writer, mut log) = long();
        let before = std::fs::read(&log.path).unwrap();
        log.doubt(&rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
        assert!(!log.suspect, "a full disk has not lost anything");
        log.doubt(&rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None));
        assert!(log.suspect);
        log.trust().unwrap();
        assert!(!log.suspect && std::fs::read(&log.path).unwrap() == before);
        write_again(&directory.path().join("no log")).unwrap();
    }
}
