//! The four body shapes, taken apart into items without copying a byte.
//!
//! Invariants: a body is refused as a whole only if nothing in it can be an event; an item is never looked into
//! further than to unwrap it, so a bad one cannot harm its neighbours; every slice is the sender's own bytes.
//! It must not know what makes an event valid.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Kind;
use super::raw::Raw;
use super::value::{JsonType, members_of, string_of, with_member};

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
    pub raw: Raw<'a>,
}

/// What stood around an event in its request and is needed to read it later: stored beside the event's bytes.
#[derive(Debug, Clone, Default)]
pub struct Surroundings<'a> {
    /// The type that the path implies (`/v1/track`), used where the event names none.
    pub kind: Option<Kind>,
    /// The envelope's `context`, merged under the event's own.
    pub context: Option<Raw<'a>>,
    /// The envelope's `integrations`, merged under the event's own.
    pub integrations: Option<Raw<'a>>,
    /// The envelope's `sentAt`, as text.
    pub sent_at: Option<Cow<'a, str>>,
    /// What the sender's settings say, in a form that is the ingress's affair. It may hold a token.
    pub settings: Option<Raw<'a>>,
    /// Where the request stands in a trace, in a form that is telemetry's affair.
    pub trace: Option<Cow<'a, str>>,
}

impl<'a> Surroundings<'a> {
    /// The stored form: a small JSON object with the envelope's own bytes in it, or empty when there is nothing to
    /// store.
    pub fn to_stored(&self) -> String {
        let members = [
            self.kind.map(|kind| format!(r#""kind":"{}""#, kind.as_str())),
            self.context.map(|context| format!(r#""context":{}"#, context.get())),
            self.integrations.map(|integrations| format!(r#""integrations":{}"#, integrations.get())),
            // `Value` prints a string as JSON and cannot fail.
            self.sent_at
                .as_deref()
                .map(|sent_at| format!(r#""sentAt":{}"#, serde_json::Value::from(sent_at))),
            self.settings.map(|settings| format!(r#""{SETTINGS}":{}"#, settings.get())),
            self.trace.as_deref().map(|trace| format!(r#""trace":{}"#, serde_json::Value::from(trace))),
        ];
        let members = members.into_iter().flatten().collect::<Vec<_>>().join(",");
        if members.is_empty() { members } else { format!("{{{members}}}") }
    }

    /// Reads [`Surroundings::to_stored`] back, whose values are trusted. `None` if the text is not such a form. Members that this version does
    /// not know are passed over, so that an older service can work on a newer one's queue.
    pub fn from_stored(text: &'a str) -> Option<Self> {
        let mut surroundings = Self::default();
        if text.is_empty() {
            return Some(surroundings);
        }
        for member in members_of(Raw::trusted(text))? {
            match member.name()?.as_ref() {
                "kind" => surroundings.kind = Some(Kind::parse(&string_of(member.value)?)?),
                "context" => surroundings.context = Some(only_object(member.value)?),
                "integrations" => surroundings.integrations = Some(only_object(member.value)?),
                "sentAt" => surroundings.sent_at = Some(string_of(member.value)?),
                "trace" => surroundings.trace = Some(string_of(member.value)?),
                SETTINGS => surroundings.settings = Some(only_object(member.value)?),
                _ => {}
            }
        }
        Some(surroundings)
    }

    /// The stored form as it may be shown: the token in the settings is replaced by `"***"`.
    pub fn shown(stored: Raw<'_>) -> Cow<'_, str> {
        let hide = |settings| with_member(settings, "orgToken", |_| Cow::Borrowed(r#""***""#));
        with_member(stored, SETTINGS, hide)
    }
}

/// The member that holds the settings.
const SETTINGS: &str = "settings";

/// Why a whole body cannot be taken: nothing in it is an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, cut off, or not UTF-8.
    #[error("the body is not valid JSON (line {line}, column {column})")]
    NotJson {
        /// Line where reading stopped, from 1.
        line: usize,
        /// Column (in bytes) where reading stopped, from 1.
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
        match self {
            Self::NotJson { .. } => "invalid_json",
            Self::WrongShape => "wrong_shape",
            Self::EmptyBatch => "empty_batch",
            Self::TooManyEvents { .. } => "too_many_events",
        }
    }
}

/// Takes a body apart. `limit` bounds the number of items.
///
/// # Errors
/// The body as a whole is not usable. An item that is no event is not an error here: [`super::Event::read`] finds it.
pub fn decode(body: &[u8], limit: usize) -> Result<Request<'_>, Malformed> {
    let body = without_mark(body);
    let text = std::str::from_utf8(body).map_err(|error| not_utf8(body, error.valid_up_to()))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = BodySeed { limit }
        .deserialize(&mut deserializer)
        .and_then(|parsed| deserializer.end().map(|()| parsed))
        // The first look stops at whatever it cannot use; the second says whether that was JSON at all.
        .map_err(|_| match Raw::parse(text) {
            Ok(_) => Malformed::WrongShape,
            Err(error) => Malformed::NotJson { line: error.line().max(1), column: error.column().max(1) },
        })?;
    match parsed {
        Body::Array(items) => {
            let items = items.within(limit)?.into_iter().map(unwrapped).collect();
            Ok(Request { shape: Shape::Array, items, surroundings: Surroundings::default(), write_key: None })
        }
        Body::Object { batch: Some(items), surroundings, write_key } => {
            let items = items.within(limit)?.into_iter().map(|raw| Item { raw }).collect();
            Ok(Request { shape: Shape::Batch, items, surroundings, write_key })
        }
        Body::Object { batch: None, write_key, .. } => {
            let items = vec![Item { raw: Raw::trusted(text) }];
            Ok(Request { shape: Shape::Single, items, surroundings: Surroundings::default(), write_key })
        }
    }
}

/// The body without a UTF-8 byte order mark, which a reader may ignore (RFC 8259, 8.1). What is signed is the body with it.
pub fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Where the first byte that is no UTF-8 stands, counted as the JSON reader counts: columns in bytes.
fn not_utf8(body: &[u8], valid: usize) -> Malformed {
    let before = body.get(..valid).unwrap_or_default();
    let lines = before.split(|&byte| byte == b'\n');
    let column = 1 + lines.clone().next_back().unwrap_or_default().len();
    Malformed::NotJson { line: lines.count(), column }
}

/// The event in an array's item: Extensible Webhook wraps each as `{"json": event}` (segment.md 1.5). An object
/// with any other member beside it is an event (or what the sender takes for one).
fn unwrapped(raw: Raw<'_>) -> Item<'_> {
    // Producers write the key without white space or escapes inside; this look spares every other item a pass.
    let wrapped =
        raw.get().strip_prefix('{').is_some_and(|inside| inside.trim_start().starts_with(r#""json""#));
    let members = if wrapped { members_of(raw) } else { None };
    match members.as_deref() {
        Some([only]) => Item { raw: only.value },
        _ => Item { raw },
    }
}

fn only_object(raw: Raw<'_>) -> Option<Raw<'_>> {
    (JsonType::of(raw) == JsonType::Object).then_some(raw)
}

/// The items of an array: the first ones up to the limit, and how many there were.
struct Items<'a> {
    kept: Vec<Raw<'a>>,
    found: usize,
}

impl<'a> Items<'a> {
    fn within(self, limit: usize) -> Result<Vec<Raw<'a>>, Malformed> {
        match self.found {
            0 => Err(Malformed::EmptyBatch),
            found if found > limit => Err(Malformed::TooManyEvents { found, limit }),
            _ => Ok(self.kept),
        }
    }
}

enum Body<'a> {
    Array(Items<'a>),
    Object { batch: Option<Items<'a>>, surroundings: Surroundings<'a>, write_key: Option<Cow<'a, str>> },
}

/// Reads a body in one pass: items are delimited, never built.
#[derive(Clone, Copy)]
struct BodySeed {
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for BodySeed {
    type Value = Body<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for BodySeed {
    type Value = Body<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event, an array of events, or a batch")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<Self::Value, A::Error> {
        ItemsSeed { limit: self.limit }.visit_seq(array).map(Body::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let (mut batch, mut surroundings, mut write_key) = (None, Surroundings::default(), None);
        // Keys are taken raw: one that is no Unicode text must not hide the rest of the body.
        while let Some(key) = object.next_key::<&'de RawValue>()? {
            let key = string_of(key.into()).unwrap_or_default();
            if key == "batch" {
                let items = object.next_value_seed(ItemsSeed { limit: self.limit })?;
                if batch.replace(items).is_some() {
                    return Err(A::Error::duplicate_field("batch"));
                }
                continue;
            }
            let value = Raw::from(object.next_value::<&'de RawValue>()?);
            match key.as_ref() {
                "context" => surroundings.context = only_object(value),
                "integrations" => surroundings.integrations = only_object(value),
                "sentAt" => surroundings.sent_at = string_of(value).filter(|text| !text.is_empty()),
                "writeKey" => write_key = string_of(value).filter(|text| !text.is_empty()),
                _ => {}
            }
        }
        Ok(Body::Object { batch, surroundings, write_key })
    }
}

/// Reads an array's items, keeping no more of them than the limit.
#[derive(Clone, Copy)]
struct ItemsSeed {
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for ItemsSeed {
    type Value = Items<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed {
    type Value = Items<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut items = Items { kept: Vec::new(), found: 0 };
        loop {
            if items.found < self.limit {
                let Some(item) = array.next_element::<&'de RawValue>()? else { return Ok(items) };
                items.kept.push(item.into());
            } else if array.next_element::<IgnoredAny>()?.is_none() {
                return Ok(items);
            }
            items.found += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'r>(request: &'r Request<'_>) -> Vec<&'r str> {
        request.items.iter().map(|item| item.raw.get()).collect()
    }

    /// body | shape | items
    #[test]
    fn four_shapes_are_taken_apart() {
        let table: [(&str, Shape, &[&str]); 17] = [
            (r#"{"type":"track"}"#, Shape::Single, &[r#"{"type":"track"}"#]),
            (" \r\n{\"a\" : 1.0}\t", Shape::Single, &[r#"{"a" : 1.0}"#]),
            ("{}", Shape::Single, &["{}"]),
            ("\u{feff}{}", Shape::Single, &["{}"]),
            ("\u{feff} [1]", Shape::Array, &["1"]),
            (r#"{"\ud800":1}"#, Shape::Single, &[r#"{"\ud800":1}"#]),
            (r#"[{"a":1},{"b":1}]"#, Shape::Array, &[r#"{"a":1}"#, r#"{"b":1}"#]),
            (r#"[{"json":{"a":1}},{"b":1}]"#, Shape::Array, &[r#"{"a":1}"#, r#"{"b":1}"#]),
            (r#"[{ "json" : {"a" :1} }]"#, Shape::Array, &[r#"{"a" :1}"#]),
            (r#"[{"json":{"a":1},"b":2}]"#, Shape::Array, &[r#"{"json":{"a":1},"b":2}"#]),
            (r#"[{"json":1,"json":2}]"#, Shape::Array, &[r#"{"json":1,"json":2}"#]),
            (r#"[{"body":"a=b"}]"#, Shape::Array, &[r#"{"body":"a=b"}"#]),
            ("[1,null,[],\"x\",1e400]", Shape::Array, &["1", "null", "[]", "\"x\"", "1e400"]),
            (r#"{"batch":[{"a":1},2]}"#, Shape::Batch, &[r#"{"a":1}"#, "2"]),
            (r#"{"batch":[{"json":{}}]}"#, Shape::Batch, &[r#"{"json":{}}"#]),
            (r#"{"sentAt":1,"b\u0061tch":[{}],"x":{"batch":1}}"#, Shape::Batch, &["{}"]),
            (r#"{"json":{"type":"track"}}"#, Shape::Single, &[r#"{"json":{"type":"track"}}"#]),
        ];
        for (body, shape, items) in table {
            let request = decode(body.as_bytes(), 10).unwrap();
            assert_eq!(request.shape, shape, "{body}");
            assert_eq!(texts(&request), items, "{body}");
        }
    }

    /// body | finding
    #[test]
    fn a_body_without_events_is_refused_as_a_whole() {
        let not_json = |line, column| Malformed::NotJson { line, column };
        let table: [(&[u8], Malformed); 26] = [
            (b"", not_json(1, 1)),
            (b"  ", not_json(1, 2)),
            (b"{", not_json(1, 1)),
            (b"{\"a\":1", not_json(1, 6)),
            (b"{\"a\":1,}", not_json(1, 8)),
            (b"{'a':1}", not_json(1, 2)),
            (b"[1,\n 2,]", not_json(2, 4)),
            (b"[01]", not_json(1, 3)),
            (b"[NaN]", not_json(1, 2)),
            (b"{} {}", not_json(1, 4)),
            (b"{\"batch\":[{}]}x", not_json(1, 15)),
            (b"\xef\xbb\xbf", not_json(1, 1)),
            (b"\xef\xbb\xbf\xef\xbb\xbf{}", not_json(1, 1)),
            (b"{\n \"a\":\"\xff\"}", not_json(2, 7)),
            (b"{\"a\":\"\n\"}", not_json(1, 6)),
            (b"type=track&userId=u1", not_json(1, 2)),
            (b"1", Malformed::WrongShape),
            (b"1e400", Malformed::WrongShape),
            (b"null", Malformed::WrongShape),
            (b"\"[]\"", Malformed::WrongShape),
            (b"\"\\ud800\"", Malformed::WrongShape),
            (b"{\"batch\":{}}", Malformed::WrongShape),
            (b"{\"batch\":null,\"type\":\"track\"}", Malformed::WrongShape),
            (b"{\"batch\":[{}],\"batch\":[{}]}", Malformed::WrongShape),
            (b"[]", Malformed::EmptyBatch),
            (b"{\"batch\":[]}", Malformed::EmptyBatch),
        ];
        for (body, finding) in table {
            let body_text = String::from_utf8_lossy(body);
            assert_eq!(decode(body, 10).map(|request| request.items.len()), Err(finding), "{body_text}");
        }
    }

    #[test]
    fn a_broken_end_is_found_behind_any_shape() {
        for body in ["{\"batch\":1,", "{\"batch\":[1],\"batch\":[", "[{},{},{},", "[1,2,3}"] {
            assert!(matches!(decode(body.as_bytes(), 1), Err(Malformed::NotJson { .. })), "{body}");
        }
    }

    #[test]
    fn the_limit_counts_every_item_and_keeps_none_beyond() {
        for body in ["[1,2,3]", r#"{"batch":[1,2,3]}"#] {
            assert_eq!(decode(body.as_bytes(), 3).map(|request| request.items.len()), Ok(3));
            let finding = decode(body.as_bytes(), 2).map(|_| ()).unwrap_err();
            assert_eq!(finding, Malformed::TooManyEvents { found: 3, limit: 2 });
        }
    }

    #[test]
    fn the_envelope_speaks_for_its_items() {
        let body = r#"{"writeKey":"wk_1","sentAt":"2026-01-02T03:04:06.000Z","context":{"a" : 1.0},
            "integrations":{"All":true},"messageId":"m","batch":[{"writeKey":"wk_2"}]}"#;
        let request = decode(body.as_bytes(), 1).unwrap();
        assert_eq!(request.write_key.as_deref(), Some("wk_1"));
        assert_eq!(request.surroundings.kind, None);
        assert_eq!(request.surroundings.sent_at.as_deref(), Some("2026-01-02T03:04:06.000Z"));
        assert_eq!(request.surroundings.context.map(Raw::get), Some(r#"{"a" : 1.0}"#));
        assert_eq!(request.surroundings.integrations.map(Raw::get), Some(r#"{"All":true}"#));

        let odd = br#"{"writeKey":7,"sentAt":{},"context":[],"integrations":true,"batch":[{}]}"#;
        let request = decode(odd, 1).unwrap();
        assert_eq!(request.write_key, None);
        assert_eq!(request.surroundings.to_stored(), "");

        let single = br#"{"writeKey":"wk_1","sentAt":"x","context":{},"type":"track"}"#;
        let request = decode(single, 1).unwrap();
        assert_eq!(request.write_key.as_deref(), Some("wk_1"));
        assert_eq!(request.surroundings.to_stored(), "", "a single event's fields are its own");
    }

    #[test]
    fn surroundings_survive_being_stored() {
        let raw = |text: &'static str| Some(Raw::parse(text).unwrap());
        let surroundings = Surroundings {
            kind: Some(Kind::Track),
            context: raw(r#"{"a" : 1.00,"a":"\ud800"}"#),
            integrations: raw(r#"{"All":false}"#),
            sent_at: Some(Cow::Borrowed("\"odd\"\n")),
            settings: raw(r#"{"orgToken":"hush"}"#),
            trace: Some(Cow::Borrowed("parent 00-1-2-01 a=\"b\"")),
        };
        let stored = surroundings.to_stored();
        let expected = r#"{"kind":"track","context":{"a" : 1.00,"a":"\ud800"},"integrations":{"All":false},"sentAt":"\"odd\"\n","settings":{"orgToken":"hush"},"trace":"parent 00-1-2-01 a=\"b\""}"#;
        assert_eq!(stored, expected);
        let back = Surroundings::from_stored(&stored).unwrap();
        assert_eq!(back.to_stored(), stored);
        assert_eq!(back.kind, Some(Kind::Track));
        assert_eq!(back.sent_at.as_deref(), Some("\"odd\"\n"));
        assert_eq!(back.trace, surroundings.trace);
        let shown = Surroundings::shown(raw(expected).unwrap());
        assert_eq!(shown, expected.replace("hush", "***"));
        let plain = raw(r#"{"context":{"settings":1,"orgToken":"theirs"},"orgToken":2}"#).unwrap();
        assert_eq!(Surroundings::shown(plain), plain.get(), "only our own token is hidden");
        let odd = raw(r#"{"settings":7}"#).unwrap();
        assert_eq!(Surroundings::shown(odd), odd.get());

        assert_eq!(Surroundings::default().to_stored(), "");
        assert_eq!(Surroundings::from_stored("").unwrap().to_stored(), "");
        assert!(Surroundings::from_stored(r#"{"later":1}"#).is_some(), "a newer version's member");
        for text in [
            "x",
            "[]",
            r#"{"settings":[]}"#,
            r#"{"kind":"Track"}"#,
            r#"{"kind":1}"#,
            r#"{"context":[]}"#,
            r#"{"sentAt":1}"#,
        ] {
            assert!(Surroundings::from_stored(text).is_none(), "{text}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("[{}{}]", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(decode(deep.as_bytes(), 1).map(|request| request.items.len()), Ok(1));
    }
}
