//! The rate limit of an organization: a token bucket, counted in calls.
//!
//! An envelope takes a token when it starts. How many calls it made is known when it ends: what exceeds one is taken
//! then, so the bucket may run into debt, which later starts pay off; an envelope that made none gives its token back.
//! The bucket holds a tenth of a second's worth, so that hardly more than the rate is made in any one second.

use std::time::Duration;

use crate::clock::UnixMillis;

/// What a call costs, in the unit of [`Bucket::level`]: at a rate in calls per second, a millisecond brings `rate`.
const CALL: i64 = 1_000;

#[derive(Debug)]
pub(super) struct Bucket {
    /// Calls per second; at least 1.
    rate: i64,
    /// Thousandths of a call.
    level: i64,
    filled_at: UnixMillis,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(rate: u32, now: UnixMillis) -> Self {
        let mut bucket = Self { rate: i64::from(rate.max(1)), level: 0, filled_at: now };
        bucket.level = bucket.capacity();
        bucket
    }

    /// Another rate from now on.
    pub(super) fn set_rate(&mut self, rate: u32) {
        self.rate = i64::from(rate.max(1));
        self.level = self.level.min(self.capacity());
    }

    fn capacity(&self) -> i64 {
        (self.rate * 100).max(CALL)
    }

    fn fill(&mut self, now: UnixMillis) {
        let elapsed = i64::try_from(now.since(self.filled_at).as_millis()).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(elapsed.saturating_mul(self.rate)).min(self.capacity());
        // A clock that jumped back must not stop the filling until it has caught up.
        self.filled_at = now;
    }

    /// Takes a token; without one, says when there will be.
    pub(super) fn take(&mut self, now: UnixMillis) -> Result<(), UnixMillis> {
        self.fill(now);
        if self.level >= CALL {
            self.level -= CALL;
            return Ok(());
        }
        let wait = (CALL - self.level + self.rate - 1) / self.rate;
        Err(now.plus(Duration::from_millis(u64::try_from(wait).unwrap_or(0))))
    }

    /// Settles the account of an envelope that has made this many calls.
    pub(super) fn settle(&mut self, calls: u32, now: UnixMillis) {
        // What could not be saved up before must not pay for them.
        self.fill(now);
        self.level = (self.level - (i64::from(calls) - 1) * CALL).min(self.capacity());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMillis = UnixMillis(1_800_000_000_000);

    fn at(ms: u64) -> UnixMillis {
        START.plus(Duration::from_millis(ms))
    }

    #[test]
    fn a_tenth_of_a_second_at_once_and_then_the_rate() {
        let mut bucket = Bucket::new(50, START);
        let taken = (0..10).take_while(|_| bucket.take(START).is_ok()).count();
        assert_eq!(taken, 5);
        assert_eq!(bucket.take(START), Err(at(20)));
        assert_eq!(bucket.take(at(19)), Err(at(20)));
        assert_eq!(bucket.take(at(20)), Ok(()));
        let in_a_second = (21..=1_020).filter(|&ms| bucket.take(at(ms)).is_ok()).count();
        assert_eq!(in_a_second, 50);
    }

    #[test]
    fn a_low_rate_still_lets_one_go() {
        let mut bucket = Bucket::new(1, START);
        assert_eq!(bucket.take(START), Ok(()));
        assert_eq!(bucket.take(at(1)), Err(at(1_000)));
        assert_eq!(bucket.take(at(60_000)), Ok(()));
        assert_eq!(bucket.take(at(60_000)), Err(at(61_000)), "a minute's rest saves up no burst");
    }

    #[test]
    fn calls_are_what_counts() {
        let mut bucket = Bucket::new(10, START);
        assert_eq!(bucket.take(START), Ok(()));
        bucket.settle(3, START);
        assert_eq!(bucket.take(START), Err(at(300)), "two calls more than were paid for");
        assert_eq!(bucket.take(at(300)), Ok(()));
        bucket.settle(0, at(300));
        assert_eq!(bucket.take(at(300)), Ok(()), "an event that makes no call costs nothing");
        bucket.settle(2, at(10_000));
        assert_eq!(
            bucket.take(at(10_000)),
            Err(at(10_100)),
            "ten seconds of rest have saved up one call, no more"
        );
    }

    #[test]
    fn a_clock_that_jumps_back_gives_nothing_away_and_stops_nothing() {
        let mut bucket = Bucket::new(1, at(10_000));
        assert_eq!(bucket.take(at(10_000)), Ok(()));
        assert_eq!(bucket.take(START), Err(at(1_000)));
        assert_eq!(bucket.take(at(1_000)), Ok(()));
    }
}
