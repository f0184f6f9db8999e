//! The rate budget of the history: which delivered events are recorded in full.
//!
//! Each organization has a budget of its own, and all together have one: a thousand organizations with little traffic each
//! would otherwise have every event recorded in full, at the price of everybody's throughput. When less than half of the
//! common budget is left the own ones shrink with it, all alike, so that whoever sends less than that still has everything
//! in full.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::UnixMillis;

/// A token bucket per organization and one for all; each holds one second's worth.
#[derive(Debug)]
pub(super) struct Budget {
    each_per_second: u32,
    all_per_second: u32,
    each: HashMap<Arc<str>, Bucket>,
    all: Bucket,
}

#[derive(Debug)]
struct Bucket {
    /// Millionths of a record.
    level: u64,
    filled_at: UnixMillis,
}

/// A record, and the whole of a share.
const ONE: u64 = 1_000_000;

/// Buckets of organizations that have long been quiet are full anyway; forgetting them costs nothing.
const MAX_BUCKETS: usize = 10_000;

impl Budget {
    pub(super) fn new(each_per_second: u32, all_per_second: u32) -> Self {
        let all = Bucket::full(all_per_second, UnixMillis(0));
        Self { each_per_second, all_per_second, each: HashMap::new(), all }
    }

    /// Whether one more record of this organization may be in full.
    pub(super) fn spend(&mut self, organization: &Arc<str>, now: UnixMillis) -> bool {
        let each = self.each_per_second;
        if !self.each.contains_key(organization) {
            if self.each.len() >= MAX_BUCKETS {
                self.each.clear();
            }
            self.each.insert(Arc::clone(organization), Bucket::full(each, now));
        }
        let Some(own) = self.each.get_mut(organization) else { return false };
        self.all.fill(self.all_per_second, ONE, now);
        // The whole rate while half of the common budget is left.
        let share = (2 * self.all.level).checked_div(u64::from(self.all_per_second)).unwrap_or(0).min(ONE);
        own.fill(each, share, now);
        if own.level < ONE || self.all.level < ONE {
            return false;
        }
        own.level -= ONE;
        self.all.level -= ONE;
        true
    }
}

impl Bucket {
    fn full(per_second: u32, now: UnixMillis) -> Self {
        Self { level: u64::from(per_second) * ONE, filled_at: now }
    }

    /// Fills it for the time that has passed, at this share of its rate (of [`ONE`]).
    fn fill(&mut self, per_second: u32, share: u64, now: UnixMillis) {
        let elapsed = now.0.saturating_sub(self.filled_at.0).min(1_000);
        let gained = elapsed * u64::from(per_second) * share / 1_000;
        self.level = (self.level + gained).min(u64::from(per_second) * ONE);
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: u32 = 1_000_000;

    #[test]
    fn a_budget_is_spent_and_refills() {
        let mut budget = Budget::new(2, PLENTY);
        let (acme, other) = (Arc::from("acme"), Arc::from("other"));
        let at = |ms: u64| UnixMillis(1_000_000 + ms);
        assert_eq!([0, 0, 0].map(|ms| budget.spend(&acme, at(ms))), [true, true, false]);
        assert!(budget.spend(&other, at(0)), "one organization's budget is not another's");
        assert_eq!([499, 500, 900, 1_000].map(|ms| budget.spend(&acme, at(ms))), [false, true, false, true]);
        assert!(!budget.spend(&acme, at(0)), "a clock that jumps back gives nothing away");
        assert!(!Budget::new(0, PLENTY).spend(&acme, at(0)), "no budget, no record in full");
        assert!(!Budget::new(2, 0).spend(&acme, at(0)), "no budget for all, no record in full");
        let mut greatest = Budget::new(u32::MAX, u32::MAX);
        assert!([0, 1, 5_000].into_iter().all(|ms| greatest.spend(&acme, at(ms))), "nothing overflows");
    }

    #[test]
    fn all_together_have_a_budget() {
        let mut budget = Budget::new(50, 100);
        let organizations: Vec<Arc<str>> = (0..10).map(|n| Arc::from(format!("shop{n}"))).collect();
        let at = UnixMillis(1_000_000);
        let spent = (0..50)
            .flat_map(|_| &organizations)
            .filter(|organization| budget.spend(organization, at))
            .count();
        assert_eq!(spent, 100);
    }

    /// A hundred organizations want sixty records a second each, one wants one: five a second are left for each of them.
    #[test]
    fn whoever_sends_little_keeps_everything_when_it_runs_short() {
        let mut budget = Budget::new(50, 500);
        let busy: Vec<Arc<str>> = (0..100).map(|n| Arc::from(format!("busy{n}"))).collect();
        let quiet: Arc<str> = Arc::from("quiet");
        let mut in_full = HashMap::<Arc<str>, u32>::new();
        for ms in 0..60_000_u64 {
            let now = UnixMillis(1_000_000 + ms);
            let mut counted = |organization: &Arc<str>| {
                let counts = budget.spend(organization, now) && ms >= 30_000;
                *in_full.entry(Arc::clone(organization)).or_default() += u32::from(counts);
            };
            for (n, organization) in busy.iter().enumerate() {
                if (ms + n as u64) * 60 % 1_000 < 60 {
                    counted(organization);
                }
            }
            if ms % 1_000 == 0 {
                counted(&quiet);
            }
        }
        assert_eq!(in_full.get(&quiet), Some(&30), "all of the last half minute");
        for organization in &busy {
            let count = in_full.get(organization).copied().unwrap_or(0);
            assert!((120..=180).contains(&count), "{organization}: {count} in 30 s");
        }
    }
}
