//! The Segment side: what a sender may post, and what an event is.
//!
//! Pure: bytes in, borrowed views and findings out. It knows nothing of organizations, queues or Wigzo.
//!
//! Invariants:
//! * A value that is only carried is a raw slice of the request ([`Raw`]), never re-printed: numbers keep
//!   their text, strings their escapes, objects their order and their duplicate keys.
//! * Only an [`Event`] can be translated, and only [`Event::read`] makes one.
//! * A finding on customer data is a value ([`Rejection`], [`Warning`]), never an error of the program; one bad
//!   item never changes the fate of its neighbours.

mod consent;
mod decode;
mod event;
mod field;
mod finding;
mod form;
mod name;
mod object;
mod raw;
mod read;
mod signature;
mod time;
mod value;

#[cfg(test)]
mod tests;

pub use decode::{Item, Malformed, Request, Shape, Surroundings, decode, without_mark};
pub use event::{Arrival, Event, Kind, Written, message_id};
pub use finding::{Rejection, RejectionCode, Warning};
pub use form::{event_of, form_body, form_event};
pub use name::EventName;
pub use object::{Object, alike};
pub use raw::Raw;
pub use signature::signed_by;
pub use time::Moment;
pub use value::{JsonType, bool_of, items_of, present, string_of, text_of, without_key};

/// The two families of public routes. They differ in what `integrations` means (segment.md 4.2): on the tracking
/// routes it is the sender's wish and is obeyed; behind a webhook Segment has already decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// `/webhook`, `/webhook/{organization}`.
    Webhook,
    /// `/v1/…`.
    Tracking,
}

impl Route {
    /// The stable string that is stored and shown: `webhook` or `v1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Tracking => "v1",
        }
    }

    /// The inverse of [`Route::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "webhook" => Some(Self::Webhook),
            "v1" => Some(Self::Tracking),
            _ => None,
        }
    }
}
