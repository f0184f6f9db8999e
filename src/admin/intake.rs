//! An event that comes in over the private side: put into its envelope as the public side would.

use std::sync::Arc;

use crate::clock::UnixMillis;
use crate::queue::{DedupKey, NewEnvelope, SourceRoute};
use crate::segment::{Event, Route};

/// How and when an event came, and as what bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came<'a> {
    pub(super) organization: &'a str,
    pub(super) route: Route,
    pub(super) message_id: &'a str,
    pub(super) received_at: UnixMillis,
    pub(super) payload: &'a str,
    pub(super) surroundings: &'a str,
}

impl Came<'_> {
    /// Puts it into its envelope.
    pub(super) fn envelope(self, event: &Event<'_>) -> NewEnvelope {
        // The route of arrival as deduplication knows it; of a webhook the stored record does not hold the address.
        let source_route = match self.route {
            Route::Tracking => "/v1",
            Route::Webhook => "/webhook",
        };
        NewEnvelope {
            route: self.route.as_str().into(),
            key: DedupKey::new(self.organization, SourceRoute::new(source_route), self.message_id),
            message_id: self.message_id.into(),
            lane: event.person().into(),
            kind: event.kind.as_str().into(),
            title: event.title().into(),
            received_at: self.received_at,
            payload: self.payload.into(),
            surroundings: self.surroundings.into(),
            forgets: false,
            organization: Arc::from(self.organization),
        }
    }
}
