//! The hand-over: freshly committed envelopes reach delivery in memory, without being read back.
//!
//! Invariants:
//! * Bounded: what does not fit is only noted by its number; delivery then reads it from the queue.
//! * Per organization, envelopes are handed over in commit order, and none after one that was only noted until
//!   delivery has been told of it: so delivery never sees a gap without knowing that it is one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::{Envelope, Seq};

/// The place where the queue's writer and delivery meet.
#[derive(Debug)]
pub struct Fresh {
    waiting: Mutex<Arrivals>,
    arrived: Notify,
    max_bytes: usize,
}

/// What has been committed since delivery last looked.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Envelopes in commit order.
    pub envelopes: Vec<Envelope>,
    /// People to forget: organization, lane, and the number before which nothing of theirs may be worked any more.
    pub forgotten: Vec<Forgotten>,
    /// Envelopes that are settled on disk, of those that nobody waits for ([`Engine::settle_all`](super::Engine::settle_all)).
    pub settled: Vec<Seq>,
    /// Organizations with envelopes that are in the queue only, with the newest number among them.
    pub unread: HashMap<Arc<str>, Seq>,
    bytes: usize,
}

/// A person to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The organization.
    pub organization: Arc<str>,
    /// The person.
    pub lane: Box<str>,
    /// Only envelopes with smaller numbers.
    pub upto: Seq,
}

impl Forgotten {
    /// Whether an envelope is one of those.
    pub fn covers(&self, envelope: &Envelope) -> bool {
        envelope.seq < self.upto
            && envelope.content.lane == self.lane
            && envelope.content.organization == self.organization
    }
}

impl Fresh {
    /// An empty hand-over that holds at most `max_bytes` of envelopes.
    pub fn new(max_bytes: usize) -> Self {
        Self { waiting: Mutex::default(), arrived: Notify::new(), max_bytes }
    }

    /// Hands over what a commit has brought: people to forget, envelopes in their order, and what is settled.
    pub fn hand_over(
        &self,
        forgotten: Vec<Forgotten>,
        envelopes: impl IntoIterator<Item = Envelope>,
        settled: Vec<Seq>,
    ) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.forgotten.extend(forgotten);
        waiting.settled.extend(settled);
        for envelope in envelopes {
            let size = envelope.content.size();
            let organization = &envelope.content.organization;
            if waiting.bytes + size > self.max_bytes || waiting.unread.contains_key(organization) {
                let organization = Arc::clone(organization);
                waiting.unread.insert(organization, envelope.seq);
            } else {
                waiting.bytes += size;
                waiting.envelopes.push(envelope);
            }
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Notes that an organization has envelopes in the queue up to `latest`.
    pub fn note(&self, organization: Arc<str>, latest: Seq) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = waiting.unread.entry(organization).or_default();
        *noted = latest.max(*noted);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Takes everything that has arrived.
    pub fn take(&self) -> Arrivals {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something may have arrived. Safe to drop and call again.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
