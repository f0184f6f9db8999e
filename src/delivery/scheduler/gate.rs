//! Whether an organization's envelopes may start: the operator's word, Wigzo's pauses, and the circuit breaker.
//!
//! Invariants:
//! * A pause is obeyed to its end, whatever else is said meanwhile, and only ever prolonged.
//! * A shut gate opens by a probe only: one envelope, after a wait that doubles with each probe that fails. Only what
//!   was started after the gate shut can open it or prolong the wait.
//! * It shuts at once when Wigzo refuses the organization's token or address, and when as many *different* lanes as
//!   configured have failed without an answer that shows Wigzo at work in between. One lane alone never shuts it,
//!   however often it fails: that is the event's trouble, not the organization's.

use std::time::Duration;

use super::{Answer, LaneKey, Limits};
use crate::clock::UnixMillis;

/// What an organization may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Everything.
    Open,
    /// Nothing, until an operator resumes it.
    Held,
    /// Nothing before this time: Wigzo asked for it.
    Paused(UnixMillis),
    /// Nothing before this time, then one probe.
    Shut {
        /// Why.
        why: Why,
        /// When the next probe may start.
        until: UnixMillis,
        /// How many probes have failed.
        failures: u32,
    },
    /// One probe at a time.
    Probing {
        /// Why the gate shut.
        why: Why,
        /// How many probes failed before.
        failures: u32,
    },
}

/// Why a gate shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Wigzo refuses the organization's token or address.
    Refused,
    /// The circuit breaker: calls of several lanes in a row have failed.
    Failing,
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

/// A pause this long or longer is an outage: an event that fails around it is not alone with its trouble. A shorter
/// one is traffic control, and common.
const OUTAGE: Duration = Duration::from_mins(1);

/// The state behind a [`Gate`].
#[derive(Debug, Default)]
pub(super) struct Keeper {
    held: bool,
    /// Nothing starts before this time.
    paused: Option<UnixMillis>,
    shut: Option<Shut>,
    /// How often it has shut, failed probes included.
    shuts: u64,
    /// The lanes that have failed since the last answer that showed Wigzo at work; no more than shut the gate.
    failing: Vec<LaneKey>,
    /// Since when all has been well.
    well_since: Option<UnixMillis>,
    /// The last success.
    good_at: Option<UnixMillis>,
}

#[derive(Debug, Clone, Copy)]
struct Shut {
    why: Why,
    /// When the next probe may start; `None`: now.
    until: Option<UnixMillis>,
    failures: u32,
}

impl Keeper {
    pub(super) fn gate(&self) -> Gate {
        if self.held {
            return Gate::Held;
        }
        match (self.shut, self.paused) {
            (None, None) => Gate::Open,
            (None, Some(until)) => Gate::Paused(until),
            (Some(Shut { why, until: None, failures }), None) => Gate::Probing { why, failures },
            (Some(Shut { why, until: Some(until), failures }), None)
            | (Some(Shut { why, until: None, failures }), Some(until)) => Gate::Shut { why, until, failures },
            (Some(Shut { why, until: Some(probe), failures }), Some(paused)) => {
                Gate::Shut { why, until: probe.max(paused), failures }
            }
        }
    }

    /// What a start hands back with its news, see [`Keeper::hear`].
    pub(super) fn shuts(&self) -> u64 {
        self.shuts
    }

