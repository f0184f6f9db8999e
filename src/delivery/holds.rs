//! Which organizations an operator holds, and who, since when and why: in a file beside the queue, because a restart must
//! not resume what a person has stopped.
//!
//! Invariants:
//! * A hold is on disk before it is obeyed, and off the disk before it ends. What cannot be written down is not done.
//! * A file that cannot be read keeps the service from starting: to go on without it would send what must not be sent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;

/// An operator's word that an organization waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    /// Since when.
    pub since: UnixMillis,
    /// Who said so: the name of a token, or `loopback`.
    pub by: String,
    /// Why, in the operator's words.
    pub why: Option<String>,
}

/// Holds by organization.
pub type Held = BTreeMap<Arc<str>, Hold>;

/// Why holds cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HoldsError {
    /// The operating system says so.
    #[error("{path}: {error}: check that the directory exists and this user may write to it")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        error: io::Error,
    },
    /// What stands in the file is not what this program writes.
    #[error(
        "{path} does not list the paused organizations (line {line}): mend it, or remove it and pause them anew"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where reading stopped, from 1.
        line: usize,
    },
}

/// The file's name in the queue's directory.
const FILE: &str = "held.json";

/// The holds of a service.
#[derive(Debug)]
pub struct Holds {
    /// `None`: they are forgotten when the process ends.
    file: Option<PathBuf>,
    held: Mutex<Arc<Held>>,
}

impl Holds {
    /// The holds that the last process left in the queue's directory.
    ///
    /// # Errors
    /// When there is a file that cannot be read.
    pub fn open(directory: &Path) -> Result<Self, HoldsError> {
        let path = directory.join(FILE);
        let held = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| HoldsError::Unreadable { path: path.clone(), line: error.line() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Held::new(),
            Err(error) => return Err(HoldsError::Disk { path, error }),
        };
        for (organization, Hold { since, by, .. }) in &held {
            tracing::warn!(%organization, %since, by, "this organization is paused by an operator; its events wait until it is resumed");
        }
        Ok(Self { file: Some(path), held: Mutex::new(Arc::new(held)) })
    }

    /// Holds without a file.
    #[cfg(test)]
    pub(super) fn forgetful() -> Self {
        Self { file: None, held: Mutex::default() }
    }

    /// All of them.
    pub fn all(&self) -> Arc<Held> {
        Arc::clone(&self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes down that an organization is held, or, with `None`, that it is not. One that is held already keeps its
    /// first hold. It waits for the disk.
    pub(super) fn set(&self, organization: &str, wish: Option<Hold>) -> Result<(), HoldsError> {
        // Held over the write, so that what is on disk is what is known.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(organization) == wish.is_some() {
            return Ok(());
        }
        let mut next = Held::clone(&held);
        match wish {
            Some(wish) => next.insert(Arc::from(organization), wish),
            None => next.remove(organization),
        };
        if let Some(path) = &self.file {
            write(path, &next).map_err(|error| HoldsError::Disk { path: path.clone(), error })?;
        }
        *held = Arc::new(next);
        Ok(())
    }
}

/// Puts a new file into the old one's place: after a crash there is one of the two, whole.
fn write(path: &Path, held: &Held) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let fresh = path.with_extension("json.new");
    // What an interrupted try has left may have another mode.
    if let Err(error) = fs::remove_file(&fresh)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    // The reasons in it are people's words.
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
    serde_json::to_writer_pretty(&mut file, held)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(by: &str) -> Hold {
        Hold { since: UnixMillis(1_700_000_000_000), by: by.to_owned(), why: Some("stock-taking".to_owned()) }
    }

    #[test]
    fn holds_are_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let holds = Holds::open(directory.path()).unwrap();
        assert!(holds.all().is_empty());
        holds.set("acme", Some(hold("alice"))).unwrap();
        holds.set("acme", Some(hold("bob"))).unwrap();
        holds.set("globex", Some(hold("bob"))).unwrap();
        holds.set("globex", None).unwrap();
        holds.set("nobody", None).unwrap();
        let again = Holds::open(directory.path()).unwrap().all();
        assert_eq!(*again, BTreeMap::from([(Arc::from("acme"), hold("alice"))]));
        let names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "nothing is left behind");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "{", "[]", r#"{"acme": true}"#, r#"{"acme": {"since": "today", "by": "x"}}"#] {
            fs::write(directory.path().join(FILE), text).unwrap();
            let refused = Holds::open(directory.path()).unwrap_err().to_string();
            assert!(refused.contains("mend it"), "{text}: {refused}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_done() {
        let directory = tempfile::tempdir().unwrap();
        let holds = Holds::open(&directory.path().join("gone")).unwrap();
        assert!(holds.set("acme", Some(hold("alice"))).is_err());
        assert!(holds.all().is_empty());
    }
}
