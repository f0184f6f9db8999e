//! Permits for calls: the scheduler says how many calls an organization may make to each endpoint, and whoever works on
//! an envelope takes a permit before it calls.
//!
//! Which endpoint an envelope needs is only known once it has been mapped, and mapping happens after the start. So an
//! envelope starts with a permit for the endpoint that is expected, and changes it when another one is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::PerEndpoint;
use crate::clock::UnixMillis;
use crate::wigzo::Endpoint;

/// The permits of one organization.
#[derive(Debug, Default)]
pub struct Permits {
    slots: PerEndpoint<Slot>,
    /// The last success at any endpoint, in milliseconds since 1970; 0: none is known.
    last_success: AtomicU64,
}

#[derive(Debug, Default)]
struct Slot {
    calling: AtomicUsize,
    limit: AtomicUsize,
    /// Whether the endpoint is in full use: not probed, not closed.
    is_open: AtomicBool,
}

/// No call may be made to this endpoint now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked(pub Endpoint);

/// The right to call an endpoint, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
    endpoint: Option<Endpoint>,
}

// === impl Permits ===

impl Permits {
    /// Sets how many calls to an endpoint may be made at a time.
    pub(super) fn set(&self, endpoint: Endpoint, limit: usize, is_open: bool) {
        let slot = self.slots.of(endpoint);
        slot.limit.store(limit, Ordering::Relaxed);
        slot.is_open.store(is_open, Ordering::Relaxed);
    }

    /// How many calls to an endpoint may be made at a time.
    pub(super) fn limit(&self, endpoint: Endpoint) -> usize {
        self.slots.of(endpoint).limit.load(Ordering::Relaxed)
    }

    /// Calls to an endpoint that are being made.
    pub(super) fn calling(&self, endpoint: Endpoint) -> usize {
        self.slots.of(endpoint).calling.load(Ordering::Relaxed)
    }

    /// Takes a permit for an endpoint, if one is left.
    pub(super) fn acquire(self: &Arc<Self>, endpoint: Endpoint) -> Option<Permit> {
        let slot = self.slots.of(endpoint);
        let limit = slot.limit.load(Ordering::Relaxed);
        slot.take_below(limit).then(|| Permit { permits: Arc::clone(self), endpoint: Some(endpoint) })
    }

    /// A permit for no endpoint yet.
    pub(super) fn none(self: &Arc<Self>) -> Permit {
        Permit { permits: Arc::clone(self), endpoint: None }
    }

    pub(super) fn note_success(&self, at: UnixMillis) {
        self.last_success.fetch_max(at.0, Ordering::Relaxed);
    }

    pub(super) fn last_success(&self) -> Option<UnixMillis> {
        Some(UnixMillis(self.last_success.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }

    /// What was learned of an earlier token or address does not count.
    pub(super) fn forget_success(&self) {
        self.last_success.store(0, Ordering::Relaxed);
    }
}

// === impl Slot ===

impl Slot {
    fn take_below(&self, limit: usize) -> bool {
        let more = |calling: usize| (calling < limit).then_some(calling + 1);
        self.calling.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

// === impl Permit ===

impl Permit {
    /// The endpoint that may be called.
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint
    }

    /// Changes to a permit for this endpoint. An envelope whose first calls have been made (`has_called`) need not wait
    /// where an endpoint is merely busy: what it has done already would have to be stored first.
    ///
    /// # Errors
    /// When no call may be made to it. Then the old permit is kept.
    pub fn change_to(&mut self, endpoint: Endpoint, has_called: bool) -> Result<(), Blocked> {
        if self.endpoint == Some(endpoint) {
            return Ok(());
        }
        let slot = self.permits.slots.of(endpoint);
        let is_forced = has_called && slot.is_open.load(Ordering::Relaxed);
        let limit = if is_forced { usize::MAX } else { slot.limit.load(Ordering::Relaxed) };
        if !slot.take_below(limit) {
            return Err(Blocked(endpoint));
        }
        self.release();
        self.endpoint = Some(endpoint);
        Ok(())
    }

    /// Changes to a permit for this endpoint whether or not it may be called: for the last attempt of an event.
    pub fn force(&mut self, endpoint: Endpoint) {
        let is_taken = self.permits.slots.of(endpoint).take_below(usize::MAX);
        self.release();
        self.endpoint = Some(endpoint).filter(|_| is_taken);
    }

    /// Whether any call of the organization has succeeded since then.
    pub fn has_succeeded_since(&self, then: UnixMillis) -> bool {
        self.permits.last_success().is_some_and(|at| at >= then)
    }

    fn release(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            self.permits.slots.of(endpoint).calling.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_taken_below_the_limit_and_given_back() {
        let permits = Arc::new(Permits::default());
        assert!(permits.acquire(Endpoint::Event).is_none(), "closed until somebody opens it");
        permits.set(Endpoint::Event, 1, true);
        let permit = permits.acquire(Endpoint::Event).unwrap();
        assert!(permits.acquire(Endpoint::Event).is_none());
        drop(permit);
        assert_eq!(permits.calling(Endpoint::Event), 0);
        assert!(permits.acquire(Endpoint::Event).is_some());
    }

    #[test]
    fn a_permit_changes_its_endpoint_or_stays_as_it_is() {
        let permits = Arc::new(Permits::default());
        permits.set(Endpoint::Event, 1, true);
        permits.set(Endpoint::Identify, 1, true);
        let mut permit = permits.acquire(Endpoint::Event).unwrap();
        assert_eq!(permit.change_to(Endpoint::Identify, false), Ok(()));
        assert_eq!((permits.calling(Endpoint::Event), permits.calling(Endpoint::Identify)), (0, 1));
        let mut other = permits.acquire(Endpoint::Event).unwrap();
        assert_eq!(other.change_to(Endpoint::Identify, false), Err(Blocked(Endpoint::Identify)));
        assert_eq!(other.endpoint(), Some(Endpoint::Event));
        assert_eq!(other.change_to(Endpoint::Identify, true), Ok(()), "it has begun, and is only busy");
        drop((permit, other));
        permits.set(Endpoint::Identify, 0, false);
        let mut begun = permits.acquire(Endpoint::Event).unwrap();
        assert_eq!(begun.change_to(Endpoint::Identify, true), Err(Blocked(Endpoint::Identify)), "closed");
        drop(begun);
        assert_eq!((permits.calling(Endpoint::Event), permits.calling(Endpoint::Identify)), (0, 0));
    }
}
