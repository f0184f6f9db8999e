//! Files that only their owner can read, since they hold personal data; copies and exports are there as a whole or not at
//! all.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::export::SEAL;
use super::{FILE, LOCK};
use crate::queue::CopyError;

/// The mode of the queue's directory.
pub(super) const DIRECTORY_MODE: u32 = 0o700;

/// The mode of its files.
pub(super) const FILE_MODE: u32 = 0o600;

/// What a mode lets anybody but the owner do.
const OTHERS: u32 = 0o077;

/// The files of a queue's directory. Delivery keeps the last one there.
const FILES: [&str; 7] = [FILE, "queue.sqlite-wal", "queue.sqlite-shm", LOCK, "reading", SEAL, "held.json"];

/// A file in the making, beside where it will be. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    partial: PathBuf,
    finished: bool,
}

impl NewFile {
    /// Begins a file at this path, where there must be none.
    ///
    /// # Errors
    /// When there is one, or none can be made.
    pub(super) fn begin(path: &Path) -> Result<(Self, File), CopyError> {
        if path.exists() {
            return Err(CopyError::Exists(path.to_owned()));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let failed = |error| CopyError::File { path: partial.clone(), error };
        // What an earlier try has left, or somebody else has prepared, may be a link or have another mode.
        if let Err(error) = fs::remove_file(&partial)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed(error));
        }
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(FILE_MODE).open(&partial);
        let file = file.map_err(failed)?;
        Ok((Self { path: path.to_owned(), partial, finished: false }, file))
    }

    /// Where it is while it is in the making.
    pub(super) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Brings it to the disk and gives it its name.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn finish(mut self) -> Result<(), CopyError> {
        let directory = match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        File::open(&self.partial)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .and_then(|()| sync_directory(directory))
            .map_err(|error| CopyError::File { path: self.path.clone(), error })?;
        self.finished = true;
        Ok(())
    }
}

/// Creates a database file, empty, if there is none: SQLite would leave its mode to the umask. Its log gets the same mode.
pub(super) fn create_database(path: &Path) -> io::Result<()> {
    match File::options().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop),
    }
}

/// Takes from everybody but the owner what the directory and the files of a queue may let them do: an older version, or
/// the umask of one, has created them so.
pub(super) fn tighten(directory: &Path) {
    // A link's own mode says nothing.
    if let Ok(directory) = directory.canonicalize() {
        tighten_one(&directory);
        for file in FILES {
            tighten_one(&directory.join(file));
        }
    }
}

fn tighten_one(path: &Path) {
    let tightened = fs::symlink_metadata(path).and_then(|found| {
        let mode = found.mode() & 0o7777;
        if found.is_symlink() || mode & OTHERS == 0 {
            return Ok(None);
        }
        fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)).map(|()| Some(mode))
    });
    match tightened {
        Ok(None) => {}
        Ok(Some(mode)) => tracing::info!(
            path = %path.display(),
            from = %format_args!("{mode:04o}"),
            to = %format_args!("{:04o}", mode & !OTHERS),
            "other users had access to the queue; now only its owner has"
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(
            path = %path.display(),
            %error,
            "other users may have access to the queue, and its mode cannot be changed"
        ),
    }
}

/// Gives a file to the owner of its directory. A command that root has run must leave nothing behind that the service's
/// user cannot open. For anybody else there is nothing to do, and it cannot be done.
pub(super) fn adopt(path: &Path) {
    let owner = path.parent().and_then(|directory| fs::metadata(directory).ok());
    if let (Some(owner), Ok(file)) = (owner, fs::metadata(path))
        && owner.uid() != file.uid()
    {
        // Whoever may not do this is the service's user, or meant it so.
        let _ = chown(path, Some(owner.uid()), Some(owner.gid()));
    }
}

/// Makes new names in a directory last.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed is overwritten by the next try.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_prepared_link_or_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (path, partial) = (directory.path().join("copy"), directory.path().join("copy.partial"));
        let victim = directory.path().join("victim");
        fs::write(&victim, "somebody's").unwrap();
        let prepare: [&dyn Fn(); 2] = [&|| std::os::unix::fs::symlink(&victim, &partial).unwrap(), &|| {
            fs::write(&partial, "left by an earlier try").unwrap();
            fs::set_permissions(&partial, Permissions::from_mode(0o666)).unwrap();
        }];
        for prepare in prepare {
            prepare();
            let (new, mut file) = NewFile::begin(&path).unwrap();
            io::Write::write_all(&mut file, b"ours").unwrap();
            assert_eq!(fs::read(&partial).unwrap(), b"ours");
            new.finish().unwrap();
            assert_eq!((mode(&path), fs::read(&path).unwrap()), (0o600, b"ours".to_vec()));
            assert!(path.symlink_metadata().unwrap().is_file());
            assert_eq!(fs::read(&victim).unwrap(), b"somebody's");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_prepared_directory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("copy.partial")).unwrap();
        let refused = NewFile::begin(&directory.path().join("copy")).unwrap_err();
        assert!(refused.to_string().contains("copy.partial"), "{refused}");
    }

    #[test]
    fn only_the_owner_keeps_access_and_links_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let (database, other, target) =
            (directory.path().join(FILE), directory.path().join("notes"), directory.path().join("target"));
        for path in [&database, &other, &target] {
            fs::write(path, "").unwrap();
            set(path, 0o644);
        }
        std::os::unix::fs::symlink(&target, directory.path().join(LOCK)).unwrap();
        set(directory.path(), 0o755);
        tighten(directory.path());
        assert_eq!((mode(directory.path()), mode(&database)), (0o700, 0o600));
        assert_eq!((mode(&other), mode(&target)), (0o644, 0o644), "files of others");
    }
}
