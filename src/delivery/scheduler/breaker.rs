//! The circuit breaker: whether calls to one endpoint of an organization may be made, and a suspension when Wigzo
//! refuses them. A second use is the breaker of an organization's connections.
//!
//! Invariants:
//! * It opens on evidence: enough *different* lanes have failed, or were refused, without a success in between. That is
//!   not enough as long as something has succeeded within [`RECENT`], unless they are [`MANY`] times as many: events that
//!   fail may come in a row. A lane whose event is known to fail alone is no evidence. One failing lane never opens it.
//!   One refused lane does, after [`REFUSALS`] refusals, where no other lane could be tried.
//! * It closes by a probe only. What was started before it opened neither closes it nor prolongs the wait. A probe that
//!   succeeds closes it, even if others have failed in the meantime.
//! * The wait before the next probes doubles only when different lanes agree, or no other lane could be tried.

use std::time::Duration;

use super::{Answer, LaneKey, Limits};
use crate::clock::UnixMillis;

/// Refusals that suspend: of as many lanes, or of the only one.
const REFUSALS: usize = 3;

/// A success this short a time ago outweighs lanes that fail, unless there are [`MANY`] times as many as would do.
const RECENT: Duration = Duration::from_millis(250);
const MANY: usize = 20;

/// The first look after a suspension comes this soon: what was refused may have been one event, or one moment.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Probes that may be under way at a time.
pub(super) const PROBES: usize = 3;

/// Probes of different lanes that must fail before the wait is doubled.
const AGREEING: usize = 2;

/// For this long after it closed, lanes are started from both ends of the ready queues.
const WARY: Duration = Duration::from_mins(1);

/// Why a breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Wigzo refuses the organization's token or address.
    Refused,
    /// Calls of several lanes in a row have failed.
    Failing,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaking {
    /// Calls are made.
    Closed,
    /// No calls are made before this time.
    Open {
        /// Why.
        why: Why,
        /// When probes may start.
        until: UnixMillis,
        /// How often probes have failed.
        failures: u32,
    },
    /// A few calls find out whether it can close.
    HalfOpen {
        /// Why it opened.
        why: Why,
        /// How often probes have failed before.
        failures: u32,
    },
}

/// The waits before probes.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// Before the first; it doubles.
    pub base: Duration,
    /// The longest.
    pub cap: Duration,
}

impl Waits {
    fn after(self, failures: u32) -> Duration {
        self.base.saturating_mul(1 << failures.min(20)).min(self.cap)
    }
}

/// What is known of the call whose answer a breaker takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    pub(super) lane: LaneKey,
    /// [`Breaker::changes`] when it was started.
    pub(super) changes: u64,
    /// Its event has failed before while others succeeded.
    pub(super) is_alone: bool,
    /// Another lane could be tried.
    pub(super) others_wait: bool,
    /// The last success that counts against it.
    pub(super) last_success: Option<UnixMillis>,
}

/// A breaker.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    open: Option<Opened>,
    /// How often it has opened or was reset, failed probes included.
    changes: u64,
    /// Lanes that have failed, and that were refused, since the last success.
    failing: Vec<LaneKey>,
    refused: Vec<LaneKey>,
    refusals: usize,
    /// When it closed after it was open.
    closed_at: Option<UnixMillis>,
}

#[derive(Debug)]
struct Opened {
    why: Why,
    /// When probes may start; `None`: now.
    until: Option<UnixMillis>,
    failures: u32,
    /// Lanes whose probes have failed since then.
    probed: Vec<LaneKey>,
    /// What was started after so many changes is a probe.
    first_change: u64,
}

