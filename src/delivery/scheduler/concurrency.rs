//! How many calls to an endpoint an organization may make at a time: a limit that finds itself.
//!
//! Nobody knows what Wigzo stands. The limit starts at [`START`] and doubles with each round trip while every answer is
//! good (each good answer adds one); after the first sign of trouble it grows by one a round trip. Answers with 429, 503
//! or 504 and time-outs take three tenths of it, unless they are single ones among many good answers. Answers that take
//! much longer than they used to lower it in proportion; where they take somewhat longer, two limits are
//! [compared](comparison). Only what was started after the last cut can cut again, so one bad moment counts once.
//!
//! After trouble the limit doubles again up to three quarters of where the trouble began, and grows slowly from there:
//! an outage is left behind in a few round trips, and a limit is approached with care.
//! [The decision](../../../docs/decisions/0009-concurrency.md) has the figures.

mod comparison;

use std::time::Duration;

use comparison::{Advice, Comparison};

/// Where the limit starts, and below which slow answers alone do not take it: with so few calls in flight, what is
/// seen is the server's own pace, and becomes the new measure.
const START: f64 = 4.0;

/// What a refusal for overload, or a time-out, leaves of the limit.
const CUT: f64 = 0.7;

/// A refusal lowers the limit if refusals of late come to more than this ...
const REFUSALS: f64 = 2.0;

/// ... where each good answer leaves this much of their number.
const FADING: f64 = 0.99;

/// How much of the limit at which trouble began is taken back quickly.
const SAFE: f64 = 0.75;

/// Answers are slow from this multiple of the measure on ...
const SLOW: f64 = 1.5;

/// ... plus this many milliseconds: differences below that are nobody's trouble, and noise on a fast link.
const SLACK: f64 = 50.0;

/// By how much the limit grows in a round trip up to a limit that was worse than a smaller one.
const WARY: f64 = 0.125;

/// Limits are compared from the multiple and this many milliseconds on: below lies the noise of a busy machine of ours,
/// where fewer calls only make smaller groups of results.
const COMPARED_SLACK: f64 = 20.0;

/// The fewest answers over which a mean says something.
const ROUND: f64 = 20.0;

/// The first measure is the mean of this many answers.
const FIRST: f64 = 10.0;

/// What the answers to one envelope's calls said about the server's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Nothing: no answer, or one that has other causes.
    Unknown,
    /// It was carried out.
    Fine,
    /// It was refused because of too much load, or not answered in time.
    TooMuch,
}

/// The limit and what it is derived from. Latencies are milliseconds.
#[derive(Debug)]
pub(super) struct Concurrency {
    limit: f64,
    /// Up to here it doubles with each round trip, above it grows by one.
    safe: f64,
    /// Up to here it grows more slowly: this limit was worse than a smaller one.
    worse: f64,
    /// What answers take when all is well.
    measure: Option<f64>,
    /// What they have taken lately.
    recent: f64,
    /// How many answers `recent` has seen since it was last set.
    seen: f64,
    /// How often the limit was cut.
    cuts: u64,
    /// What the last cut left, and good answers since then.
    left_by_cut: f64,
    good: f64,
    /// Refusals of late: each counts less with each good answer.
    refusals: f64,
    comparison: Comparison,
    /// The limit when this round began, the most calls in flight in it, and how many answers are left of it.
    round: usize,
    peak: usize,
    left: usize,
}

impl Concurrency {
    pub(super) fn new() -> Self {
        Self {
            limit: START,
            safe: f64::INFINITY,
            worse: 0.0,
            measure: None,
            recent: 0.0,
            seen: 0.0,
            cuts: 0,
            left_by_cut: 0.0,
            good: 0.0,
            refusals: 0.0,
            comparison: Comparison::new(),
            round: 0,
            peak: 0,
            left: 0,
        }
    }

    /// One that has found a limit.
    #[cfg(test)]
    pub(super) fn found(limit: usize) -> Self {
        Self { limit: bounded(limit), ..Self::new() }
    }

