//! The top-level fields of an event that are understood. What else an event has is not looked at.

use super::raw::Raw;

/// Declares the top-level fields that are understood, each with its key.
macro_rules! fields {
    ($($field:ident = $key:literal),+ $(,)?) => {
        /// A top-level field that is understood.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Field { $($field),+ }

        impl Field {
            /// How many there are; `field as usize` is less.
            pub(super) const COUNT: usize = [$(Self::$field),+].len();

            /// The field with this key.
            pub(super) fn of(key: &str) -> Option<Self> {
                match key {
                    $($key => Some(Self::$field),)+
                    _ => None,
                }
            }

            /// Its key.
            pub(super) fn key(self) -> &'static str {
                match self { $(Self::$field => $key),+ }
            }

            /// Its JSON pointer. (No key of ours needs an escape of RFC 6901.)
            pub(super) fn pointer(self) -> &'static str {
                match self { $(Self::$field => concat!("/", $key)),+ }
            }
        }
    };
}

fields! {
    Type = "type",
    MessageId = "messageId",
    UserId = "userId",
    To = "to",
    AnonymousId = "anonymousId",
    SessionId = "sessionId",
    PreviousId = "previousId",
    From = "from",
    GroupId = "groupId",
    Event = "event",
    Name = "name",
    Category = "category",
    Properties = "properties",
    Traits = "traits",
    Context = "context",
    Options = "options",
    Integrations = "integrations",
    Timestamp = "timestamp",
    OriginalTimestamp = "originalTimestamp",
    SentAt = "sentAt",
    WriteKey = "writeKey",
}

/// What stands in a field: its last value, and whether there is another one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Filled<'a> {
    pub(super) last: Option<Raw<'a>>,
    pub(super) twice: bool,
}