    /// Takes the news of a lane; returns when the gate should be looked at again. `is_late`: it was started before the
    /// gate last shut.
    pub(super) fn hear(
        &mut self,
        (answer, lane): (Answer, LaneKey),
        is_late: bool,
        now: UnixMillis,
        limits: &Limits,
    ) -> Option<UnixMillis> {
        match answer {
            // A probe that has learned nothing: the next one may go.
            Answer::Unknown => return None,
            Answer::Good => {
                self.failing.clear();
                self.good_at = Some(now);
                if !is_late {
                    self.shut = None;
                }
            }
            Answer::Other => {
                self.failing.clear();
                if !is_late && self.shut.is_some_and(|shut| shut.why == Why::Failing) {
                    self.shut = None;
                }
            }
            Answer::Failed | Answer::Refused if is_late => return None,
            Answer::Failed => return self.fail(lane, now, limits),
            Answer::Refused => {
                let before = self.shut.filter(|shut| shut.why == Why::Refused);
                let failures = before.map_or(0, |shut| shut.failures + 1);
                return Some(self.shut(Why::Refused, failures, now.plus(limits.refused.after(failures))));
            }
        }
        if self.gate() == Gate::Open && self.good_at == Some(now) {
            self.well_since.get_or_insert(now);
        }
        None
    }

    fn fail(&mut self, lane: LaneKey, now: UnixMillis, limits: &Limits) -> Option<UnixMillis> {
        if let Some(Shut { why, failures, .. }) = self.shut {
            let waits = if why == Why::Refused { limits.refused } else { limits.failing };
            return Some(self.shut(why, failures + 1, now.plus(waits.after(failures + 1))));
        }
        if !self.failing.contains(&lane) {
            self.failing.push(lane);
        }
        if self.failing.len() < limits.failing_lanes {
            return None;
        }
        Some(self.shut(Why::Failing, 0, now.plus(limits.failing.after(0))))
    }

    fn shut(&mut self, why: Why, failures: u32, until: UnixMillis) -> UnixMillis {
        // Not before a pause's end, so that one timer opens both.
        let until = self.paused.map_or(until, |paused| until.max(paused));
        self.shut = Some(Shut { why, until: Some(until), failures });
        self.shuts += 1;
        self.failing.clear();
        self.well_since = None;
        until
    }

    /// Wigzo asks for a pause. It is only ever prolonged.
    pub(super) fn pause(&mut self, until: UnixMillis, now: UnixMillis) -> Option<UnixMillis> {
        if until <= now || self.paused.is_some_and(|earlier| until <= earlier) {
            return None;
        }
        if until.since(now) >= OUTAGE {
            self.well_since = None;
        }
        self.paused = Some(until);
        Some(until)
    }

    /// Opens what has been closed for long enough.
    pub(super) fn wake(&mut self, now: UnixMillis) {
        self.paused = self.paused.filter(|&until| until > now);
        if let Some(shut) = &mut self.shut {
            shut.until = shut.until.filter(|&until| until > now);
        }
    }

    /// An operator holds the organization.
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// An operator resumes it. A pause that Wigzo asked for goes on.
    pub(super) fn resume(&mut self) {
        self.held = false;
        if self.shut.is_some() {
            self.correct();
        }
        self.failing.clear();
    }

    /// Its token or address was corrected: what was learned of the old one does not count, and what is still under way
    /// with it must not shut the gate again. A pause that Wigzo asked for goes on, and so does an operator's hold.
    pub(super) fn correct(&mut self) {
        self.shut = None;
        self.shuts += 1;
        self.failing.clear();
    }

    /// Whether an event's failure may be its own: the organization is well now, has been for all of `hold` since the
    /// event began to fail, and other events are delivered.
    pub(super) fn may_park(&self, failing_since: UnixMillis, hold: Duration, now: UnixMillis) -> bool {
        let others_go = self.good_at.is_some_and(|good| good.plus(hold) >= now && good >= failing_since);
        let alone = self.failing.len() < 2;
        let long_enough = self.well_since.is_some_and(|well| well.max(failing_since).plus(hold) <= now);
        self.gate() == Gate::Open && others_go && alone && long_enough
    }

    /// Whether there is nothing that must be remembered of it.
    pub(super) fn is_forgettable(&self) -> bool {
        !self.held && self.paused.is_none()
    }

    /// Lanes that have failed in a row.
    pub(super) fn failing_lanes(&self) -> usize {
        self.failing.len()
    }
}
