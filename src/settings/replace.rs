//! Replaces a file in one step: whoever reads it finds the old text or the new one, after a power cut too.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// What may be done with a new file: it may hold secrets.
const PRIVATE: u32 = 0o600;

/// Puts a text in the place of a file. Of a symbolic link what it leads to is replaced. Mode and owner stay; a new file
/// is its owner's alone.
///
/// # Errors
/// The operating system's word. The file is as it was then.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let target = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        found => found?,
    };
    let directory = target.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = beside(&target, directory);
    let written = write(&temporary, &target, text).and_then(|()| fs::rename(&temporary, &target));
    if let Err(error) = written {
        // It may not even have been made.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // The rename itself must survive a power cut.
    File::open(directory)?.sync_all()
}

/// A name in the same directory that no reader of configurations looks at.
fn beside(target: &Path, directory: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    directory.join(format!(".{name}.{}.tmp", std::process::id()))
}

fn write(temporary: &Path, target: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(temporary)?;
    match fs::metadata(target) {
        Ok(old) => {
            let ours = file.metadata()?;
            if (old.uid(), old.gid()) != (ours.uid(), ours.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a.toml"), folder.path().join("link.toml"));
        replace(&file, "new").unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("new", 0o600));
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        replace(&file, "newer").unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("newer", 0o640));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace(&link, "newest").unwrap();
        assert!(link.is_symlink() && fs::read_to_string(&file).unwrap() == "newest");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_replaced_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a.toml");
        fs::create_dir(&directory).unwrap();
        assert!(replace(&directory, "text").is_err());
        assert!(replace(&folder.path().join("none/a.toml"), "text").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
