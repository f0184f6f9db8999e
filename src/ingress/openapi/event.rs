//! What a sender may post, as it is accepted: the fields of an event (segment.md 3.1, 3.2) and the four body shapes.
//!
//! The rules themselves stand in `segment`; a test below holds this table against them.

use serde_json::{Map, Value, json};

use super::super::Config;
use super::{reference, with};
use crate::segment::Kind;

/// What a field may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepts {
    /// Text, or a number that becomes its exact text.
    Id,
    Text,
    /// An object; an empty array is an empty one.
    Object,
    /// It is used if it can be, and passed over otherwise.
    Anything,
}

/// A field of an event.
struct Field {
    name: &'static str,
    /// The types that have it; on others it may be anything.
    kinds: &'static [Kind],
    accepts: Accepts,
    /// The field whose old name it is: read only where that one is absent.
    instead_of: Option<&'static str>,
    meaning: &'static str,
}

const fn field(name: &'static str, kinds: &'static [Kind], accepts: Accepts, meaning: &'static str) -> Field {
    Field { name, kinds, accepts, instead_of: None, meaning }
}

const fn old(
    name: &'static str,
    kinds: &'static [Kind],
    accepts: Accepts,
    instead_of: &'static str,
) -> Field {
    Field { name, kinds, accepts, instead_of: Some(instead_of), meaning: "" }
}

/// Every kind; a deletion has no path of its own and is taken on webhooks only.
const KINDS: [Kind; 7] =
    [Kind::Identify, Kind::Track, Kind::Page, Kind::Screen, Kind::Group, Kind::Alias, Kind::Delete];
const ALL: &[Kind] = &KINDS;
const VIEWS: &[Kind] = &[Kind::Page, Kind::Screen];
const DEEDS: &[Kind] = &[Kind::Track, Kind::Page, Kind::Screen];
const DESCRIPTIONS: &[Kind] = &[Kind::Identify, Kind::Group];

const FIELDS: &[Field] = &[
    field(
        "messageId",
        ALL,
        Accepts::Id,
        "What the event is recognised by when it is sent again; an event without it is always a new one.",
    ),
    field(
        "userId",
        ALL,
        Accepts::Id,
        "The person's id; of an alias, the id from now on. In this and every other id, what programs print for a missing value (`undefined`, `null`, zeros …) counts as absent.",
    ),
    old("to", &[Kind::Alias], Accepts::Id, "userId"),
    field("anonymousId", ALL, Accepts::Id, "The device's id."),
    old("sessionId", ALL, Accepts::Id, "anonymousId"),
    field("previousId", &[Kind::Alias], Accepts::Id, "The id that the person had before."),
    old("from", &[Kind::Alias], Accepts::Id, "previousId"),
    field("groupId", &[Kind::Group], Accepts::Id, "The account that the person belongs to."),
    field("event", &[Kind::Track], Accepts::Text, "What the person did."),
    field("name", VIEWS, Accepts::Text, "The name of the page or screen."),
    field("category", VIEWS, Accepts::Text, "The category of the page or screen."),
    field("properties", DEEDS, Accepts::Object, "What is known of it."),
    field("traits", DESCRIPTIONS, Accepts::Object, "What is known of the person or account."),
    field("context", ALL, Accepts::Object, "What stood around it; laid over the envelope's."),
    old("options", ALL, Accepts::Anything, "context"),
    field("integrations", ALL, Accepts::Object, "Which destinations it is for; laid over the envelope's."),
    field("timestamp", ALL, Accepts::Anything, "When it happened: text or a number."),
    old("originalTimestamp", ALL, Accepts::Anything, "timestamp"),
    field("sentAt", ALL, Accepts::Anything, "When it was sent: text or a number."),
    field("writeKey", ALL, Accepts::Anything, "The source key, where no header has one: text."),
];

impl Accepts {
    fn schema(self) -> Value {
        match self {
            Self::Id => json!({ "type": ["string", "number", "null"] }),
            Self::Text => json!({ "type": ["string", "null"] }),
            Self::Object => json!({ "type": ["object", "array", "null"], "maxItems": 0 }),
            Self::Anything => json!({}),
        }
    }
}

/// The name of the schema of a body: of one type where the path says which.
pub(super) fn body_name(kind: Option<Kind>) -> String {
    kind.map_or_else(|| "Body".to_owned(), |kind| format!("{}Body", capital(kind)))
}

/// The schemas of events and bodies.
pub(super) fn schemas(config: &Config) -> Map<String, Value> {
    let mut schemas = Map::new();
    for kind in KINDS {
        let name = format!("{}Event", capital(kind));
        schemas.insert(body_name(Some(kind)), body(&name, config.max_events));
        schemas.insert(name, event(kind));
    }
    let typed = KINDS.map(|kind| {
        let typed = with(reference(&format!("{}Event", capital(kind))), "required", json!(["type"]));
        with(typed, "properties", json!({ "type": { "const": kind.as_str() } }))
    });
    let about = "An event whose type is not said by the path.";
    schemas.insert("Event".to_owned(), json!({ "description": about, "anyOf": typed }));
    schemas.insert(body_name(None), body("Event", config.max_events));
    schemas
}

