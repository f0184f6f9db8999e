//! What holds for the whole room: real senders' requests are read, and no input does harm.

mod validation;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{
    Event, EventName, JsonType, Kind, Object, Raw, Request, Shape, Surroundings, Warning, decode, items_of,
    signed_by, string_of, text_of,
};

/// A request as it was received from a real sender.
struct Capture {
    name: String,
    headers: String,
    body: String,
}

impl Capture {
    fn read(path: &Path) -> Self {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap();
        let (headers, body) = text.split_once("\n\n").expect("a blank line ends the headers");
        // A compressed body is kept unpacked, below a line that says so.
        let body = if body.starts_with("[body below") { body.split_once('\n').unwrap().1 } else { body };
        Self { name, headers: headers.to_owned(), body: body.strip_suffix('\n').unwrap_or(body).to_owned() }
    }

    fn all() -> Vec<Self> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
        let mut paths: Vec<_> =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn signature(&self) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix("x-signature: "))
    }
}

/// capture | shape | types of its events
const CAPTURES: [(&str, Shape, &str); 20] = [
    ("sdk-analytics-next-1.84.3-alias-v1-a.txt", Shape::Single, "alias"),
    ("sdk-analytics-next-1.84.3-batch-v1-b.txt", Shape::Batch, "identify track page"),
    ("sdk-analytics-next-1.84.3-identify-v1-i.txt", Shape::Single, "identify"),
    ("sdk-analytics-next-1.84.3-page-v1-p.txt", Shape::Single, "page"),
    ("sdk-analytics-next-1.84.3-track-v1-t.txt", Shape::Single, "track"),
    ("sdk-analytics-node-3.1.0-batch.txt", Shape::Batch, "identify track page screen group alias"),
    ("sdk-analytics-node-3.1.0-third-attempt.txt", Shape::Batch, "track"),
    ("sdk-analytics-node-6.2.0-legacy-batch.txt", Shape::Batch, "track"),
    ("sdk-analytics-python-2.4.0-batch-gzip.txt", Shape::Batch, "identify track page screen group alias"),
    ("sdk-analytics-python-2.4.0-batch.txt", Shape::Batch, "identify track page screen group alias"),
    ("sdk-analytics-python-2.4.0-third-attempt.txt", Shape::Batch, "track"),
    ("sdk-rudder-node-3.0.13-batch.txt", Shape::Batch, "track"),
    ("sdk-rudder-python-2.1.9-batch.txt", Shape::Batch, "track identify"),
    ("sdk-rust-segment-0.2.6-batch.txt", Shape::Batch, "track identify"),
    ("webhook-actions-batch-signed.txt", Shape::Array, "track identify"),
    ("webhook-actions-single-signed.txt", Shape::Single, "track"),
    ("webhook-actions-single-unsigned.txt", Shape::Single, "track"),
    ("webhook-audiences-single-signed-with-extras.txt", Shape::Single, "track"),
    ("webhook-extensible-batch-signed-bearer.txt", Shape::Array, "track identify"),
    ("webhook-extensible-single-signed-bearer.txt", Shape::Single, "track"),
];

fn events<'a>(request: &Request<'a>) -> Vec<Event<'a>> {
    request.items.iter().map(|item| Event::read(item.raw, &request.surroundings).unwrap()).collect()
}

#[test]
fn every_capture_is_read() {
    let found = Capture::all();
    let names: Vec<&str> = found.iter().map(|capture| capture.name.as_str()).collect();
    assert_eq!(names, CAPTURES.map(|(name, ..)| name), "the table and the folder list the same captures");
    for (capture, (name, shape, kinds)) in found.iter().zip(CAPTURES) {
        let request = decode(capture.body.as_bytes(), 100).unwrap();
        assert_eq!(request.shape, shape, "{name}");
        let events = events(&request);
        let read: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(read.join(" "), kinds, "{name}");
        for event in &events {
            assert!(event.timestamp.is_some(), "{name}");
            let message_id_expected = name != "sdk-rust-segment-0.2.6-batch.txt";
            assert_eq!(event.message_id.is_some(), message_id_expected, "{name}");
            // The browser's alias names the visitor's own id twice (segment.md 3.2).
            let odd: &[Warning] =
                if event.kind == Kind::Alias && shape == Shape::Single { &[Warning::SelfAlias] } else { &[] };
            assert_eq!(event.warnings, odd, "{name}");
        }
        let surroundings = request.surroundings.to_stored();
        assert_eq!(Surroundings::from_stored(&surroundings).unwrap().to_stored(), surroundings, "{name}");
    }
}

