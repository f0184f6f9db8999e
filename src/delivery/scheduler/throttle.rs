//! `Retry-After`: pauses that Wigzo asks for, for one endpoint of an organization.
//!
//! Invariants:
//! * A pause is obeyed to its end and only ever prolonged; an operator or a changed address ends it.
//! * A single answer among many successes asks for its own event only: that event waits, the others go on. Each
//!   [`SUCCESSES`] successes outweigh one such answer. Where nothing has succeeded lately, the first one pauses.

use crate::clock::UnixMillis;

/// Successes that outweigh one `Retry-After`.
const SUCCESSES: u32 = 4;

/// Answers with `Retry-After` that may be outweighed in a row.
const OUTWEIGHED: u32 = 2;

/// The pauses of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    until: Option<UnixMillis>,
    /// Successes that still count, at most [`SUCCESSES`] × [`OUTWEIGHED`].
    successes: u32,
}

impl Throttle {
    /// The end of the pause, if there is one.
    pub(super) fn until(&self) -> Option<UnixMillis> {
        self.until
    }

    pub(super) fn note_success(&mut self) {
        self.successes = (self.successes + 1).min(SUCCESSES * OUTWEIGHED);
    }

    /// Wigzo asks for a pause. Returns its end if it is a new one.
    pub(super) fn ask(&mut self, until: UnixMillis, now: UnixMillis) -> Option<UnixMillis> {
        if until <= now {
            return None;
        }
        if self.until.is_none() && self.successes >= SUCCESSES {
            self.successes -= SUCCESSES;
            return None;
        }
        self.successes = 0;
        if self.until.is_some_and(|earlier| until <= earlier) {
            return None;
        }
        self.until = Some(until);
        self.until
    }

    pub(super) fn wake(&mut self, now: UnixMillis) {
        self.until = self.until.filter(|&until| until > now);
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    #[test]
    fn the_first_answer_pauses_and_only_prolongs() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.ask(UnixMillis(5_000), NOW), Some(UnixMillis(5_000)));
        assert_eq!(throttle.ask(UnixMillis(4_000), NOW), None);
        throttle.note_success();
        assert_eq!(throttle.ask(UnixMillis(6_000), NOW), Some(UnixMillis(6_000)));
        throttle.wake(UnixMillis(5_999));
        assert_eq!(throttle.until(), Some(UnixMillis(6_000)));
        throttle.wake(UnixMillis(6_000));
        assert_eq!(throttle.until(), None);
        assert_eq!(throttle.ask(NOW, NOW), None, "no wait is no pause");
    }

    #[test]
    fn single_ones_among_successes_do_not_pause() {
        let mut throttle = Throttle::default();
        for round in 0..10 {
            for _ in 0..20 {
                throttle.note_success();
            }
            assert_eq!(throttle.ask(UnixMillis(5_000), NOW), None, "{round}");
        }
        assert_eq!(throttle.ask(UnixMillis(5_000), NOW), None, "a second one in a row");
        assert_eq!(throttle.ask(UnixMillis(5_000), NOW), Some(UnixMillis(5_000)), "the third one");
    }
}
