//! A lane: all waiting envelopes of one user in one organization, in order.
//!
//! Its front is held with its payload, what follows by number, and what follows that as a range of numbers that is read
//! again when its turn comes. So a lane takes little memory, however much waits in it.

use std::collections::VecDeque;

use super::Item;
use crate::clock::UnixMillis;
use crate::queue::Seq;
use crate::wigzo::Endpoint;

/// Envelopes of a lane that are held by number.
pub(super) const LANE_STUBS: usize = if cfg!(test) { 3 } else { 64 };

/// An envelope without its payload, which is in the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stub {
    pub(super) seq: Seq,
    pub(super) due: Option<UnixMillis>,
}

/// Envelopes of a lane that are only known to lie between two numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    /// No envelope of the rest has a smaller number.
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// The sweep in which the lane could take no more.
    pub(super) full_in: u64,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(super) struct Lane<T> {
    /// The oldest, with their payload.
    pub(super) items: VecDeque<Item<T>>,
    /// What follows them, by number; at most [`LANE_STUBS`].
    pub(super) stubs: VecDeque<Stub>,
    /// What follows those.
    pub(super) rest: Option<Rest>,
    pub(super) in_flight: bool,
    /// Whether it is in a ready queue.
    pub(super) is_ready: bool,
    /// Whether its first stubs are to be read, or are being read.
    pub(super) is_loading: bool,
    /// The endpoint that its head needs, once that is known, or is expected to (`is_guess`) if it is held by number.
    pub(super) needs: Option<Endpoint>,
    pub(super) is_guess: bool,
    /// Since when its head has been failing, or kept from an endpoint.
    pub(super) held_up_since: Option<UnixMillis>,
}

/// What a lane waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A time.
    At(UnixMillis),
    /// Its turn. `retry`: its head has been tried before.
    Start { retry: bool },
    /// Its head is to be read.
    Load,
    /// Its next numbers are to be read.
    Refill,
}

impl<T> Lane<T> {
    pub(super) fn new() -> Self {
        Self {
            items: VecDeque::new(),
            stubs: VecDeque::new(),
            rest: None,
            in_flight: false,
            is_ready: false,
            is_loading: false,
            needs: None,
            is_guess: false,
            held_up_since: None,
        }
    }

    /// Nothing is known of its head.
    pub(super) fn forget_head(&mut self) {
        (self.needs, self.is_guess, self.held_up_since) = (None, false, None);
    }

    /// Whether it holds nothing and nothing is under way, so that it can be dropped.
    pub(super) fn is_idle(&self) -> bool {
        self.is_empty() && !self.in_flight
    }

    /// Whether nothing waits in it.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.stubs.is_empty() && self.rest.is_none()
    }

    /// Whether anything waits behind its head.
    pub(super) fn has_followers(&self) -> bool {
        self.items.len() + self.stubs.len() > 1 || self.rest.is_some()
    }

    /// The number of its head; with a rest only, where the rest begins.
    pub(super) fn first(&self) -> Option<Seq> {
        let head = self.items.front().map(|item| item.seq).or(self.stubs.front().map(|stub| stub.seq));
        head.or(self.rest.map(|rest| rest.first))
    }

    /// What comes next; `None` where something is being done with it already, or it is empty.
    pub(super) fn next(&self, now: UnixMillis) -> Option<Next> {
        if self.in_flight || self.is_ready || self.is_loading {
            return None;
        }
        let head = self.items.front().map(|item| item.due);
        let Some(due) = head.or_else(|| self.stubs.front().map(|stub| stub.due)) else {
            return self.rest.map(|_| Next::Refill);
        };
        Some(match (due, head) {
            (Some(due), _) if due > now => Next::At(due),
            (due, Some(_)) => Next::Start { retry: due.is_some() },
            // What needs an endpoint that is closed is read when its turn comes.
            (due, None) if self.needs.is_some() => Next::Start { retry: due.is_some() },
            (_, None) => Next::Load,
        })
    }

    /// Lets go of the payloads, and of the numbers beyond those that a lane may hold.
    /// `full_in`: the sweep that is not to fill a rest that begins here.
    pub(super) fn strip(&mut self, full_in: u64) -> Stripped {
        let mut stripped = Stripped { stubs_before: self.stubs.len(), ..Stripped::default() };
        while let Some(item) = self.items.pop_back() {
            stripped.items += 1;
            stripped.bytes += item.size;
            self.stubs.push_front(Stub { seq: item.seq, due: item.due });
        }
        let upto = self.rest.map(|rest| rest.last).or(self.stubs.back().map(|stub| stub.seq));
        while self.stubs.len() > LANE_STUBS
            && let (Some(stub), Some(upto)) = (self.stubs.pop_back(), upto)
        {
            self.rest = Some(Rest { first: stub.seq, last: upto, full_in });
        }
        stripped.stubs_after = self.stubs.len();
        stripped
    }
}

/// What a lane has let go of.
#[derive(Debug, Default)]
pub(super) struct Stripped {
    pub(super) items: usize,
    pub(super) bytes: usize,
    pub(super) stubs_before: usize,
    pub(super) stubs_after: usize,
}
