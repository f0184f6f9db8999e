//! From the end of an envelope's calls until its result is on disk: only then is it told, and does its lane go on.

use super::scheduler::{Finish, Finished, Item, News, Ticket};
use super::{Delivery, attempt, item};
use crate::clock::UnixMillis;
use crate::outcome::Reason;
use crate::queue::{Envelope, Resolution, Seq, Settlement};
use crate::telemetry::Round;
use crate::wigzo::Endpoint;

/// An envelope whose result is on its way to disk.
#[derive(Debug)]
pub(super) struct Settling {
    pub(super) ticket: Ticket,
    /// With the progress that is being recorded.
    pub(super) envelope: Envelope,
    /// When the work on it began.
    pub(super) began: UnixMillis,
    /// What is being recorded.
    pub(super) resolution: Resolution,
    /// The endpoint that it needs next, and whether that may not be called now.
    pub(super) needs: Endpoint,
    pub(super) is_blocked: bool,
    /// The span of the round, if it has one.
    pub(super) span: Option<Box<Round>>,
}

impl Delivery {
    /// Puts a result among those that the queue is given next.
    pub(super) fn settle(&mut self, settlement: Settlement, settling: Settling) {
        self.settling.insert(settlement.seq, settling);
        self.results.push(settlement);
    }

    /// Parks an event that has been held up for long enough without being tried in the meantime.
    pub(super) fn park(&mut self, ticket: Ticket, item: Item<Envelope>, now: UnixMillis) {
        let (since, needs) = (item.failing_since.unwrap_or(now), item.endpoint);
        let mut envelope = item.load;
        envelope.progress.first_failed_at.get_or_insert(since);
        let retry = &self.workshop.config.retry;
        let due = retry.next(envelope.progress.tries.max(1), since, now, fastrand::f64()).unwrap_or(now);
        let resolution = Resolution::Later { due, reason: Reason::EndpointUnavailable, parked: true };
        let settlement = Settlement::of(&envelope, resolution);
        let settling =
            Settling { ticket, envelope, began: now, resolution, needs, is_blocked: false, span: None };
        self.settle(settlement, settling);
    }

    /// Gives the queue all results at once.
    pub(super) fn hand_in(&mut self) {
        if !self.results.is_empty() {
            self.queue.settle_all(std::mem::take(&mut self.results));
        }
    }

    /// What the queue says is on disk.
    pub(super) fn settled(&mut self, settled: &[Seq]) {
        for seq in settled {
            if let Some(settling) = self.settling.remove(seq) {
                self.is_changed = true;
                self.is_on_disk(settling);
            }
        }
    }

    fn is_on_disk(&mut self, settling: Settling) {
        let Settling { ticket, mut envelope, began, resolution, needs, is_blocked, span } = settling;
        let now = self.clock.now();
        let parks = matches!(resolution, Resolution::Later { parked: true, .. });
        if parks {
            self.workshop.tell_parked(&envelope, resolution);
        } else {
            let trace_id = span.as_ref().and_then(|span| span.trace_id());
            self.workshop.tell(&envelope, resolution, now.since(began), trace_id);
        }
        if let Some(span) = span {
            span.end(attempt::told(&envelope, resolution, began));
        }
        let (finish, reason) = match resolution {
            Resolution::Ended { .. } => (Finish::Ended, None),
            Resolution::Later { due, .. } if parks || envelope.parked => (Finish::Parked(due), None),
            // The person was forgotten while it was in flight; the queue has ended it.
            Resolution::Later { .. } if self.forgotten.iter().any(|it| it.covers(&envelope)) => {
                (Finish::Ended, None)
            }
            Resolution::Later { due, reason, .. } => {
                envelope.due = Some(due);
                let item = Item { endpoint: needs, ..item(envelope) };
                (if is_blocked { Finish::Blocked(item) } else { Finish::Again(item) }, Some(reason))
            }
        };
        let finished = self.scheduler.finish(ticket, finish, News::default(), now);
        if let (Finished::Park(ticket, item), Some(reason)) = (finished, reason) {
            let envelope = item.load;
            let due = item.due.unwrap_or_default();
            let resolution = Resolution::Later { due, reason, parked: true };
            let settlement = Settlement::of(&envelope, resolution);
            let settling =
                Settling { ticket, envelope, began, resolution, needs, is_blocked: false, span: None };
            self.settle(settlement, settling);
        }
    }
}
