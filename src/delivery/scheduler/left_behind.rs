//! Lanes that are held up and for which there is no room in memory: only their names are remembered, so that none of
//! their events overtakes another. They are found again by reading the numbers in the queue once more.

use std::collections::HashSet;

use super::LaneKey;
use crate::queue::Seq;

/// Lanes that are remembered (about 18 bytes each); an organization with more is not read further.
const MOST: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct LeftBehind {
    lanes: HashSet<LaneKey>,
    /// Those that were added since the sweep under way began.
    added: HashSet<LaneKey>,
    /// No event of theirs has a smaller number.
    first: Option<Seq>,
    first_added: Option<Seq>,
}

impl LeftBehind {
    pub(super) fn new() -> Self {
        Self { lanes: HashSet::new(), added: HashSet::new(), first: None, first_added: None }
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len() + self.added.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn has_room(&self) -> bool {
        self.len() < MOST
    }

    pub(super) fn contains(&self, lane: LaneKey) -> bool {
        self.lanes.contains(&lane) || self.added.contains(&lane)
    }

    /// Where a sweep for them begins.
    pub(super) fn first(&self) -> Option<Seq> {
        [self.first, self.first_added].into_iter().flatten().min()
    }

    pub(super) fn add(&mut self, lane: LaneKey, first: Seq) {
        self.added.insert(lane);
        self.first_added = Some(self.first_added.map_or(first, |earlier| earlier.min(first)));
    }

    /// Takes a lane out, if it was there when the sweep began.
    pub(super) fn take(&mut self, lane: LaneKey) -> bool {
        self.lanes.remove(&lane) && {
            self.added.remove(&lane);
            true
        }
    }

    /// A sweep begins.
    pub(super) fn begin(&mut self) {
        self.first = self.first();
        self.first_added = None;
        self.lanes.extend(self.added.drain());
        if self.lanes.is_empty() {
            self.lanes = HashSet::new();
        }
    }

    /// A sweep has ended: what it looked for and did not find is not there. `stopped`: the first that it left, since there
    /// was no room.
    pub(super) fn end(&mut self, stopped: Option<Seq>) {
        self.first = stopped;
        if stopped.is_none() {
            self.lanes.clear();
        }
    }
}