/// What a batch says for all of its items lies under what each says itself.
#[test]
fn the_envelope_lies_under_its_items() {
    let body = r#"{"context":{"ip":"192.0.2.1","locale":"hi-IN"},"integrations":{"All":false,"Wigzo":true},
        "sentAt":"2026-01-02T03:05:00Z","writeKey":"wk_envelope","batch":[
        {"type":"page","userId":"u1"},
        {"type":"page","userId":"u2","context":{"ip":"203.0.113.9"},"integrations":{"Wigzo":false},
         "sentAt":"2026-01-02T04:00:00Z","writeKey":"wk_item"},
        {"type":"page","userId":"u3","context":{"locale":null},"integrations":{},"sentAt":null,"writeKey":7}]}"#;
    let request = decode(body.as_bytes(), 10).unwrap();
    assert_eq!(request.write_key.as_deref(), Some("wk_envelope"));
    let stored = request.surroundings.to_stored();
    // (person, ip, locale, wanted, sent at, key of its own)
    let table = [
        ("u1", "192.0.2.1", Some("hi-IN"), true, "2026-01-02T03:05:00Z", None),
        ("u2", "203.0.113.9", Some("hi-IN"), false, "2026-01-02T04:00:00Z", Some("wk_item")),
        ("u3", "192.0.2.1", None, true, "2026-01-02T03:05:00Z", None),
    ];
    assert_eq!(request.items.len(), table.len());
    for (item, (person, ip, locale, wanted, sent_at, key)) in request.items.iter().zip(table) {
        // On arrival, and at delivery from what was stored.
        for surroundings in [request.surroundings.clone(), Surroundings::from_stored(&stored).unwrap()] {
            let event = Event::read(item.raw, &surroundings).unwrap();
            assert_eq!(event.person(), person);
            assert_eq!(event.context.text("ip").as_deref(), Some(ip), "{person}");
            assert_eq!(event.context.text("locale").as_deref(), locale, "{person}");
            assert_eq!(event.wanted(super::Route::Tracking), wanted, "{person}");
            assert_eq!(event.sent_at.as_ref().map(|time| time.text.as_ref()), Some(sent_at), "{person}");
            assert_eq!(event.write_key.as_deref(), key, "{person}");
        }
    }
}

#[test]
fn every_signed_capture_verifies_until_a_byte_changes() {
    let found = Capture::all();
    let signed = found.iter().filter_map(|capture| Some((capture, capture.signature()?)));
    let mut count = 0;
    for (Capture { name, body, .. }, signature) in signed {
        count += 1;
        let request = decode(body.as_bytes(), 100).unwrap();
        assert!(signed_by(b"abc123", signature, body.as_bytes(), &request), "{name}");
        assert!(!signed_by(b"abc124", signature, body.as_bytes(), &request), "{name}");
        let changed = body.replacen("SKU-1", "SKU-2", 1);
        let request = decode(changed.as_bytes(), 100).unwrap();
        assert!(!signed_by(b"abc123", signature, changed.as_bytes(), &request), "{name}, changed");
    }
    assert_eq!(count, 5);
}

