//! What may be found about an event: the closed lists of refusals and of oddities, each with a stable code.
//!
//! Codes are Segment's own where it has one (segment.md 3.4). They appear in replies, metrics, logs and the console,
//! and never change once released. No finding holds customer data.

/// Why an event is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The stable code.
    pub code: RejectionCode,
    /// JSON pointer (RFC 6901) to the place in the event; empty for the whole event.
    pub pointer: &'static str,
    /// What a marketer should read; never holds customer data.
    pub message: String,
}

impl Rejection {
    pub(super) fn new(code: RejectionCode, pointer: &'static str, message: impl Into<String>) -> Self {
        Self { code, pointer, message: message.into() }
    }
}

/// A closed list of findings: each variant with its stable code and its meaning, which is also its documentation.
macro_rules! findings {
    ($(#[$about:meta])* $list:ident: $($variant:ident, $code:literal, $meaning:literal;)+) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $list {
            $(#[doc = $meaning] $variant,)+
        }

        impl $list {
            /// Every one, for tables and metrics.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable code.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            /// One sentence for people.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)+
                }
            }
        }
    };
}

findings! {
    /// The closed list of refusals.
    RejectionCode:
    NotAnObject, "not_an_object", "The item is not a JSON object.";
    TooDeep, "too_deep", "Objects and arrays are nested more than 128 levels deep.";
    DuplicateKey, "duplicate_key", "A field that must be read occurs twice; which one is meant cannot be known.";
    InvalidUnicode, "invalid_unicode", "A key or a field that must be read is not valid Unicode text.";
    UnsupportedEventType, "unsupported_event_type", "The type is missing or none of the supported event types.";
    TypeMismatch, "type_mismatch", "The event's type is not the one that the address it was sent to stands for.";
    NoUserAnonId, "no_user_anon_id", "Neither userId nor anonymousId says whose event this is.";
    IdNotString, "id_not_string", "An id is neither text nor a number.";
    UserIdRequired, "user_id_required", "An alias has no userId.";
    PreviousIdRequired, "previous_id_required", "An alias has no previousId.";
    GroupIdRequired, "group_id_required", "A group event has no groupId.";
    EventNotDefined, "event_not_defined", "A track event has no event name.";
    EventNotString, "event_not_string", "The event name is not text.";
    NameNotString, "name_not_string", "The name of a page or screen is not text.";
    CategoryNotString, "category_not_string", "The category of a page or screen is not text.";
    PropertiesNotObject, "properties_not_object", "The properties are not an object.";
    TraitsNotObject, "traits_not_object", "The traits are not an object.";
    ContextNotObject, "context_not_object", "The context is not an object.";
    IntegrationsNotObject, "integrations_not_object", "The integrations are not an object.";
    MessageIdNotString, "message_id_not_string", "The messageId is neither text nor a number.";
    ConsentCategoryPreferencesShouldExist, "consent_categorypreferences_should_exist",
        "A consent event has no category preferences.";
    ConsentCategoryPreferencesShouldBeObject, "consent_categorypreferences_should_be_object",
        "The category preferences of a consent event are not an object.";
    ConsentCategoryPreferencesFieldsShouldBeBool, "consent_categorypreferences_fields_should_be_bool",
        "A category preference of a consent event is neither true nor false.";
    ConsentVersionShouldBeNumber, "consent_version_should_be_number",
        "The consent version of a consent event is not a number.";
    DeviceAdvertisingIdShouldBeString, "device_advertisingid_should_be_string",
        "The advertising id in a consent event is not text.";
}

findings! {
    /// What is odd but kept.
    Warning:
    NumericId, "numeric_id", "An id came as a number; its exact text is used.";
    EmptyId, "empty_id", "An id is empty text or white space and counts as absent.";
    PlaceholderId, "placeholder_id", "An id is what programs print for a missing value (undefined, null, zeros …) and counts as absent.";
    EmptyArray, "empty_array", "An empty array stands where an object is expected and counts as an empty object.";
    EmptyName, "empty_name", "The name or category of a page or screen is empty text and counts as absent.";
    LongMessageId, "long_message_id", "The messageId is longer than 100 characters.";
    UnreadableTime, "unreadable_time", "A time cannot be read, so it is not corrected; one that is neither text nor a number counts as absent.";
    SelfAlias, "self_alias", "The two ids of an alias are the same; there is nothing to join.";
    UnknownContext, "unknown_context", "A member of the context that is read here has another JSON type than the spec's; what cannot be read of it counts as absent.";
}

impl Warning {
    /// What to do about it, in one sentence.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NumericId => "Send ids as text.",
            Self::EmptyId => "Leave the id out where there is none.",
            Self::PlaceholderId => {
                "Leave the id out while the user is unknown, instead of what a program prints for it."
            }
            Self::EmptyArray => "Send an empty object, or leave the member out.",
            Self::EmptyName => "Send a name, or leave it out.",
            Self::LongMessageId => "Send a messageId of at most 100 characters.",
            Self::UnreadableTime => "Send times in the form 2026-01-02T03:04:05.678Z.",
            Self::SelfAlias => "Send an alias only when the id changes.",
            Self::UnknownContext => {
                "Send the members of context in the types that Segment's spec gives them."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_fit_for_labels() {
        let codes: Vec<&str> = RejectionCode::ALL
            .iter()
            .map(|code| code.as_str())
            .chain(Warning::ALL.iter().map(|warning| warning.as_str()))
            .collect();
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), codes.len());
        for code in codes {
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
        }
    }
}
