//! A lane: all waiting envelopes of one person in one organization, in order.
//!
//! The front of a lane is held with its payload, the rest may be held by number only and is read again when its turn
//! comes: that is what lets blocked lanes wait without taking the memory from others.

use std::collections::VecDeque;

use super::Item;
use crate::clock::UnixMillis;
use crate::queue::Seq;

/// An envelope without its payload, which is in the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stub {
    pub(super) seq: Seq,
    pub(super) due: Option<UnixMillis>,
}

#[derive(Debug)]
pub(super) struct Lane<T> {
    /// The oldest, with their payload.
    pub(super) items: VecDeque<Item<T>>,
    /// What follows them, by number.
    pub(super) stubs: VecDeque<Stub>,
    pub(super) in_flight: bool,
    /// Whether it stands among its organization's ready lanes.
    pub(super) is_ready: bool,
    /// Whether its first stubs are to be read, or are being read.
    pub(super) is_loading: bool,
}

/// Where a lane stands that nothing is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits behind a timer.
    At(UnixMillis),
    /// Its head may start. `retry`: it has been tried before.
    Start { retry: bool },
    /// Its head may start once it has been read.
    Load,
}

impl<T> Lane<T> {
    pub(super) fn new() -> Self {
        Self {
            items: VecDeque::new(),
            stubs: VecDeque::new(),
            in_flight: false,
            is_ready: false,
            is_loading: false,
        }
    }

    /// Whether it holds nothing and nothing is under way, so that it can be dropped.
    pub(super) fn is_idle(&self) -> bool {
        self.items.is_empty() && self.stubs.is_empty() && !self.in_flight
    }

    /// What comes next; `None` where something is being done with it already, or it is empty.
    pub(super) fn next(&self, now: UnixMillis) -> Option<Next> {
        if self.in_flight || self.is_ready || self.is_loading {
            return None;
        }
        let head = self.items.front().map(|item| item.due);
        let due = head.or_else(|| self.stubs.front().map(|stub| stub.due))?;
        Some(match (due, head) {
            (Some(due), _) if due > now => Next::At(due),
            (due, Some(_)) => Next::Start { retry: due.is_some() },
            (_, None) => Next::Load,
        })
    }

    /// Lets go of the payloads: how many, and of how many bytes.
    pub(super) fn strip(&mut self) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        while let Some(item) = self.items.pop_back() {
            count += 1;
            bytes += item.size;
            self.stubs.push_front(Stub { seq: item.seq, due: item.due });
        }
        (count, bytes)
    }
}
