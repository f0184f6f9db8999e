//! Reading a queue from another process than the one that serves it, or while nobody does: for backups and exports.
//!
//! Invariants:
//! * All that is read is of one moment: one transaction, from the opening on. The service goes on writing meanwhile.
//! * Whoever reads holds a lock on the file `reading`, so that the service does not carry its log over in parts (see
//!   [`super::log`]). So the log grows for as long as this takes.
//! * Nothing of the queue is changed.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{FILE, file, schema};
use crate::queue::QueueError;

/// A queue as it stood at one moment.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) connection: Connection,
    /// The format of the database.
    pub(super) format: i64,
    /// After the connection: the transaction ends first.
    _lock: File,
}

/// The file that readers lock; the service locks it alone for the moment in which it carries its log over.
pub(super) fn lock_file(database: &Path) -> io::Result<File> {
    let path = database.with_file_name("reading");
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = File::options().create(true).append(true).mode(file::FILE_MODE).open(&path)?;
            file::adopt(&path);
            Ok(file)
        }
        opened => opened,
    }
}

impl Reading {
    /// Begins to read the queue of a directory, served or not.
    ///
    /// # Errors
    /// When there is no queue, or it cannot be read, or is too new.
    pub(super) fn begin(directory: &Path) -> Result<Self, QueueError> {
        let path = directory.join(FILE);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| QueueError::Directory { path, error }
        };
        File::open(&path).map_err(failed(&path))?;
        let lock = lock_file(&path).map_err(failed(directory))?;
        lock.lock_shared().map_err(failed(directory))?;
        let connection = open(&path).map_err(|error| QueueError::Database { path: path.clone(), error })?;
        let format = schema::format(&connection)?;
        let known = schema::known();
        if format > known {
            return Err(QueueError::TooNew { path: path.clone(), found: format, known });
        }
        Ok(Self { connection, format, _lock: lock })
    }

    /// Refuses a database of an older format, whose rows this program does not read.
    pub(super) fn current(self, directory: &Path) -> Result<Self, QueueError> {
        let (found, known) = (self.format, schema::known());
        if found == known {
            Ok(self)
        } else {
            Err(QueueError::TooOld { path: PathBuf::from(directory), found, known })
        }
    }
}

/// Opens a connection whose view of the queue stands still.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = schema::open_reader(path)?;
    connection.execute_batch("BEGIN")?;
    // The view is that of the first reading.
    connection.query_row("SELECT accepted FROM ledger", [], |row| row.get::<_, u64>(0))?;
    Ok(connection)
}
