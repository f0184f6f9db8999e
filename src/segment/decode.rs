//! The four body shapes, taken apart into items without copying a byte.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::Kind;

/// Which of the four accepted shapes a body has (segment.md 0, rule 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One event object.
    Single,
    /// A bare array of events, or of `{"json": event}` (decided item by item).
    Array,
    /// The libraries' envelope `{"batch": [...]}`.
    Batch,
}

/// A decoded body: its items, and what the envelope says for all of them.
#[derive(Debug)]
pub struct Request<'a> {
    /// The shape that was found.
    pub shape: Shape,
    /// The items in their order; never empty.
    pub items: Vec<Item<'a>>,
    /// The envelope's `context`, `integrations` and `sentAt`.
    pub surroundings: Surroundings<'a>,
    /// The envelope's (or the single event's) `writeKey`.
    pub write_key: Option<Cow<'a, str>>,
}

/// One item of a body: the event's exact bytes, unwrapped from `{"json": …}` where it was.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The bytes that are stored and later translated.
    pub raw: &'a RawValue,
}

/// What stood around an event in its request and is needed to read it later: stored beside the event's bytes.
#[derive(Debug, Clone, Default)]
pub struct Surroundings<'a> {
    /// The type that the path implies (`/v1/track`), used where the event names none.
    pub kind: Option<Kind>,
    /// The envelope's `context`, merged under the event's own.
    pub context: Option<&'a RawValue>,
    /// The envelope's `integrations`, merged under the event's own.
    pub integrations: Option<&'a RawValue>,
    /// The envelope's `sentAt`, as text.
    pub sent_at: Option<Cow<'a, str>>,
}

impl<'a> Surroundings<'a> {
    /// The stored form: a small JSON object, or empty when there is nothing to store.
    pub fn to_stored(&self) -> String {
        todo!()
    }

    /// Reads [`Surroundings::to_stored`] back. `None` if the text is not such a form.
    pub fn from_stored(text: &'a str) -> Option<Self> {
        todo!()
    }
}

/// Why a whole body cannot be taken: nothing in it is an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, cut off, or not UTF-8.
    #[error("the body is not valid JSON (line {line}, column {column})")]
    NotJson {
        /// Line of the first byte that does not fit, from 1.
        line: usize,
        /// Column of it, from 1.
        column: usize,
    },
    /// JSON, but neither an object nor an array, or `batch` is not an array.
    #[error("the body is neither an event, an array of events, nor an object with a \"batch\" array")]
    WrongShape,
    /// An array or a batch without items.
    #[error("the batch holds no event")]
    EmptyBatch,
    /// More items than allowed.
    #[error("the batch holds {found} events; at most {limit} are accepted in one request")]
    TooManyEvents {
        /// Items in the body.
        found: usize,
        /// The limit that was given.
        limit: usize,
    },
}

impl Malformed {
    /// The stable code: `invalid_json`, `wrong_shape`, `empty_batch` (Segment's own, segment.md 3.4), `too_many_events`.
    pub fn code(&self) -> &'static str {
        todo!()
    }
}

/// Takes a body apart. `limit` bounds the number of items.
pub fn decode(body: &[u8], limit: usize) -> Result<Request<'_>, Malformed> {
    todo!()
}