/// Any JSON value as text, with everything in it that a parser might be tempted to tidy up.
pub(super) fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null"),
        Just("true"),
        Just("0"),
        Just("-0.0"),
        Just("1299.00"),
        Just("1E400"),
        Just("9007199254740993001"),
        Just(r#""""#),
        Just(r#""a\/\u0062\n""#),
        Just(r#""\ud800""#),
        Just(r#"" आशा 😀""#),
        Just(r#""{\"[""#),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 5, |inner| {
        let space = prop_oneof![Just(""), Just(" "), Just("\n\t")];
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..5), space.clone())
                .prop_map(|(items, space)| format!("[{space}{}]", items.join(&format!("{space},")))),
            (prop::collection::vec((key(), inner), 0..5), space).prop_map(|(members, space)| {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("{key}{space}:{value}")).collect();
                format!("{{{}{space}}}", members.join(","))
            }),
        ]
    })
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        r#""type""#,
        r#""userId""#,
        r#""anonymousId""#,
        r#""event""#,
        r#""properties""#,
        r#""traits""#,
        r#""context""#,
        r#""integrations""#,
        r#""batch""#,
        r#""json""#,
        r#""Wigzo""#,
        r#""All""#,
        r#""timestamp""#,
        r#""messageId""#,
        r#""a""#,
        r#""\u0061""#,
        r#""\udfff""#,
        r#""""#,
    ])
}

/// An event, valid or not.
fn event() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec!["identify", "track", "page", "screen", "group", "alias", "x"]);
    (kind, prop::collection::vec((key(), json()), 0..4)).prop_map(|(kind, members)| {
        let mut text =
            format!(r#"{{"type":"{kind}","userId":"u1","event":"A","groupId":"g","previousId":"p""#);
        for (key, value) in members {
            write!(text, ",{key}:{value}").unwrap();
        }
        text + "}"
    })
}

/// Everything this room can do with a body.
fn use_all(body: &[u8], signature: &str) {
    let Ok(request) = decode(body, 50) else { return };
    assert!(!request.items.is_empty());
    signed_by(b"abc123", signature, body, &request);
    let stored = request.surroundings.to_stored();
    assert!(Surroundings::from_stored(&stored).is_some());
    for item in &request.items {
        let Ok(event) = Event::read(item.raw, &request.surroundings) else { continue };
        assert!(!event.person().is_empty());
        assert_eq!(event.kind == Kind::Track, !event.event.is_empty());
        for route in [super::Route::Webhook, super::Route::Tracking] {
            event.wanted(route);
        }
        let _ = (event.option("imageUrl"), event.title(), EventName::new(event.title()));
    }
}

