//! The sandbox's memory, and the handle that tests, benchmarks and the HTTP side share.
//!
//! One lock over faults and ledger, held once per call and never across an await: what a rule decided and the
//! place that the call takes in the ledger belong together, else a seed would not repeat. Reading goes through
//! the ledger in pieces, so that a question about a million calls does not hold up the next call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Config;
use super::call::{Fields, Target};
use super::fault::{BadRule, Decision, Faults, Rule};
use super::filter::{Filter, Order, Page};
use super::ledger::{Counts, Ledger, RecordedCall};
use crate::clock::Clock;

/// How many calls are taken from the ledger in one go when it is read.
const PIECE: usize = 4_096;

/// A cheap handle to a sandbox: what it has seen, and what it is to do wrong.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    ledger: Ledger,
}

/// A page of calls.
#[derive(Debug)]
pub(super) struct Listing {
    /// How many kept calls match, on this page or not.
    pub(super) total: u64,
    /// Where the next page starts (its `after`), if there is one.
    pub(super) next: Option<u64>,
    pub(super) calls: Vec<Arc<RecordedCall>>,
}

impl Handle {
    pub(super) fn new(config: &Config, clock: Clock) -> Self {
        let faults = Faults::none(config.seed);
        let ledger = Ledger::keeping(config.keep_calls, config.keep_bytes.as_u64());
        Self { shared: Arc::new(Shared { clock, state: Mutex::new(State { faults, ledger }) }) }
    }

    /// The matching calls that are kept, in the order of arrival.
    pub fn calls(&self, filter: &Filter) -> Vec<RecordedCall> {
        let mut calls = Vec::new();
        self.scan(Page::default(), |call| {
            if filter.matches(call) {
                calls.push(RecordedCall::clone(call));
            }
        });
        calls
    }

    /// The counters: exact since the start or the last [`Handle::clear`], whatever is still kept.
    pub fn count(&self) -> Counts {
        self.lock().ledger.counts()
    }

    /// Replaces the fault rules and starts their randomness anew. On a mistake nothing changes.
    pub fn set_faults(&self, rules: Vec<Rule>) -> Result<(), BadRule> {
        self.lock().faults.set(rules)
    }

    /// The fault rules, `next` counted down.
    pub fn faults(&self) -> Vec<Rule> {
        self.lock().faults.rules()
    }

    /// Forgets every call and counter; numbers start at 1 again. Fault rules stay.
    pub fn clear(&self) {
        let calls = self.lock().ledger.clear();
        // Freed here, after the lock: see Ledger::clear.
        drop(calls);
    }

    /// Decides about a call and records it. `call` comes with everything but number, time and outcome;
    /// `refused` is the status that it deserves if it is not as it should be.
    pub(super) fn receive(
        &self,
        mut call: RecordedCall,
        target: &Target<'_>,
        fields: Option<&Fields<'_>>,
        refused: Option<http::StatusCode>,
    ) -> Decision {
        call.at = self.shared.clock.now();
        let mut state = self.lock();
        let decision = state.faults.decide(target, fields);
        if let Some(fate) = &decision.fate {
            call.status = fate.status().map(|status| status.as_u16());
            call.carried_out = refused.is_none() && fate.carries_out();
        } else {
            call.status = Some(refused.unwrap_or(http::StatusCode::OK).as_u16());
            call.carried_out = refused.is_none();
        }
        state.ledger.enter(call);
        decision
    }

    /// Counts a request that was no call.
    pub(super) fn misdirected(&self) {
        self.lock().ledger.misdirected();
    }

    /// A page of the matching calls, with their total.
    pub(super) fn page(&self, filter: &Filter, page: Page) -> Listing {
        let mut listing = Listing { total: 0, next: None, calls: Vec::new() };
        if filter.is_everything() {
            // The common walk through everything must not read a million calls for each page.
            listing.total = self.count().kept;
            listing.calls = self.piece(page, page.limit.saturating_add(1));
            if listing.calls.len() > page.limit {
                listing.calls.truncate(page.limit);
                listing.next = listing.calls.last().map(|call| call.number);
            }
            return listing;
        }
        self.scan(Page { after: None, ..page }, |call| {
            if !filter.matches(call) {
                return;
            }
            listing.total += 1;
            if !page.reaches(call.number) {
                return;
            }
            if listing.calls.len() < page.limit {
                listing.calls.push(Arc::clone(call));
            } else if listing.next.is_none() {
                listing.next = listing.calls.last().map(|call| call.number);
            }
        });
        listing
    }

    /// How many kept calls match.
    pub(super) fn total(&self, filter: &Filter) -> u64 {
        if filter.is_everything() {
            return self.count().kept;
        }
        let mut total = 0;
        self.scan(Page::default(), |call| total += u64::from(filter.matches(call)));
        total
    }

    /// Shows every kept call that the page reaches, whatever its limit.
    fn scan(&self, mut page: Page, mut see: impl FnMut(&Arc<RecordedCall>)) {
        loop {
            let piece = self.piece(page, PIECE);
            let Some(last) = piece.last() else { break };
            page.after = Some(last.number);
            piece.iter().for_each(&mut see);
        }
    }

    fn piece(&self, page: Page, most: usize) -> Vec<Arc<RecordedCall>> {
        let state = self.lock();
        match page.order {
            Order::Ascending => state.ledger.above(page.after.unwrap_or(0), most),
            Order::Descending => state.ledger.below(page.after.unwrap_or(u64::MAX), most),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held can only have come from a full memory; the counters are still the best
        // account there is.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