impl Breaker {
    pub(super) fn state(&self) -> Breaking {
        match &self.open {
            None => Breaking::Closed,
            Some(Opened { why, until: Some(until), failures, .. }) => {
                Breaking::Open { why: *why, until: *until, failures: *failures }
            }
            Some(Opened { why, until: None, failures, .. }) => {
                Breaking::HalfOpen { why: *why, failures: *failures }
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.open.is_none()
    }

    /// What a start hands back with its answer.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Lanes that have failed since the last success.
    pub(super) fn failing_lanes(&self) -> usize {
        self.failing.len()
    }

    /// Whether it has evidence against its endpoint, or had lately.
    pub(super) fn is_wary(&self, now: UnixMillis) -> bool {
        let lately = self.closed_at.is_some_and(|at| now.since(at) < WARY);
        lately || !self.failing.is_empty() || !self.refused.is_empty()
    }

    /// Takes an answer; returns when the breaker should be looked at again.
    pub(super) fn hear(
        &mut self,
        answer: Answer,
        circumstances: Circumstances,
        now: UnixMillis,
        limits: &Limits,
    ) -> Option<UnixMillis> {
        let is_late = circumstances.changes != self.changes;
        match answer {
            Answer::Unknown | Answer::Unreachable => None,
            Answer::Good | Answer::Other => {
                self.clear();
                // A refusal of the event shows Wigzo at work, and says nothing of a token that is refused.
                let shows = |open: &Opened| answer == Answer::Good || open.why == Why::Failing;
                let is_probe = |open: &Opened| circumstances.changes >= open.first_change;
                if self.open.as_ref().is_some_and(|open| shows(open) && is_probe(open)) {
                    self.close(now);
                }
                None
            }
            Answer::Failed | Answer::Refused if is_late => None,
            Answer::Failed => self.bad(Why::Failing, circumstances, now, limits),
            Answer::Refused => self.bad(Why::Refused, circumstances, now, limits),
        }
    }

    fn bad(
        &mut self,
        why: Why,
        Circumstances { lane, is_alone, others_wait, last_success, .. }: Circumstances,
        now: UnixMillis,
        limits: &Limits,
    ) -> Option<UnixMillis> {
        if let Some(open) = &mut self.open {
            note(&mut open.probed, lane);
            if others_wait && open.probed.len() < AGREEING {
                return None;
            }
            // A refusal and a failure in turns: the token may be good.
            let failures = if open.why == why || why == Why::Failing { open.failures + 1 } else { 0 };
            let why = if why == Why::Refused { why } else { open.why };
            return Some(self.trip(why, failures, now, limits));
        }
        if is_alone {
            return None;
        }
        let (lanes, enough) = match why {
            Why::Failing => (&mut self.failing, limits.failing_lanes),
            Why::Refused => (&mut self.refused, REFUSALS),
        };
        note(lanes, lane);
        let lanes = lanes.len();
        self.refusals += usize::from(why == Why::Refused);
        let is_recent = last_success.is_some_and(|at| now.since(at) < RECENT);
        let only_lane = why == Why::Refused && !others_wait && self.refusals >= REFUSALS;
        let trips = lanes >= enough * MANY || (!is_recent && (lanes >= enough || only_lane));
        trips.then(|| self.trip(why, 0, now, limits))
    }

    fn trip(&mut self, why: Why, failures: u32, now: UnixMillis, limits: &Limits) -> UnixMillis {
        let wait = match (why, failures) {
            (Why::Failing, _) => limits.failing.after(failures),
            (Why::Refused, 0) => limits.refused.base.min(FIRST_LOOK),
            (Why::Refused, _) => limits.refused.after(failures - 1),
        };
        let until = now.plus(wait);
        self.changes += 1;
        let first_change = self.open.as_ref().map_or(self.changes, |open| open.first_change);
        self.open = Some(Opened { why, until: Some(until), failures, probed: Vec::new(), first_change });
        self.closed_at = None;
        self.clear();
        until
    }

    fn clear(&mut self) {
        self.failing.clear();
        self.refused.clear();
        self.refusals = 0;
    }

    fn close(&mut self, now: UnixMillis) {
        if self.open.take().is_some() {
            self.closed_at = Some(now);
        }
    }

    /// Lets probes start when it has been open for long enough.
    pub(super) fn wake(&mut self, now: UnixMillis) {
        if let Some(open) = &mut self.open {
            open.until = open.until.filter(|&until| until > now);
        }
    }

    /// An operator's word, or another token or address: what was learned does not count, and what is under way must not
    /// open it again.
    pub(super) fn reset(&mut self) {
        *self = Self { changes: self.changes + 1, ..Self::default() };
    }
}

fn note(lanes: &mut Vec<LaneKey>, lane: LaneKey) {
    if !lanes.contains(&lane) {
        lanes.push(lane);
    }
}
