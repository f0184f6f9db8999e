//! The retry schedule: when an envelope that failed is tried again. Pure; time and randomness are arguments.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Span, UnixMillis};

/// `[delivery.retry]`: waits between the tries of an event.
///
/// The wait before try n is random between nothing and base · 2ⁿ, at most the cap ("full jitter"), so that a
/// thousand events which failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// The longest wait before the first retry; it doubles with each one.
    pub base: Span,
    /// The longest wait between two tries.
    pub cap: Span,
    /// An event that has kept failing for this long becomes a dead letter.
    pub horizon: Span,
    /// The longest pause that a `Retry-After` of Wigzo's may ask for.
    pub retry_after_cap: Span,
    /// How often a soft failure (2xx whose body says otherwise) is retried before the event becomes a dead letter.
    pub soft_failures: u32,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            base: Span::secs(1),
            cap: Span::secs(600),
            horizon: Span::secs(24 * 3_600),
            retry_after_cap: Span::secs(3_600),
            soft_failures: 5,
        }
    }
}

impl Schedule {
    /// When an event that has now failed `tries` times (at least once) is tried again; `None` when it has failed for
    /// the whole horizon. `random` is drawn uniformly from 0 to 1.
    pub fn next(
        &self,
        tries: u32,
        first_failed_at: UnixMillis,
        now: UnixMillis,
        random: f64,
    ) -> Option<UnixMillis> {
        if now.since(first_failed_at) >= self.horizon.0 {
            return None;
        }
        let doublings = tries.saturating_sub(1).min(31);
        let longest = self.base.0.saturating_mul(1 << doublings).min(self.cap.0);
        Some(now.plus(longest.mul_f64(random.clamp(0.0, 1.0))))
    }

    /// The pause that a `Retry-After` leads to.
    pub fn pause(&self, asked: Duration) -> Duration {
        asked.min(self.retry_after_cap.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMillis = UnixMillis(1_800_000_000_000);

    #[test]
    fn waits_double_up_to_the_cap() {
        let schedule = Schedule::default();
        for (tries, longest) in
            [(1, 1), (2, 2), (3, 4), (10, 512), (11, 600), (12, 600), (4_000_000_000, 600)]
        {
            let at = |random| schedule.next(tries, START, START, random).unwrap().since(START);
            assert_eq!(at(1.0), Duration::from_secs(longest), "try {tries}");
            assert_eq!(at(0.5), Duration::from_millis(longest * 500), "try {tries}");
            assert_eq!(at(0.0), Duration::ZERO, "try {tries}");
        }
    }

    #[test]
    fn the_horizon_ends_it() {
        let schedule = Schedule::default();
        let day = Duration::from_secs(24 * 3_600);
        assert!(schedule.next(200, START, START.plus(day - Duration::from_millis(1)), 1.0).is_some());
        assert_eq!(schedule.next(200, START, START.plus(day), 0.0), None);
        assert!(
            schedule.next(1, START.plus(day), START, 0.0).is_some(),
            "a clock that jumped back kills nothing"
        );
    }
}
