//! What stands where, per organization: waiting, parked, and dead letters at rest.
//!
//! A transaction notes what it changes in a [`Tally`]; the engine adds that to its stored counts in the same
//! transaction, and to [`Stats`] after the commit. So nothing is ever counted by walking through the envelopes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Stats;

/// Counts of one organization, or changes to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Envelopes without an outcome, parked ones included.
    pub(super) waiting: i64,
    /// Parked envelopes.
    pub(super) parked: i64,
    /// Dead letters that nobody has decided about.
    pub(super) dead: i64,
}

/// Changes per organization.
#[derive(Debug, Default)]
pub(super) struct Tally(HashMap<Arc<str>, Counts>);

impl Tally {
    /// The changes of one organization, to add to.
    pub(super) fn of(&mut self, organization: &Arc<str>) -> &mut Counts {
        if !self.0.contains_key(organization) {
            self.0.insert(Arc::clone(organization), Counts::default());
        }
        self.0.get_mut(organization).expect("BUG: inserted above if it was missing")
    }

    /// The organizations whose counts change.
    pub(super) fn changes(&self) -> impl Iterator<Item = (&Arc<str>, Counts)> {
        self.0
            .iter()
            .map(|(organization, counts)| (organization, *counts))
            .filter(|(_, it)| *it != Counts::default())
    }

    /// Adds the changes to what is shown.
    pub(super) fn apply(&self, stats: &mut Stats) {
        for (organization, Counts { waiting, parked, dead }) in self.changes() {
            add(&mut stats.waiting, organization, waiting);
            add(&mut stats.parked, organization, parked);
            add(&mut stats.dead_letters, organization, dead);
        }
    }
}

fn add(counts: &mut BTreeMap<Arc<str>, u64>, organization: &Arc<str>, change: i64) {
    if change != 0 {
        let count = counts.entry(Arc::clone(organization)).or_default();
        *count = count.saturating_add_signed(change);
        // Names come and go, and there may be more of them over time than memory should hold.
        if *count == 0 {
            counts.remove(organization);
        }
    }
}