/// The four shapes.
fn body(event: &str, max_events: usize) -> Value {
    let list =
        |items: Value| json!({ "type": "array", "minItems": 1, "maxItems": max_events, "items": items });
    let wrapped = json!({
        "type": "object",
        "required": ["json"],
        "maxProperties": 1,
        "properties": { "json": reference(event) },
    });
    let own =
        |what: &str| json!({ "description": format!("{what} for every event under its own; an object.") });
    let envelope = json!({
        "type": "object",
        "required": ["batch"],
        "properties": {
            "batch": list(reference(event)),
            "context": own("Context"),
            "integrations": own("Destinations"),
            "sentAt": { "description": "When it was sent: text." },
            "writeKey": { "description": "The source key, where no header has one: text." },
        },
    });
    json!({ "anyOf": [reference(event), list(reference(event)), list(wrapped), envelope] })
}

/// One event.
fn event(kind: Kind) -> Value {
    let mut properties = Map::new();
    properties.insert("type".to_owned(), json!({ "enum": [kind.as_str(), null] }));
    for field in FIELDS.iter().filter(|field| field.kinds.contains(&kind)) {
        let meaning = field.instead_of.map_or_else(
            || field.meaning.to_owned(),
            |name| format!("The old name of `{name}`, read only where that is absent."),
        );
        properties.insert(field.name.to_owned(), with(field.accepts.schema(), "description", meaning.into()));
    }
    json!({ "type": "object", "properties": properties, "allOf": needs(kind) })
}

/// What an event of this type must have.
fn needs(kind: Kind) -> Vec<Value> {
    let one_of = |names: &[&str]| -> Value {
        let present = names.iter().map(|&name| {
            let id = json!({ "type": ["string", "number"], "pattern": r"\S" });
            json!({ "required": [name], "properties": { name: id } })
        });
        json!({ "anyOf": present.collect::<Vec<_>>() })
    };
    let somebody = one_of(&["userId", "anonymousId", "sessionId"]);
    match kind {
        Kind::Identify | Kind::Page | Kind::Screen => vec![somebody],
        Kind::Track => {
            let name = json!({ "type": "string", "pattern": r"\S" });
            vec![somebody, json!({ "required": ["event"], "properties": { "event": name } })]
        }
        Kind::Group => vec![somebody, one_of(&["groupId"])],
        Kind::Alias => vec![one_of(&["userId", "to"]), one_of(&["previousId", "from"])],
        Kind::Delete => vec![one_of(&["userId"])],
    }
}

/// `Track` of `track`.
fn capital(kind: Kind) -> String {
    let mut letters = kind.as_str().chars();
    letters
        .next()
        .map(|first| format!("{}{}", first.to_ascii_uppercase(), letters.as_str()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Event, Raw, Surroundings};

    /// An event that has what its type needs, but not the field `without`.
    fn minimal(kind: Kind, without: Option<&str>) -> Value {
        let mut event = json!({ "type": kind.as_str(), "userId": "u" });
        match kind {
            Kind::Track => event["event"] = "A".into(),
            Kind::Group => event["groupId"] = "g".into(),
            Kind::Alias => event["previousId"] = "p".into(),
            Kind::Identify | Kind::Page | Kind::Screen | Kind::Delete => {}
        }
        if let Some(name) = without {
            event.as_object_mut().unwrap().remove(name);
        }
        event
    }

    fn accepted(event: &Value) -> bool {
        let text = event.to_string();
        Event::read(Raw::parse(&text).unwrap(), &Surroundings::default()).is_ok()
    }

    #[test]
    fn the_reader_takes_what_is_documented_and_nothing_else() {
        for kind in KINDS {
            for field in FIELDS {
                for sample in [json!("x"), json!(1), json!(true), json!([1]), json!([]), json!({"a": 1})] {
                    let documented = match field.accepts {
                        _ if !field.kinds.contains(&kind) => true,
                        Accepts::Id => sample.is_string() || sample.is_number(),
                        Accepts::Text => sample.is_string(),
                        Accepts::Object => sample.is_object() || sample == json!([]),
                        Accepts::Anything => true,
                    };
                    let instead_of = field.instead_of.filter(|_| field.kinds.contains(&kind));
                    let mut event = minimal(kind, instead_of);
                    event[field.name] = sample;
                    assert_eq!(accepted(&event), documented, "{event}");
                }
            }
        }
    }

    #[test]
    fn the_reader_needs_what_is_documented() {
        for kind in KINDS {
            let needed: Vec<Value> = needs(kind);
            let whole = minimal(kind, None);
            assert!(accepted(&whole), "{whole}");
            for need in &needed {
                // The alternatives of one need, or its only name.
                let names: Vec<&str> = match need["anyOf"].as_array() {
                    Some(any) => any.iter().map(|one| one["required"][0].as_str().unwrap()).collect(),
                    None => vec![need["required"][0].as_str().unwrap()],
                };
                let mut event = whole.clone();
                for name in &names {
                    event.as_object_mut().unwrap().remove(*name);
                }
                assert!(!accepted(&event), "{event}");
                for name in names {
                    let mut event = event.clone();
                    event[name] = "x".into();
                    assert!(accepted(&event), "{event}");
                    for absent in [json!(null), json!(""), json!(" ")] {
                        event[name] = absent;
                        assert!(!accepted(&event), "{event}");
                    }
                }
            }
        }
    }

    #[test]
    fn null_is_absence() {
        for kind in KINDS {
            let whole = minimal(kind, None);
            for field in FIELDS.iter().filter(|field| whole.get(field.name).is_none()) {
                let mut event = whole.clone();
                event[field.name] = Value::Null;
                assert!(accepted(&event), "{event}");
            }
        }
    }
}
