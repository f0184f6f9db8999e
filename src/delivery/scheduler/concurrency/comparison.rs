//! Whether fewer calls at a time would bring more answers.
//!
//! A server may answer more slowly with each further call it works on, and so do less in total: latency alone does not
//! tell that from a queue in front of it, which does no harm. So where answers have become slower, but not slow
//! enough to lower the limit for that, the limit is held for some answers, then lowered for as many, and the two
//! throughputs are compared. By Little's law each is the calls in flight divided by the latency.

/// What is tried of a limit.
const SMALLER: f64 = 0.7;

/// The smaller limit is kept if its throughput is higher by this factor; the means below vary by some hundredths.
const BETTER: f64 = 1.05;

/// The fewest answers that are measured on each side.
const ANSWERS: f64 = 40.0;

/// The most round trips between two comparisons.
const PAUSE_ROUNDS: f64 = 64.0;

#[derive(Debug)]
enum Phase {
    /// No comparison for so many answers.
    Pause(f64),
    /// The limit is held.
    Larger,
    /// A smaller limit is tried in place of this one, which had this throughput.
    Smaller { limit: f64, throughput: f64 },
}

/// What the limit should become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Advice {
    /// Nothing is compared.
    None,
    /// Keep the limit as it is: a measurement is under way.
    Hold,
    /// Try this limit.
    Try(f64),
    /// The smaller limit that was tried is better than this one.
    Keep { than: f64 },
    /// The larger limit was better, and is this.
    Restore(f64),
}

/// The comparison and its sums. Latencies are milliseconds.
#[derive(Debug)]
pub(super) struct Comparison {
    phase: Phase,
    pause_rounds: f64,
    answers: f64,
    in_flight: f64,
    latency: f64,
}

impl Comparison {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Pause(0.0), pause_rounds: 1.0, answers: 0.0, in_flight: 0.0, latency: 0.0 }
    }

    /// Ends a comparison without a result, and any pause: something else changed the limit, so the server may have
    /// changed.
    pub(super) fn restart(&mut self, limit: f64) {
        self.pause_rounds = 1.0;
        self.begin(Phase::Pause(limit));
    }

    /// Takes a good answer. `is_due`: the limit is in use and answers take longer than they used to.
    pub(super) fn hear(&mut self, limit: f64, in_flight: f64, latency: f64, is_due: bool) -> Advice {
        match &mut self.phase {
            Phase::Pause(answers) if *answers > 0.0 => {
                *answers -= 1.0;
                return Advice::None;
            }
            Phase::Pause(_) if !is_due => return Advice::None,
            Phase::Pause(_) => self.begin(Phase::Larger),
            Phase::Larger | Phase::Smaller { .. } => {}
        }
        self.answers += 1.0;
        self.in_flight += in_flight;
        self.latency += latency;
        if self.answers < ANSWERS.max(limit) {
            return Advice::Hold;
        }
        let throughput = self.in_flight / self.latency;
        match self.phase {
            Phase::Smaller { limit: larger, throughput: before } => {
                let is_better = throughput > before * BETTER;
                self.pause_rounds = if is_better { 1.0 } else { (self.pause_rounds * 2.0).min(PAUSE_ROUNDS) };
                self.begin(Phase::Pause(self.pause_rounds * limit));
                if is_better { Advice::Keep { than: larger } } else { Advice::Restore(larger) }
            }
            Phase::Pause(_) | Phase::Larger => {
                self.begin(Phase::Smaller { limit, throughput });
                Advice::Try(limit * SMALLER)
            }
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        (self.answers, self.in_flight, self.latency) = (0.0, 0.0, 0.0);
    }
}
