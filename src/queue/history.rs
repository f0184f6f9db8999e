//! The rate budget of the history: which delivered events are recorded in full.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::UnixMillis;

/// A token bucket per organization that fills at the budget's rate and holds one second's worth.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: u32,
    buckets: HashMap<Arc<str>, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Thousandths of a record.
    level: u64,
    filled_at: UnixMillis,
}

/// Buckets of organizations that have long been quiet are full anyway; forgetting them costs nothing.
const MAX_BUCKETS: usize = 10_000;

impl Budget {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, buckets: HashMap::new() }
    }

    /// Whether one more record of this organization may be in full.
    pub(super) fn spend(&mut self, organization: &Arc<str>, now: UnixMillis) -> bool {
        let capacity = u64::from(self.per_second) * 1_000;
        if !self.buckets.contains_key(organization) {
            if self.buckets.len() >= MAX_BUCKETS {
                self.buckets.clear();
            }
            self.buckets.insert(Arc::clone(organization), Bucket { level: capacity, filled_at: now });
        }
        let Some(bucket) = self.buckets.get_mut(organization) else { return false };
        let elapsed = now.0.saturating_sub(bucket.filled_at.0).min(1_000);
        bucket.level = (bucket.level + elapsed * u64::from(self.per_second)).min(capacity);
        bucket.filled_at = now;
        if bucket.level < 1_000 {
            return false;
        }
        bucket.level -= 1_000;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_and_refills() {
        let mut budget = Budget::new(2);
        let (acme, other) = (Arc::from("acme"), Arc::from("other"));
        let at = |ms: u64| UnixMillis(1_000_000 + ms);
        assert_eq!([0, 0, 0].map(|ms| budget.spend(&acme, at(ms))), [true, true, false]);
        assert!(budget.spend(&other, at(0)), "one organization's budget is not another's");
        assert_eq!([499, 500, 900, 1_000].map(|ms| budget.spend(&acme, at(ms))), [false, true, false, true]);
        assert!(!budget.spend(&acme, at(0)), "a clock that jumps back gives nothing away");
        assert!(!Budget::new(0).spend(&acme, at(0)), "no budget, no record in full");
    }
}
