//! One validated event: the fields that Wigzo calls are made from, borrowed from the bytes that arrived.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{Object, Route, Surroundings};

/// The type of a Segment message (segment.md 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Who somebody is.
    Identify,
    /// What somebody did.
    Track,
    /// A page that was viewed.
    Page,
    /// An app screen that was viewed.
    Screen,
    /// The account that somebody belongs to.
    Group,
    /// Two ids of one person.
    Alias,
}

impl Kind {
    /// Every kind, in the spec's order.
    pub const ALL: [Self; 6] =
        [Self::Identify, Self::Track, Self::Page, Self::Screen, Self::Group, Self::Alias];

    /// The spec's name: `identify`, `track` …
    pub fn as_str(self) -> &'static str {
        todo!()
    }

    /// The inverse of [`Kind::as_str`]; exact, as Segment's is.
    pub fn parse(text: &str) -> Option<Self> {
        todo!()
    }
}

/// A valid Segment event.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    /// Its type.
    pub kind: Kind,
    /// The sender's `messageId`; `None` where the sender gave none (the Rust library).
    pub message_id: Option<Cow<'a, str>>,
    /// `userId` as text (a number as its exact decimal text); never empty.
    pub user_id: Option<Cow<'a, str>>,
    /// `anonymousId` likewise (or its old name `sessionId`).
    pub anonymous_id: Option<Cow<'a, str>>,
    /// `previousId` of an alias (or its old name `from`).
    pub previous_id: Option<Cow<'a, str>>,
    /// `groupId` of a group.
    pub group_id: Option<Cow<'a, str>>,
    /// The event name of a track; empty for every other kind.
    pub event: Cow<'a, str>,
    /// The `name` of a page or screen.
    pub name: Option<Cow<'a, str>>,
    /// The `category` of a page or screen.
    pub category: Option<Cow<'a, str>>,
    /// `properties` of track, page and screen.
    pub properties: Object<'a>,
    /// `traits` of identify and group; an identify without them uses `context.traits` (RudderStack's Python library).
    pub traits: Object<'a>,
    /// `context`, the envelope's merged under it.
    pub context: Object<'a>,
    /// `integrations`, the envelope's merged under it.
    pub integrations: Object<'a>,
    /// The event's own `timestamp`, else `originalTimestamp`, as it was written.
    pub timestamp: Option<Cow<'a, str>>,
    /// `sentAt` of the event, else of the envelope, as it was written.
    pub sent_at: Option<Cow<'a, str>>,
    /// What was odd but accepted.
    pub warnings: Vec<Warning>,
}

impl<'a> Event<'a> {
    /// Reads and validates the bytes of one event (segment.md 3.2 to 3.4).
    ///
    /// # Errors
    /// The first rule that the event breaks.
    pub fn read(raw: &'a RawValue, surroundings: &Surroundings<'a>) -> Result<Self, Rejection> {
        todo!()
    }

    /// The person whose order is kept: `userId`, else `anonymousId`, else (alias, group) `previousId` or `groupId`.
    pub fn person(&self) -> &str {
        todo!()
    }

    /// The event's name for people: the track event, the page's or screen's name, else empty.
    pub fn title(&self) -> &str {
        todo!()
    }

    /// Whether the event is meant for `Wigzo` (segment.md 4.1, 4.2). On [`Route::Tracking`] `integrations.Wigzo` decides
    /// (boolean as it is, anything else but null is on), then `All` (any case, default true). On [`Route::Webhook`]
    /// only an explicit `Wigzo: false` says no.
    pub fn wanted(&self, route: Route) -> bool {
        todo!()
    }

    /// A destination option by its name (`imageUrl`), from `integrations.Wigzo`, else `context.Wigzo`; the
    /// destination's name in any case (segment.md 4.5). `null` and a non-object count as absent.
    pub fn option(&self, name: &str) -> Option<&'a RawValue> {
        todo!()
    }
}

/// Why an event is refused. Codes are Segment's own where it has one (segment.md 3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The stable code.
    pub code: RejectionCode,
    /// JSON pointer (RFC 6901) to the place in the event; empty for the whole event.
    pub pointer: &'static str,
    /// What a marketer should read; never holds customer data.
    pub message: String,
}

/// The closed list of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectionCode {
    /// The item is not a JSON object.
    NotAnObject,
}

impl RejectionCode {
    /// Every code, for tables and metrics.
    pub const ALL: &'static [Self] = &[Self::NotAnObject];

    /// The stable string.
    pub fn as_str(self) -> &'static str {
        todo!()
    }
}

/// What is odd but kept (the rest of the list belongs to the conformance work).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Warning {
    /// An id came as a number; its exact text is used.
    NumericId,
}

impl Warning {
    /// The stable string.
    pub fn as_str(self) -> &'static str {
        todo!()
    }
}
