//! What is wrong in a configuration, where, and what would be right.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Where a key was set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    File {
        /// The file, as it was named on the command line.
        path: PathBuf,
        /// The line, from 1; `None` for the file as a whole.
        line: Option<usize>,
    },
    /// In an environment variable of this name.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } => write!(f, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// One thing that is wrong. It prints as one line: `acme.toml:7: delivery.retry.bse: unknown key; …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// Where it stands; `None` if nothing was set and something should have been.
    pub place: Option<Place>,
    /// The key's path, such as `delivery.retry.base`; empty for a file or a variable as a whole.
    pub key: String,
    /// What is wrong and what would be right. It never repeats a value but the path of a file.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong, one line each; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Where each key was set: the last layer that did. Holds paths of keys, never values.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(BTreeMap<String, Place>);

impl Places {
    pub(super) fn insert(&mut self, key: String, place: Place) {
        self.0.insert(key, place);
    }

    /// Lays the places of a later layer over these.
    pub(super) fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    /// Whether `key` itself was set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Where `key` itself was set.
    pub(super) fn get(&self, key: &str) -> Option<&Place> {
        self.0.get(key)
    }

    /// Where `key` was set, or else what surrounds it (`organizations.acme` for a token that is missing there).
    pub(super) fn find(&self, key: &str) -> Option<&Place> {
        let mut key = key;
        loop {
            if let Some(place) = self.0.get(key) {
                return Some(place);
            }
            let (outer, _) = key.rsplit_once(['.', '['])?;
            key = outer;
        }
    }
}

/// `outer.key`; just `key` at the top.
pub(super) fn join(outer: &str, key: &str) -> String {
    if outer.is_empty() { key.to_owned() } else { format!("{outer}.{key}") }
}
