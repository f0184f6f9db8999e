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
        // Rounding in the product must not lead beyond the cap. A draw that is no number waits longest.
        let wait = longest.as_secs_f64() * random.clamp(0.0, 1.0);
        Some(now.plus(Duration::try_from_secs_f64(wait).unwrap_or(longest).min(longest)))
    }

    /// The pause that a `Retry-After` leads to.
    pub fn pause(&self, asked: Duration) -> Duration {
        asked.min(self.retry_after_cap.0)
    }

    /// A stored time as it counts now. What lies further ahead than any wait may be was stored before the clock was set
    /// back.
    pub fn due(&self, stored: UnixMillis, now: UnixMillis) -> UnixMillis {
        stored.min(now.plus(self.cap.0.max(self.retry_after_cap.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: UnixMillis = UnixMillis(1_800_000_000_000);

    fn wait(schedule: &Schedule, tries: u32, random: f64) -> Duration {
        schedule.next(tries, START, START, random).expect("the horizon is far").since(START)
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let schedule = Schedule::default();
        for (tries, longest) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (3, 4),
            (4, 8),
            (5, 16),
            (6, 32),
            (7, 64),
            (8, 128),
            (9, 256),
            (10, 512),
            (11, 600),
            (12, 600),
            (31, 600),
            (32, 600),
            (33, 600),
            (u32::MAX, 600),
        ] {
            assert_eq!(wait(&schedule, tries, 1.0), Duration::from_secs(longest), "try {tries}");
            assert_eq!(wait(&schedule, tries, 0.5), Duration::from_millis(longest * 500), "try {tries}");
            assert_eq!(wait(&schedule, tries, 0.0), Duration::ZERO, "try {tries}");
        }
    }

    #[test]
    fn the_horizon_ends_it() {
        let schedule = Schedule::default();
        let horizon = 24 * 3_600 * 1_000;
        for (failing_for, goes_on) in [(0, true), (horizon - 1, true), (horizon, false), (horizon + 1, false)]
        {
            let now = UnixMillis(START.0 + failing_for);
            assert_eq!(schedule.next(200, START, now, 0.0), goes_on.then_some(now), "after {failing_for} ms");
        }
        let none = Schedule { horizon: Span::secs(0), ..schedule };
        assert_eq!(none.next(1, START, START, 0.0), None, "no horizon, no retry");
        let ahead = UnixMillis(START.0 + horizon);
        assert!(schedule.next(1, ahead, START, 0.0).is_some(), "a clock that jumped back kills nothing");
    }

    #[test]
    fn the_edges_of_the_settings_do_not_overflow() {
        let longest = Span(Duration::MAX);
        let endless = Schedule { base: longest, cap: longest, horizon: longest, ..Schedule::default() };
        assert_eq!(endless.next(u32::MAX, START, START, 1.0), Some(UnixMillis(u64::MAX)));
        assert_eq!(endless.next(1, START, UnixMillis(u64::MAX), 1.0), Some(UnixMillis(u64::MAX)));
        let small_cap = Schedule { base: Span::secs(60), cap: Span::secs(2), ..Schedule::default() };
        assert_eq!(wait(&small_cap, 1, 1.0), Duration::from_secs(2));
        for no_number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 2.0] {
            assert!(wait(&small_cap, 1, no_number) <= Duration::from_secs(2), "{no_number}");
        }
    }

    #[test]
    fn a_stored_time_is_never_further_ahead_than_a_wait_may_be() {
        let schedule = Schedule::default();
        let hour = Duration::from_hours(1);
        for (ahead, counts) in [(hour / 2, hour / 2), (hour, hour), (3 * hour, hour)] {
            assert_eq!(schedule.due(START.plus(ahead), START), START.plus(counts), "{ahead:?}");
        }
        assert_eq!(schedule.due(START, START.plus(hour)), START, "long due");
    }

    #[test]
    fn a_pause_is_capped() {
        let schedule = Schedule::default();
        for (asked, pause) in [(0, 0), (1, 1), (3_600, 3_600), (3_601, 3_600), (u64::MAX, 3_600)] {
            assert_eq!(schedule.pause(Duration::from_secs(asked)), Duration::from_secs(pause), "{asked}");
        }
    }

    proptest! {
        #[test]
        fn a_retry_is_never_before_now_nor_beyond_the_cap(
            base in 0..=u64::MAX, cap in 0..=u64::MAX, tries: u32, random in 0.0..1.0, now in 0..=u64::MAX / 2,
        ) {
            let schedule = Schedule { base: Span::millis(base), cap: Span::millis(cap), ..Schedule::default() };
            let now = UnixMillis(now);
            let due = schedule.next(tries, now, now, random).expect("the horizon is far");
            prop_assert!(due >= now && due.since(now) <= schedule.cap.0, "{due:?}");
        }

        #[test]
        fn the_longest_wait_never_shrinks_and_at_most_doubles(
            base in 0..10_000_u64, cap in 0..10_000_000_u64, tries in 1..200_u32,
        ) {
            let schedule = Schedule { base: Span::millis(base), cap: Span::millis(cap), ..Schedule::default() };
            let (earlier, later) = (wait(&schedule, tries, 1.0), wait(&schedule, tries + 1, 1.0));
            prop_assert!(earlier <= later && later <= 2 * earlier, "{earlier:?} {later:?}");
        }

        #[test]
        fn waits_grow_with_the_draw(tries in 1..40_u32, draws in [0.0..1.0_f64, 0.0..1.0_f64]) {
            let schedule = Schedule::default();
            let [low, high] = [draws[0].min(draws[1]), draws[0].max(draws[1])];
            prop_assert!(wait(&schedule, tries, low) <= wait(&schedule, tries, high));
        }
    }
}
