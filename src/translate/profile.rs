//! Profiles: translation tables as data.
//!
//! A profile's text is TOML (`config/profiles/standard.toml` explains the keys). It is parsed once into a table
//! that needs no further check: every row has a name, no name has two rows, every shape and field exists. A mistake
//! is reported with its line and with what would be right.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use toml::Spanned;

use super::Contactless;
use super::field::Field;
use super::shape::Shape;
use crate::segment::{Event, EventName};

/// Stands in a call's `event` for the track event's name as it was sent.
const AS_SENT: &str = "{event}";

static STANDARD: LazyLock<Arc<Profile>> = LazyLock::new(|| {
    let text = include_str!("../../config/profiles/standard.toml");
    Arc::new(Profile::parse("standard", text).expect("BUG: a test parses every built-in profile"))
});

/// A validated translation table.
#[derive(Debug)]
pub struct Profile {
    pub(super) contactless: Contactless,
    pub(super) page: Vec<CallRule>,
    pub(super) screen: Vec<CallRule>,
    pub(super) group: Vec<CallRule>,
    pub(super) alias: Vec<CallRule>,
    rows: HashMap<EventName, Arc<[CallRule]>>,
    otherwise: Vec<CallRule>,
}

/// One call of a row.
#[derive(Debug)]
pub(super) struct CallRule {
    /// The Wigzo event name.
    pub(super) name: WigzoName,
    /// How the value is made.
    pub(super) value: Shape,
    /// What the event must have besides.
    pub(super) requires: Vec<Field>,
}

/// The name of a Wigzo event.
#[derive(Debug)]
pub(super) enum WigzoName {
    /// The track event's name, unchanged: merchants' templates address events by it (wigzo.md 6.1).
    AsSent,
    /// Always this one.
    Fixed(String),
}

/// What is wrong in a profile's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("profile {profile}, line {line}: {message}")]
pub struct ProfileError {
    /// The profile's name.
    pub profile: String,
    /// Line of the mistake, from 1.
    pub line: usize,
    /// What is wrong and which values would be right.
    pub message: String,
}

// === the text ===

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileText {
    identify: IdentifyText,
    page: KindText,
    screen: KindText,
    group: KindText,
    alias: KindText,
    track: TrackText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentifyText {
    contactless: Contactless,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KindText {
    calls: Vec<CallText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrackText {
    otherwise: Vec<CallText>,
    #[serde(default)]
    row: Vec<Spanned<RowText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RowText {
    object: Option<Spanned<String>>,
    action: Option<Spanned<String>>,
    #[serde(default)]
    names: Vec<Spanned<String>>,
    calls: Vec<CallText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallText {
    event: Spanned<String>,
    value: Shape,
    #[serde(default)]
    requires: Vec<Field>,
}

/// A name that a row answers to, as it was written and where.
type Named = (EventName, String, Range<usize>);

/// A mistake, before its place is known as a line.
type Mistake = (Range<usize>, String);

// === impl Profile ===

impl Profile {
    /// The names of the built-in profiles.
    pub const BUILTIN: &'static [&'static str] = &["standard"];

    /// A profile that is built into the binary; `None` if there is none of this name.
    pub fn builtin(name: &str) -> Option<&'static Arc<Self>> {
        match name {
            "standard" => Some(&STANDARD),
            _ => None,
        }
    }

    /// Parses and checks a profile's TOML; `name` is for the error.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let checked = toml::from_str(text)
            .map_err(|error| (error.span().unwrap_or_default(), error.message().to_owned()))
            .and_then(Self::check);
        checked.map_err(|(place, message)| {
            let line = 1 + text.bytes().take(place.start).filter(|byte| *byte == b'\n').count();
            ProfileError { profile: name.to_owned(), line, message }
        })
    }

    /// The calls for a track event of this name.
    pub(super) fn track(&self, name: &str) -> &[CallRule] {
        self.rows.get(&EventName::new(name)).map_or(&self.otherwise, |rules| rules)
    }

    fn check(text: ProfileText) -> Result<Self, Mistake> {
        let mut rows = HashMap::new();
        for row in text.track.row {
            let place = row.span();
            let row = row.into_inner();
            let names = row.event_names(&place)?;
            let rules: Arc<[CallRule]> = rules(row.calls, true)?.into();
            for (name, spelling, place) in names {
                if rows.insert(name, Arc::clone(&rules)).is_some() {
                    let message = format!("the event name {spelling:?} is in the table already");
                    return Err((place, message));
                }
            }
        }
        Ok(Self {
            contactless: text.identify.contactless,
            page: rules(text.page.calls, false)?,
            screen: rules(text.screen.calls, false)?,
            group: rules(text.group.calls, false)?,
            alias: rules(text.alias.calls, false)?,
            rows,
            otherwise: rules(text.track.otherwise, true)?,
        })
    }
}

// === impl RowText ===

impl RowText {
    /// The names that this row answers to.
    fn event_names(&self, row: &Range<usize>) -> Result<Vec<Named>, Mistake> {
        let mut names = Vec::new();
        match (&self.object, &self.action) {
            (Some(object), Some(action)) => {
                not_empty(object)?;
                not_empty(action)?;
                let spelling = format!("{} {}", object.get_ref(), action.get_ref());
                for name in EventName::spellings(object.get_ref(), action.get_ref()) {
                    names.push((name, spelling.clone(), object.span()));
                }
            }
            (None, None) if !self.names.is_empty() => {}
            _ => {
                let message =
                    "a row needs `object` and `action` (\"product\", \"viewed\"), or `names`, or both";
                return Err((row.clone(), message.to_owned()));
            }
        }
        for name in &self.names {
            not_empty(name)?;
            names.push((EventName::new(name.get_ref()), name.get_ref().clone(), name.span()));
        }
        Ok(names)
    }
}

// === helpers ===

/// Checks a list of calls; only a track event has a name that can be sent on.
fn rules(calls: Vec<CallText>, named: bool) -> Result<Vec<CallRule>, Mistake> {
    calls
        .into_iter()
        .map(|call| {
            not_empty(&call.event)?;
            let place = call.event.span();
            let name = match call.event.into_inner() {
                name if name == AS_SENT && named => WigzoName::AsSent,
                name if name == AS_SENT => {
                    let message =
                        format!("only a track event has a name for \"{AS_SENT}\"; write a Wigzo event name");
                    return Err((place, message));
                }
                name if name.contains(['{', '}']) => {
                    let message =
                        format!("unknown placeholder in {name:?}; the only one is \"{AS_SENT}\", alone");
                    return Err((place, message));
                }
                name => WigzoName::Fixed(name),
            };
            Ok(CallRule { name, value: call.value, requires: call.requires })
        })
        .collect()
}

fn not_empty(text: &Spanned<String>) -> Result<(), Mistake> {
    if text.get_ref().trim().is_empty() {
        return Err((text.span(), "a name must not be empty".to_owned()));
    }
    Ok(())
}

// === impl WigzoName ===

impl WigzoName {
    /// The name for this event.
    pub(super) fn of<'e>(&'e self, event: &'e Event<'_>) -> &'e str {
        match self {
            Self::AsSent => &event.event,
            Self::Fixed(name) => name,
        }
    }
}
