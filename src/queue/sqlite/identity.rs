//! Whether the queue's directory and files are still where they were opened.
//!
//! A commit into a file that has lost its name succeeds, and a restart does not find it: nothing may be acknowledged then.
//!
//! Invariant: the files of the database are looked at by name and never opened here. To close a file gives up all POSIX
//! locks that the process has on it, SQLite's included.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::ffi;

/// Device and inode.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// The directory and the files of an open queue.
#[derive(Debug)]
pub(super) struct OpenFiles {
    opened: Vec<(PathBuf, Identity)>,
    /// Held open, so that no other directory gets its inode number.
    _directory: File,
}

impl OpenFiles {
    /// Notes the files of a database that is open, with its log, and the lock file that this process holds.
    ///
    /// # Errors
    /// When one of them is not there.
    pub(super) fn note(database: &Path, lock_path: &Path, lock: &File) -> io::Result<Self> {
        let directory_path = match database.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let directory = File::open(directory_path)?;
        let mut opened = vec![
            (directory_path.to_owned(), identity(&directory.metadata()?)),
            (lock_path.to_owned(), identity(&lock.metadata()?)),
        ];
        for suffix in ["", "-wal", "-shm"] {
            let mut path = database.as_os_str().to_owned();
            path.push(suffix);
            let path = PathBuf::from(path);
            let found = identity(&fs::metadata(&path)?);
            opened.push((path, found));
        }
        Ok(Self { opened, _directory: directory })
    }

    /// Whether each name still leads to what was opened.
    ///
    /// # Errors
    /// The first that does not; see [`is_displaced`].
    pub(super) fn check(&self) -> rusqlite::Result<()> {
        for (path, opened) in &self.opened {
            let what = match fs::metadata(path) {
                Ok(found) if identity(&found) == *opened => continue,
                Ok(_) => "another one is there than was opened".to_owned(),
                Err(error) => error.to_string(),
            };
            let code = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
            let text = format!("{}: {what}", path.display());
            return Err(rusqlite::Error::SqliteFailure(code, Some(text)));
        }
        Ok(())
    }
}

/// Whether an error says that a name no longer leads to what was opened.
pub(super) fn is_displaced(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::SqliteFailure(ffi::Error { extended_code: ffi::SQLITE_READONLY_DBMOVED, .. }, _)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::queue::sqlite::schema;

    #[test]
    fn each_name_that_leads_elsewhere_is_noticed() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("queue");
        fs::create_dir(&directory).unwrap();
        let lock_path = directory.join("lock");
        let lock = File::create(&lock_path).unwrap();
        let database = directory.join("queue.sqlite");
        let _connection = schema::open_any(&database, UnixMillis(0)).unwrap();
        let files = OpenFiles::note(&database, &lock_path, &lock).unwrap();
        files.check().unwrap();
        for name in ["", "lock", "queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm"] {
            let path = if name.is_empty() { directory.clone() } else { directory.join(name) };
            let aside = parent.path().join("aside");
            fs::rename(&path, &aside).unwrap();
            let gone = files.check().unwrap_err();
            assert!(is_displaced(&gone) && gone.to_string().contains("No such file"), "{name}: {gone}");
            if !name.is_empty() {
                fs::copy(&aside, &path).unwrap();
                let replaced = files.check().unwrap_err();
                assert!(is_displaced(&replaced), "{name}: {replaced}");
                assert!(replaced.to_string().contains("another one is there"), "{name}: {replaced}");
                fs::remove_file(&path).unwrap();
            }
            fs::rename(&aside, &path).unwrap();
            files.check().unwrap();
        }
    }
}