    /// The limit, at least 1 and at most `max`.
    pub(super) fn limit(&self, max: usize) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float to integer cast saturates, and the limit is positive"
        )]
        let limit = self.limit as usize;
        limit.clamp(1, max.max(1))
    }

    /// What a call that starts now hands back with its answer.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Takes an answer. `started`: the cuts when its call started. `in_flight`: calls in flight, this one included.
    pub(super) fn hear(
        &mut self,
        load: Load,
        latency: Option<Duration>,
        started: u64,
        in_flight: usize,
        max: usize,
    ) {
        let in_use = self.is_in_use(in_flight, max);
        if started != self.cuts {
            return;
        }
        match load {
            Load::Unknown => {}
            Load::TooMuch => self.take_refusal(),
            Load::Fine => {
                self.good += 1.0;
                self.refusals *= FADING;
                let latency = latency.map(|latency| latency.as_secs_f64() * 1_000.0);
                if let Some(latency) = latency {
                    self.measure(latency);
                }
                if self.is_slow() {
                    self.yield_to_slowness();
                } else {
                    self.compare(latency, in_flight, in_use);
                }
            }
        }
        // So that a limit which was lowered by configuration is followed at once.
        self.limit = self.limit.min(bounded(max));
    }

    /// One refusal among hundreds of good answers does not say that there are too many calls.
    fn take_refusal(&mut self) {
        self.refusals += 1.0;
        if self.refusals > REFUSALS {
            self.cut(CUT, 1.0);
        }
    }

    fn compare(&mut self, latency: Option<f64>, in_flight: usize, in_use: bool) {
        let advice = latency.map_or(Advice::None, |latency| {
            let is_due = in_use && self.limit > START && self.exceeds_measure(COMPARED_SLACK);
            self.comparison.hear(self.limit, bounded(in_flight), latency, is_due)
        });
        match advice {
            Advice::None => self.grow(in_use),
            Advice::Hold => {}
            Advice::Try(limit) => self.change(limit.max(START)),
            Advice::Keep { limit, than } => {
                (self.safe, self.worse) = (limit, than);
                self.change(limit);
            }
        }
    }

    fn grow(&mut self, in_use: bool) {
        if in_use {
            self.limit += if self.limit < self.safe {
                1.0
            } else if self.limit < self.worse {
                WARY / self.limit
            } else {
                1.0 / self.limit
            };
        }
    }

    /// Whether the limit is what holds more calls back. One that nothing pushes against is not proved by good answers.
    /// Calls that end together leave it for a moment before others start, so the most of a round counts.
    fn is_in_use(&mut self, in_flight: usize, max: usize) -> bool {
        if self.left == 0 {
            self.round = self.limit(max);
            (self.left, self.peak) = (self.round, 0);
        }
        self.left -= 1;
        self.peak = self.peak.max(in_flight);
        self.peak * 4 >= self.round * 3
    }

    fn measure(&mut self, latency: f64) {
        self.seen += 1.0;
        // A plain mean first, then a moving one over about a round trip.
        let window = self.limit.max(ROUND);
        self.recent += (latency - self.recent) / self.seen.min(window);
        let measure = self.measure.get_or_insert(latency);
        if self.cuts == 0 && self.seen <= FIRST {
            *measure = self.recent;
            return;
        }
        // Only down: what a line before the server adds must not become normal bit by bit. Where the server itself has
        // become slower, the limit falls to [`START`], and it is measured anew.
        if self.recent < *measure {
            *measure += (self.recent - *measure) / 64.0;
        }
    }

    fn is_slow(&self) -> bool {
        self.exceeds_measure(SLACK)
    }

    fn exceeds_measure(&self, slack: f64) -> bool {
        self.measure.is_some_and(|measure| self.recent > measure * SLOW + slack)
    }

    fn yield_to_slowness(&mut self) {
        // A few slow answers stop the growth; a round of them lowers the limit.
        let Some(measure) = self.measure.filter(|_| self.seen >= ROUND.min(self.limit)) else { return };
        if self.limit <= START {
            // It is not us: this is what the server takes now.
            self.measure = Some(self.recent);
            return;
        }
        let keep = ((measure * SLOW + SLACK) / self.recent).clamp(0.5, 0.9);
        self.cut(keep, START);
    }

    fn cut(&mut self, keep: f64, least: f64) {
        // Only trouble after a good round says where the limit lies; more of the same trouble does not.
        if self.good >= self.left_by_cut {
            self.safe = self.limit * SAFE;
        }
        self.change((self.limit * keep).max(least));
        (self.left_by_cut, self.good) = (self.limit, 0.0);
        self.refusals = 0.0;
        self.comparison.restart(self.limit);
    }

    /// Sets a limit. What was started before it says nothing of it.
    fn change(&mut self, limit: f64) {
        self.limit = limit;
        self.cuts += 1;
        self.seen = 0.0;
        self.recent = self.measure.unwrap_or(0.0);
    }
}

fn bounded(max: usize) -> f64 {
    f64::from(u32::try_from(max).unwrap_or(u32::MAX)).max(1.0)
}
