//! The files that a configuration is read from, and what each of them held: by that a change is noticed.
//!
//! Contents are compared, not times: so it does not matter how a file came to be another one (an editor's rename, the
//! symbolic links of a Kubernetes volume, a bind mount). Of the contents only hashes are kept.
//!
//! An edit that has not been made yet can be laid over one file, so that the whole configuration that would result can
//! be judged before anything is written.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};

/// What files and directories held when they were read. Two of them are equal if nothing has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<Source, Held>);

/// Something that was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    File(PathBuf),
    /// The names in it that end in `.toml`.
    Directory(PathBuf),
}

/// What something held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Contents with this SHA-256.
    Contents([u8; 32]),
    /// It could not be read, for this reason.
    Nothing(io::ErrorKind),
}

/// The way to the files. Clones share what was seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    seen: Arc<Mutex<Seen>>,
    edit: Option<Arc<Edit>>,
}

/// An edit that is not made yet: what a file would hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Edit {
    /// The file. It need not exist.
    pub path: PathBuf,
    /// All of its text, secrets included.
    pub text: String,
}

/// The path only: the text may hold secrets.
impl std::fmt::Debug for Edit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edit").field("path", &self.path).finish_non_exhaustive()
    }
}

// === impl Disk ===

impl Disk {
    /// The files as they would be after an edit.
    pub(super) fn with(edit: Edit) -> Self {
        Self { edit: Some(Arc::new(edit)), ..Self::default() }
    }

    /// The text of a file.
    pub(super) fn text(&self, path: &Path) -> io::Result<String> {
        if let Some(edit) = self.edit.as_deref().filter(|edit| edit.path == path) {
            return Ok(edit.text.clone());
        }
        let read = std::fs::read_to_string(path);
        self.note(Source::File(path.to_owned()), read.as_ref().map(String::as_bytes));
        read
    }

    /// The files of a directory whose names end in `.toml` and do not begin with a dot, sorted; none if there is no such
    /// directory.
    pub(super) fn toml_files(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let listed = list(directory);
        let names = listed.as_ref().map(|paths| joined(paths));
        self.note(
            Source::Directory(directory.to_owned()),
            names.as_ref().map(Vec::as_slice).map_err(|it| *it),
        );
        let mut paths = match listed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            listed => listed.unwrap_or_default(),
        };
        if let Some(edit) = self.edit.as_deref()
            && edit.path.parent() == Some(directory)
            && !paths.contains(&edit.path)
        {
            paths.push(edit.path.clone());
            paths.sort();
        }
        Ok(paths)
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, source: Source, read: Result<&[u8], &io::Error>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).0.insert(source, Held::of(read));
    }
}

// === impl Seen ===

impl Seen {
    /// Looks at the same files and directories again.
    #[must_use]
    pub fn again(&self) -> Self {
        let look = |source: &Source| match source {
            Source::File(path) => Held::of(std::fs::read(path).as_deref()),
            Source::Directory(path) => Held::of(list(path).map(|paths| joined(&paths)).as_deref()),
        };
        Self(self.0.keys().map(|source| (source.clone(), look(source))).collect())
    }

    /// With what else was seen; where both have seen the same thing, the other one is newer.
    #[must_use]
    pub fn and(mut self, newer: Self) -> Self {
        self.0.extend(newer.0);
        self
    }
}

impl Held {
    fn of(read: Result<&[u8], &io::Error>) -> Self {
        match read {
            Ok(contents) => {
                let mut hash = [0; 32];
                hash.copy_from_slice(digest(&SHA256, contents).as_ref());
                Self::Contents(hash)
            }
            Err(error) => Self::Nothing(error.kind()),
        }
    }
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A dot begins what is hidden: an editor's copy, the links of a Kubernetes volume.
        if name.ends_with(".toml") && !name.starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// A listing as bytes. No name holds a zero.
fn joined(paths: &[PathBuf]) -> Vec<u8> {
    paths.iter().flat_map(|path| path.as_os_str().as_encoded_bytes().iter().copied().chain([0])).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_of_contents_is_seen_however_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.toml"), "one").unwrap();
        fs::create_dir(at("organizations.d")).unwrap();
        fs::write(at("organizations.d/b.toml"), "b").unwrap();
        let disk = Disk::default();
        let look = || {
            assert!(disk.text(&at("missing")).is_err());
            let _ = disk.text(&at("a.toml"));
            for file in disk.toml_files(&at("organizations.d")).unwrap() {
                disk.text(&file).unwrap();
            }
            disk.seen()
        };
        let seen = look();
        assert_eq!(seen.again(), seen, "nothing has changed");
        fs::write(at("organizations.d/.b.toml.swp"), "").unwrap();
        fs::write(at("organizations.d/notes.txt"), "").unwrap();
        fs::write(at("organizations.d/.hidden.toml"), "").unwrap();
        assert_eq!(seen.again(), seen, "nothing of ours has changed");
        for (what, change) in [
            ("rewritten", &(|| fs::write(at("a.toml"), "two").unwrap()) as &dyn Fn()),
            ("replaced by a link", &|| {
                fs::write(at("elsewhere"), "three").unwrap();
                fs::remove_file(at("a.toml")).unwrap();
                std::os::unix::fs::symlink(at("elsewhere"), at("a.toml")).unwrap();
            }),
            ("what the link leads to", &|| fs::write(at("elsewhere"), "four").unwrap()),
            ("one appears", &|| fs::write(at("missing"), "now").unwrap()),
            ("one more in the directory", &|| fs::write(at("organizations.d/c.toml"), "c").unwrap()),
            ("one gone from the directory", &|| fs::remove_file(at("organizations.d/b.toml")).unwrap()),
            ("gone", &|| fs::remove_file(at("a.toml")).unwrap()),
        ] {
            let before = disk.seen();
            change();
            assert_ne!(before.again(), before, "{what}");
            // As the next load does.
            let again = before.again();
            *disk.seen.lock().unwrap() = again.clone();
            assert_eq!(again.again(), again, "{what}");
        }
    }

    #[test]
    fn an_edit_is_read_instead_of_its_file_and_not_seen_as_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("a.toml"), folder.path().join("b.toml"));
        fs::write(&old, "old").unwrap();
        let disk = Disk::with(Edit { path: new.clone(), text: "new".to_owned() });
        assert_eq!(disk.toml_files(folder.path()).unwrap(), [old.clone(), new.clone()]);
        assert_eq!(
            (disk.text(&old).unwrap(), disk.text(&new).unwrap()),
            ("old".to_owned(), "new".to_owned())
        );
        assert!(disk.toml_files(&folder.path().join("none")).unwrap().is_empty());
        assert!(!format!("{disk:?}").contains("new\""), "{disk:?}");
    }
}
