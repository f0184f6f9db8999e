//! A file that is there as a whole or not at all, and that only its owner can read: it holds personal data.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use crate::queue::CopyError;

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
        let mut options = File::options();
        // What an earlier try has left is overwritten.
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&partial);
        let file = file.map_err(|error| CopyError::File { path: partial.clone(), error })?;
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
