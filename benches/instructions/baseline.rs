//! The committed counts, and how new ones compare with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::callgrind::{Counts, Machine};
use super::work::Work;

/// The baseline's file.
pub(crate) const PATH: &str = "benches/instructions/baseline.toml";

/// How many percent more are a failure, and how many less should become the new baseline.
const TOLERANCE: f64 = 3.0;

const HEAD: &str =
    "# What one event takes (docs/performance.md). Written by `scripts/instructions.sh --update`.\n\n";

/// The counts that were committed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// Counts of another machine are not comparable.
    pub(crate) made_with: Machine,
    /// By benchmark.
    pub(crate) counts: BTreeMap<String, Row>,
}

/// What one event takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Row {
    instructions: u64,
    allocations: f64,
    /// See [`Work::hashes`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    hashes: bool,
}

/// New counts beside those of the baseline.
pub(crate) struct Compared {
    /// What was counted now.
    pub(crate) now: Row,
    /// What the baseline has.
    pub(crate) before: Option<Row>,
}

/// What is to be said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it was, within the tolerance.
    Same,
    /// More instructions: a failure.
    More,
    /// Fewer: the baseline should follow.
    Less,
    /// The baseline does not have it.
    New,
}

// === impl Baseline ===

impl Baseline {
    fn path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(PATH)
    }

    /// Reads it; an empty one if there is none.
    pub(crate) fn read() -> Result<Self, String> {
        let path = Self::path();
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("{PATH}: {error}"))?;
        toml::from_str(&text).map_err(|error| format!("{PATH}: {error}"))
    }

    /// Writes it.
    pub(crate) fn write(&self) -> Result<(), String> {
        let text = toml::to_string(self).map_err(|error| format!("{PATH}: {error}"))?;
        std::fs::write(Self::path(), format!("{HEAD}{text}")).map_err(|error| format!("{PATH}: {error}"))
    }
}

// === impl Row ===

impl Row {
    /// What was counted of a work.
    pub(crate) fn of(work: &Work, Counts { instructions, allocations }: Counts) -> Self {
        Self { instructions, allocations, hashes: work.hashes }
    }
}

// === impl Compared ===

impl Compared {
    /// Instructions decide: an allocation more is a hundred of them.
    pub(crate) fn verdict(&self) -> Verdict {
        let Some(before) = self.before else { return Verdict::New };
        match change(self.now.instructions, before.instructions) {
            percent if percent > TOLERANCE => Verdict::More,
            percent if percent < -TOLERANCE => Verdict::Less,
            _ => Verdict::Same,
        }
    }
}

/// Instructions, their change, allocations, those of the baseline.
impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { instructions, allocations, .. } = self.now;
        match self.before {
            Some(before) => {
                let percent = change(instructions, before.instructions);
                let more = allocations - before.allocations;
                write!(f, "{instructions:>12} {percent:>+7.2} % {allocations:>11.1} {more:>+6.1}")
            }
            None => write!(f, "{instructions:>12} {:>9} {allocations:>11.1} {:>6}", "new", ""),
        }
    }
}

/// The change in percent.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn change(now: u64, before: u64) -> f64 {
    (now as f64 / before.max(1) as f64 - 1.0) * 100.0
}