/// The seeds of the fuzz targets (`fuzz/`), which an ordinary run would not touch.
#[test]
fn no_seed_does_harm() {
    let mut count = 0;
    for target in ["decode", "validate", "signature"] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        for seed in std::fs::read_dir(folder).unwrap() {
            let bytes = std::fs::read(seed.unwrap().path()).unwrap();
            use_all(&bytes, "");
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

fn raw(text: &str) -> Raw<'_> {
    Raw::parse(text).unwrap()
}

proptest! {
    #[test]
    fn no_bytes_do_harm(body in any::<Vec<u8>>(), stored in any::<String>()) {
        use_all(&body, "");
        let _ = Surroundings::from_stored(&stored);
    }

    #[test]
    fn no_json_does_harm(body in json(), signature in "[0-9a-f]{40}") {
        use_all(body.as_bytes(), &signature);
        let _ = Surroundings::from_stored(&body);
        let _ = Event::read(raw(&body), &Surroundings::default());
    }

    #[test]
    fn no_event_does_harm(events in prop::collection::vec(event(), 1..4)) {
        use_all(events[0].as_bytes(), "");
        use_all(format!("[{}]", events.join(",")).as_bytes(), "");
        use_all(format!(r#"{{"context":{},"batch":[{}]}}"#, events[0], events.join(",")).as_bytes(), "");
    }

    #[test]
    fn no_cut_does_harm(event in event(), at in any::<prop::sample::Index>()) {
        let (head, _) = event.as_bytes().split_at(at.index(event.len()));
        use_all(head, "");
        prop_assert!(decode(head, 1).is_err());
        // Stored bytes are trusted; what is left of an event is none all the same.
        let stored = String::from_utf8_lossy(head);
        prop_assert!(Event::read(Raw::trusted(&stored), &Surroundings::default()).is_err());
    }

    #[test]
    fn carried_values_keep_every_byte(values in prop::collection::vec(json(), 1..6), space in "[ \n\t]{0,2}") {
        let members: Vec<String> =
            values.iter().enumerate().map(|(index, value)| format!(r#""k{index}"{space}:{space}{value}"#)).collect();
        let text = format!(
            r#"{{"type":"track","userId":"u","event":"A","properties":{{{}}}}}"#,
            members.join(&format!("{space},"))
        );
        let body = format!("{space}[{{\"json\":{space}{text}}}]");
        let request = decode(body.as_bytes(), 1).unwrap();
        prop_assert_eq!(request.items[0].raw.get(), &text);
        let event = Event::read(request.items[0].raw, &request.surroundings).unwrap();
        let carried: Vec<&str> = event.properties.iter().map(|(_, value)| value.get()).collect();
        prop_assert_eq!(carried, values);
    }

    #[test]
    fn an_item_is_read_alike_whatever_its_neighbours(
        items in prop::collection::vec(prop_oneof![event(), json()], 1..6),
    ) {
        for body in [format!("[{}]", items.join(",")), format!(r#"{{"batch":[{}]}}"#, items.join(" ,\n"))] {
            let request = decode(body.as_bytes(), 10).unwrap();
            prop_assert_eq!(request.items.len(), items.len());
            for (item, text) in request.items.iter().zip(&items) {
                let alone = format!("[{text}]");
                let alone = match request.shape {
                    Shape::Array => decode(alone.as_bytes(), 1).unwrap().items[0].raw.get(),
                    Shape::Batch | Shape::Single => text,
                };
                prop_assert_eq!(item.raw.get(), alone);
                let among = Event::read(item.raw, &request.surroundings);
                let by_itself = Event::read(raw(alone), &Surroundings::default());
                prop_assert_eq!(format!("{among:?}"), format!("{by_itself:?}"));
            }
        }
    }

    #[test]
    fn values_agree_with_an_ordinary_reader(text in json()) {
        let value = raw(&text);
        // An ordinary reader refuses lone surrogates and numbers beyond its range; the rest it reads as we do.
        if let Ok(read) = serde_json::from_str::<serde_json::Value>(&text) {
            prop_assert_eq!(JsonType::of(value) == JsonType::Object, read.is_object());
            let string = string_of(value);
            prop_assert_eq!(string.as_deref(), read.as_str());
            prop_assert_eq!(items_of(value).map(|items| items.len()), read.as_array().map(Vec::len));
            if let (Some(object), Some(map)) = (Object::parse(value), read.as_object()) {
                for (key, expected) in map {
                    let found = object.get(key).map(|found| serde_json::from_str(found.get()).unwrap());
                    prop_assert_eq!(found.as_ref(), Some(expected).filter(|value| !value.is_null()));
                }
            }
        }
        prop_assert!(text_of(value).is_none_or(|text| !text.is_empty()));
    }
}

#[test]
fn a_shown_event_has_no_source_key_and_is_else_unchanged() {
    for (event, shown) in [
        (r#"{"type":"track", "n":1.00}"#, r#"{"type":"track", "n":1.00}"#),
        (r#"{"writeKey" : "wk_1", "n":1.00 }"#, r#"{"writeKey" : "***", "n":1.00 }"#),
        (
            r#"{"write\u004bey":"wk_1","a":{"writeKey":1},"writeKey":["wk_2"]}"#,
            r#"{"write\u004bey":"***","a":{"writeKey":1},"writeKey":"***"}"#,
        ),
        ("[1]", "[1]"),
    ] {
        assert_eq!(super::without_key(raw(event)), shown);
    }
}
