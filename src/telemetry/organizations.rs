//! Outcomes by organization, for a bounded number of them: the most active have series of their own, the rest share one.
//!
//! Invariants:
//! * No series goes back. An outcome is counted where its organization belongs at that moment, so `_other` keeps what it
//!   has when one of its organizations gets a series; that one starts at zero, and is gone when others are more active.
//! * Counting takes a shared lock and no allocation, however many organizations there are.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::outcome::Outcome;

/// The name under which organizations are shown that have none of their own.
pub const OTHERS: &str = "_other";

/// The name under which all partners are shown: there may be as many as there are tokens.
pub const PARTNERS: &str = "_partners";

/// How long an organization keeps its series at least: those that come and go are of no use.
const TERM: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    organization: String,
    outcome: &'static str,
}

/// A counter for each outcome.
type Counters = [Counter; Outcome::ALL.len()];

/// The counters, and who has which.
#[derive(Debug)]
pub(super) struct ByOrganization {
    most: usize,
    pub(super) family: Family<Labels, Counter>,
    others: Counters,
    elected: Mutex<Instant>,
    known: RwLock<HashMap<Box<str>, Known>>,
}

#[derive(Debug)]
struct Known {
    /// Outcomes of late; halved at each election.
    recent: AtomicU64,
    /// Its own counters, if it has any.
    counters: Option<Counters>,
}

impl ByOrganization {
    /// So many organizations have counters of their own at most.
    pub(super) fn new(most: usize) -> Self {
        let family = Family::default();
        let elected = Mutex::new(Instant::now());
        Self { most, others: counters(&family, OTHERS), family, elected, known: RwLock::default() }
    }

    /// Counts an outcome.
    pub(super) fn count(&self, organization: &str, outcome: Outcome) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = known.get(organization) {
            it.recent.fetch_add(1, Ordering::Relaxed);
            add(it.counters.as_ref().unwrap_or(&self.others), outcome);
            return;
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let has_room = known.values().filter(|it| it.counters.is_some()).count() < self.most;
        let counters = has_room.then(|| counters(&self.family, organization));
        add(counters.as_ref().unwrap_or(&self.others), outcome);
        known.insert(organization.into(), Known { recent: AtomicU64::new(1), counters });
    }

    /// Decides anew who has counters of their own, unless that was done within the last minute.
    pub(super) fn elect_if_due(&self, now: Instant) {
        let mut elected = self.elected.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(*elected) >= TERM {
            *elected = now;
            self.elect();
        }
    }

    /// Those with the most outcomes of late have counters of their own.
    fn elect(&self) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut ranked: Vec<_> = known
            .iter_mut()
            .map(|(name, it)| {
                let recent = it.recent.get_mut();
                let was = *recent;
                *recent /= 2;
                (Reverse(was), name, &mut it.counters)
            })
            .collect();
        if self.most < ranked.len() {
            ranked.select_nth_unstable_by(self.most, |one, other| (one.0, one.1).cmp(&(other.0, other.1)));
        }
        for (place, (_, name, own)) in ranked.into_iter().enumerate() {
            if place < self.most {
                own.get_or_insert_with(|| counters(&self.family, name));
            } else if own.take().is_some() {
                for outcome in Outcome::ALL {
                    self.family.remove(&labels(name, *outcome));
                }
            }
        }
    }
}

fn labels(organization: &str, outcome: Outcome) -> Labels {
    Labels { organization: organization.to_owned(), outcome: outcome.as_str() }
}

fn counters(family: &Family<Labels, Counter>, organization: &str) -> Counters {
    std::array::from_fn(|place| {
        let outcome = Outcome::ALL.get(place).copied().unwrap_or(Outcome::Dead);
        family.get_or_create_owned(&labels(organization, outcome))
    })
}

fn add(counters: &Counters, outcome: Outcome) {
    let place = Outcome::ALL.iter().position(|it| *it == outcome);
    if let Some(counter) = place.and_then(|place| counters.get(place)) {
        counter.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(by: &ByOrganization, organization: &str) -> Option<u64> {
        by.family.get(&labels(organization, Outcome::Delivered)).map(|counter| counter.get())
    }

    #[test]
    fn the_most_active_have_series_and_no_series_goes_back() {
        let by = ByOrganization::new(2);
        let count = |name, times| (0..times).for_each(|_| by.count(name, Outcome::Delivered));
        count("early", 1);
        count("steady", 10);
        count("late", 50);
        assert_eq!(
            ["early", "steady", "late", OTHERS].map(|it| shown(&by, it)),
            [Some(1), Some(10), None, Some(50)]
        );
        by.elect();
        assert_eq!(
            ["early", "steady", "late", OTHERS].map(|it| shown(&by, it)),
            [None, Some(10), Some(0), Some(50)]
        );
        count("early", 3);
        count("late", 4);
        assert_eq!(
            ["early", "steady", "late", OTHERS].map(|it| shown(&by, it)),
            [None, Some(10), Some(4), Some(53)]
        );
        // What was long ago counts ever less.
        for _ in 0..10 {
            count("early", 1);
            by.elect();
        }
        assert!(shown(&by, "early").is_some());
        assert_eq!(by.family.get(&labels("early", Outcome::Dead)).map(|it| it.get()), Some(0));
    }

    #[test]
    fn thousands_of_organizations_are_as_many_series_as_a_few() {
        let by = ByOrganization::new(20);
        for number in 0..5_000 {
            by.count(&format!("organization-{number}"), Outcome::Dead);
        }
        by.elect();
        let named =
            (0..5_000).filter(|number| shown(&by, &format!("organization-{number}")).is_some()).count();
        assert_eq!(named, 20);
        let others = by.family.get(&labels(OTHERS, Outcome::Dead)).unwrap().get();
        assert_eq!(others, 4_980);
    }
}
