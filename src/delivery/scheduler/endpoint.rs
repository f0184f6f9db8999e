//! One endpoint of an organization: the lanes whose next call goes there, and whether and how many calls may be made.

use std::collections::VecDeque;

use super::LaneKey;
use super::breaker::{Breaker, Breaking, Why};
use super::concurrency::Concurrency;
use super::throttle::Throttle;
use crate::clock::UnixMillis;

/// What an organization, or its calls to one endpoint, may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Everything.
    Active,
    /// Nothing, until an operator resumes it. Organizations only.
    Paused,
    /// Nothing before this time: Wigzo asked for it.
    Throttled(UnixMillis),
    /// Nothing before this time, then a few probes: Wigzo refuses the token or address.
    Suspended {
        /// When the next probes may start.
        until: UnixMillis,
        /// How often probes have failed.
        failures: u32,
    },
    /// Nothing before this time, then a few probes: the circuit breaker is open.
    Tripped {
        /// When the next probes may start.
        until: UnixMillis,
        /// How often probes have failed.
        failures: u32,
    },
    /// A few probes at a time.
    Probing {
        /// Why it was stopped.
        why: Why,
        /// How often probes have failed before.
        failures: u32,
    },
}

impl From<Breaking> for Status {
    fn from(breaking: Breaking) -> Self {
        match breaking {
            Breaking::Closed => Self::Active,
            Breaking::Open { why: Why::Refused, until, failures } => Self::Suspended { until, failures },
            Breaking::Open { why: Why::Failing, until, failures } => Self::Tripped { until, failures },
            Breaking::HalfOpen { why, failures } => Self::Probing { why, failures },
        }
    }
}

impl Status {
    /// When it may change by itself.
    pub fn until(self) -> Option<UnixMillis> {
        match self {
            Self::Throttled(until) | Self::Suspended { until, .. } | Self::Tripped { until, .. } => {
                Some(until)
            }
            Self::Active | Self::Paused | Self::Probing { .. } => None,
        }
    }
}

/// The queues of lanes that may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadyQueue {
    /// Their heads were never tried, and are expected to need this endpoint.
    Fresh,
    /// Their heads were never tried, and are known to need it.
    Known,
    /// Their heads were tried before.
    Retries,
}

/// The part of a ready queue that the next lane is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Oldest,
    Newest,
    Any,
}

#[derive(Debug)]
pub(super) struct EndpointState {
    fresh: VecDeque<LaneKey>,
    known: VecDeque<LaneKey>,
    retries: VecDeque<LaneKey>,
    pub(super) breaker: Breaker,
    pub(super) throttle: Throttle,
    pub(super) concurrency: Concurrency,
    /// Retries that were started for it and whose calls are not over.
    pub(super) retries_calling: usize,
    /// Counts starts, for the turns of the queues.
    pub(super) starts: u32,
    /// Counts the lanes that were picked while it is probed or watched.
    picks: u32,
    /// Whether it has ever been called.
    pub(super) is_used: bool,
    pub(super) last_success: Option<UnixMillis>,
    /// Since when it has not been active.
    pub(super) stopped_at: Option<UnixMillis>,
    /// The last time for which it was not active: from, to.
    pub(super) last_stop: Option<(UnixMillis, UnixMillis)>,
}

impl EndpointState {
    pub(super) fn new() -> Self {
        Self {
            fresh: VecDeque::new(),
            known: VecDeque::new(),
            retries: VecDeque::new(),
            breaker: Breaker::default(),
            throttle: Throttle::default(),
            concurrency: Concurrency::new(),
            retries_calling: 0,
            starts: 0,
            picks: 0,
            is_used: false,
            last_success: None,
            stopped_at: None,
            last_stop: None,
        }
    }

    pub(super) fn status(&self) -> Status {
        match (self.throttle.until(), Status::from(self.breaker.state())) {
            (Some(until), Status::Active | Status::Probing { .. }) => Status::Throttled(until),
            (_, status) => status,
        }
    }

    /// Whether it is active and was so before.
    pub(super) fn is_calm(&self) -> bool {
        self.stopped_at.is_none() && self.throttle.until().is_none() && self.breaker.is_closed()
    }

    /// Notes since when it has not been active.
    pub(super) fn note_status(&mut self, now: UnixMillis) {
        if self.status() != Status::Active {
            self.stopped_at.get_or_insert(now);
        } else if let Some(since) = self.stopped_at.take() {
            self.last_stop = Some((since, now));
        }
    }

    /// What was learned does not count any more.
    pub(super) fn reset(&mut self) {
        self.breaker.reset();
        self.throttle.reset();
    }

    pub(super) fn wake(&mut self, now: UnixMillis) {
        self.breaker.wake(now);
        self.throttle.wake(now);
    }

    pub(super) fn ready(&mut self, ready: ReadyQueue) -> &mut VecDeque<LaneKey> {
        match ready {
            ReadyQueue::Fresh => &mut self.fresh,
            ReadyQueue::Known => &mut self.known,
            ReadyQueue::Retries => &mut self.retries,
        }
    }

    pub(super) fn clear_ready(&mut self) {
        self.fresh.clear();
        self.known.clear();
        self.retries.clear();
    }

    pub(super) fn has_untried(&self) -> bool {
        !self.fresh.is_empty() || !self.known.is_empty()
    }

    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    pub(super) fn has_retries(&self) -> bool {
        !self.retries.is_empty()
    }

    /// Lanes that may start, as far as this endpoint lets them.
    pub(super) fn waiting(&self) -> usize {
        self.fresh.len() + self.known.len() + self.retries.len()
    }

    /// The first of each ready queue.
    pub(super) fn fronts(&self) -> impl Iterator<Item = LaneKey> {
        [&self.fresh, &self.known, &self.retries].into_iter().filter_map(|queue| queue.front().copied())
    }

    /// Where the next lane is taken from. Probes look at the newest, the oldest and somewhere between: one request may have
    /// put many events that fail next to each other. So do starts while there is evidence against the endpoint. Every
    /// other one is the newest, so that events that fail do not come in a row while others arrive.
    pub(super) fn next_part(&mut self, now: UnixMillis) -> Part {
        if !matches!(self.breaker.state(), Breaking::HalfOpen { .. }) && !self.breaker.is_wary(now) {
            return Part::Oldest;
        }
        self.picks = self.picks.wrapping_add(1);
        match self.picks % 4 {
            0 => Part::Oldest,
            2 => Part::Any,
            _ => Part::Newest,
        }
    }

    /// Takes a lane out of a ready queue.
    pub(super) fn pop(&mut self, ready: ReadyQueue, part: Part) -> Option<LaneKey> {
        // A step that has no common divisor with most lengths visits all places of a queue.
        let place = (self.picks as usize).wrapping_mul(0x9E37_79B1);
        let queue = self.ready(ready);
        match part {
            Part::Oldest => queue.pop_front(),
            Part::Newest => queue.pop_back(),
            Part::Any => queue.swap_remove_front(place.checked_rem(queue.len())?),
        }
    }
}
