//! Whose turn it is, and who may take how much of the global limit.
//!
//! Organizations that may start something take turns (deficit round robin): a turn is as many envelopes as the
//! organization's weight. Turns share out *starts*; they cannot take back what is in flight. So an organization may hold
//! no more than [`GREED`] times its weight times what is *free* of the global limit. At weight 1, one that has nobody
//! beside it holds four fifths, n slow ones hold 4 parts each of 4n + 1, and one part is free for whoever comes next,
//! however long their calls take. (The scheme is known from switches that share a buffer: dynamic thresholds.)
//!
//! An organization that is held back by that waits apart, ordered by how much of its share it has, and comes back when
//! enough is free and all others have had their turn.

use std::collections::{BTreeSet, VecDeque};

/// How many parts an organization may hold for one that is left free.
const GREED: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Turns {
    order: VecDeque<usize>,
    /// What the organization at the front may still start in this turn.
    deficit: usize,
    held_back: BTreeSet<(usize, usize)>,
}

impl Turns {
    /// Puts an organization at the end. It must not be there yet.
    pub(super) fn give(&mut self, id: usize) {
        self.order.push_back(id);
    }

    /// Whose turn it is.
    pub(super) fn current(&self) -> Option<usize> {
        self.order.front().copied()
    }

    /// Ends the current turn for good.
    pub(super) fn leave(&mut self) {
        self.order.pop_front();
        self.deficit = 0;
    }

    /// Counts a start of the organization at the front; its turn ends after `weight` of them.
    pub(super) fn count(&mut self, weight: usize) {
        if self.deficit == 0 {
            self.deficit = weight.max(1);
        }
        self.deficit -= 1;
        if self.deficit == 0 {
            self.order.rotate_left(1);
        }
    }

    /// Whether an organization may hold one more, with so much free of the global limit. `leaves_one`: there are others
    /// that hold nothing, and the last place is theirs.
    pub(super) fn fits(in_flight: usize, weight: usize, free: usize, leaves_one: bool) -> bool {
        let fits = in_flight < weight.max(1).saturating_mul(GREED).saturating_mul(free);
        fits && (in_flight == 0 || free > 1 || !leaves_one)
    }

    /// Sets an organization aside until enough is free; returns what [`Turns::let_go`] wants back.
    pub(super) fn hold_back(&mut self, id: usize, in_flight: usize, weight: usize) -> usize {
        let share = in_flight / weight.max(1).saturating_mul(GREED);
        self.held_back.insert((share, id));
        share
    }

    /// Takes an organization that was set aside out of there.
    pub(super) fn let_go(&mut self, id: usize, share: usize) {
        self.held_back.remove(&(share, id));
    }

    /// The organization that has least of its share, if one more of it fits into what is free.
    pub(super) fn next_held_back(&mut self, free: usize, leaves_one: bool) -> Option<usize> {
        if free <= 1 && leaves_one {
            return None;
        }
        let first = self.held_back.first().copied().filter(|(share, _)| *share < free)?;
        self.held_back.remove(&first);
        Some(first.1)
    }
}
