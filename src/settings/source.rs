//! Where the configuration of a running service comes from, so that it can be read again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::disk::{Disk, Seen};
use super::{Problems, Settings};
use crate::clock::Span;

/// `[reload]`: how a running service follows its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often the files of the configuration are looked at: those of `--config`, the directories `organizations.d`
    /// beside them, and the files that hold secrets. A change is taken over when two looks in a row have found the same.
    /// `"0s"`: only SIGHUP makes the service look.
    pub poll: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { poll: Span::secs(5) }
    }
}

/// Files and environment. The environment is that of the start: no process gets another one.
#[derive(Clone)]
pub struct Source {
    files: Vec<PathBuf>,
    env: BTreeMap<String, String>,
}

/// The files only: the environment may hold secrets.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Source {
    /// These files, in their order, and these variables.
    pub fn new(files: Vec<PathBuf>, env: BTreeMap<String, String>) -> Self {
        Self { files, env }
    }

    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub(super) fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// Loads the configuration. What was seen of the files is told even where they are refused.
    pub fn load(&self) -> (Result<Settings, Problems>, Look) {
        let disk = Disk::default();
        (Settings::load_from(&disk, &self.files, &self.env), Look(disk))
    }
}

/// What a load has looked at, and the check of what it brought.
#[derive(Debug)]
pub struct Look(Disk);

impl Look {
    /// All that was seen so far.
    pub fn seen(&self) -> Seen {
        self.0.seen()
    }
}
