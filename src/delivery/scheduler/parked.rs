//! The parked envelopes of one organization: those that their lanes have gone on without.
//!
//! They are worked in batches, earliest due first. A batch is read when its first envelope is due and the one before
//! has been worked to its end, so memory holds one batch however many are parked, and none is held twice.

use std::collections::VecDeque;

use super::Item;
use crate::clock::UnixMillis;

/// Envelopes in a batch.
pub(super) const BATCH: usize = 16;

#[derive(Debug)]
pub(super) struct Parked<T> {
    /// When a batch should be read; `None`: nothing is parked that is not in the batch.
    next: Option<UnixMillis>,
    /// The timer that will wake for it.
    timer: Option<UnixMillis>,
    reading: bool,
    /// Those of the batch that have not started.
    pub(super) batch: VecDeque<Item<T>>,
    in_flight: usize,
}

impl<T> Parked<T> {
    /// What is parked on disk is not known yet.
    pub(super) fn unknown() -> Self {
        Self { next: Some(UnixMillis(0)), timer: None, reading: false, batch: VecDeque::new(), in_flight: 0 }
    }

    /// Lets go of what is held. What is in flight is not touched, and of what is on disk nothing is known any more.
    pub(super) fn let_go(&mut self) {
        *self = Self { next: None, in_flight: self.in_flight, ..Self::unknown() };
    }

    /// What is parked on disk is to be found out.
    pub(super) fn look(&mut self) {
        self.next = Some(UnixMillis(0));
    }

    /// When a batch should be read, unless one is being worked.
    pub(super) fn next(&self) -> Option<UnixMillis> {
        self.next.filter(|_| self.is_worked_off())
    }

    /// Whether a batch should be read now.
    pub(super) fn is_due(&self, now: UnixMillis) -> bool {
        self.next().is_some_and(|due| due <= now)
    }

    /// A timer to set, if the next batch is due later and none is set for it.
    pub(super) fn timer(&mut self, now: UnixMillis) -> Option<UnixMillis> {
        let due = self.next().filter(|&due| due > now)?;
        if self.timer.is_some_and(|timer| timer <= due) {
            return None;
        }
        self.timer = Some(due);
        self.timer
    }

    pub(super) fn wake(&mut self, now: UnixMillis) {
        self.timer = self.timer.filter(|&timer| timer > now);
    }

    fn is_worked_off(&self) -> bool {
        !self.reading && self.batch.is_empty() && self.in_flight == 0
    }

    /// Whether nothing is parked as far as is known.
    pub(super) fn is_empty(&self) -> bool {
        self.next.is_none() && self.is_worked_off()
    }

    pub(super) fn starts_reading(&mut self) {
        self.reading = true;
        self.next = None;
    }

    pub(super) fn read_failed(&mut self, now: UnixMillis) {
        self.reading = false;
        self.note(now);
    }

    /// Takes what was read: parked envelopes, earliest due first.
    pub(super) fn read(&mut self, found: Vec<Item<T>>, now: UnixMillis) {
        self.reading = false;
        for item in found {
            match item.due {
                Some(due) if due > now => return self.note(due),
                _ => self.batch.push_back(item),
            }
        }
        if !self.batch.is_empty() {
            // There may be more that is due.
            self.note(now);
        }
    }

    /// An envelope is parked until this time.
    pub(super) fn note(&mut self, due: UnixMillis) {
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
    }

    pub(super) fn started(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn finished(&mut self) {
        self.in_flight -= 1;
    }
}
