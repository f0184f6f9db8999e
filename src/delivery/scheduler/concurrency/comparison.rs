//! Whether fewer calls at a time would bring more answers.
//!
//! A server may answer more slowly with each further call it works on, and so do less in total: latency alone does not
//! tell that from a queue in front of it, which does no harm. So where answers have become slower, but not slow
//! enough to lower the limit for that, the limit is held for some answers, lowered for as many, and raised again for as
//! many. The lower one is kept if its throughput was higher than both before and after it. By Little's law a throughput
//! is the calls in flight divided by the latency.

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
    Smaller { larger: f64, throughput: f64 },
    /// The larger limit is held again. The smaller one, and the throughputs of both.
    LargerAgain { smaller: f64, throughput: f64, before: f64 },
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
    /// This limit is better than the other one, the present.
    Keep { limit: f64, than: f64 },
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
            Phase::Larger | Phase::Smaller { .. } | Phase::LargerAgain { .. } => {}
        }
        self.answers += 1.0;
        self.in_flight += in_flight;
        self.latency += latency;
        if self.answers < ANSWERS.max(limit) {
            return Advice::Hold;
        }
        let throughput = self.in_flight / self.latency;
        match self.phase {
            Phase::Pause(_) | Phase::Larger => {
                self.begin(Phase::Smaller { larger: limit, throughput });
                Advice::Try(limit * SMALLER)
            }
            Phase::Smaller { larger, throughput: before } => {
                self.begin(Phase::LargerAgain { smaller: limit, throughput, before });
                Advice::Try(larger)
            }
            Phase::LargerAgain { smaller, throughput: of_smaller, before } => {
                let is_better = of_smaller > throughput.max(before) * BETTER;
                self.pause_rounds = if is_better { 1.0 } else { (self.pause_rounds * 2.0).min(PAUSE_ROUNDS) };
                self.begin(Phase::Pause(self.pause_rounds * limit));
                if is_better { Advice::Keep { limit: smaller, than: limit } } else { Advice::None }
            }
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        (self.answers, self.in_flight, self.latency) = (0.0, 0.0, 0.0);
    }
}
