//! The golden tables of `tests/golden/`, the captured requests of real senders, and properties of any event.
//!
//! A golden file is a list of cases: `== title`, options as `% word`, the events as `< json`, then what each of them
//! becomes, `> endpoint body` per call or `! reason`. Several events in one case are spellings of one thing: all
//! become the same. A file that differs from what the code does fails with the whole text as it would be now.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::{Contactless, EngageTrack, Filtered, Identity, Options, Profile, Translation, translate};
use crate::segment::{Event, Surroundings, decode};
use crate::wigzo::Endpoint;

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file)
}

pub(super) fn options() -> Options {
    Options {
        identity: Identity::UserFirst,
        link_anonymous: true,
        contactless: None,
        engage_track: EngageTrack::Both,
        namespace: "org-token-42".to_owned(),
    }
}

fn with(word: &str) -> Options {
    match word {
        "no_link" => Options { link_anonymous: false, ..options() },
        "anonymous_first" => Options { identity: Identity::AnonymousFirst, ..options() },
        "raw" => Options { identity: Identity::Raw, ..options() },
        "skip" => Options { contactless: Some(Contactless::Skip), ..options() },
        "engage_event" => Options { engage_track: EngageTrack::Event, ..options() },
        "engage_identify" => Options { engage_track: EngageTrack::Identify, ..options() },
        "skip_engage_identify" => Options { contactless: Some(Contactless::Skip), ..with("engage_identify") },
        other => panic!("unknown option {other:?}"),
    }
}

fn standard() -> &'static Profile {
    Profile::builtin("standard").unwrap()
}

/// An event of a golden file or a property test, translated.
pub(super) fn translated(json: &str, options: &Options) -> Translation {
    let raw: &RawValue = serde_json::from_str(json).unwrap();
    let event = Event::read(raw, &Surroundings::default()).unwrap_or_else(|why| panic!("{json}: {why:?}"));
    translate(&event, standard(), options)
}

fn written(translation: &Translation) -> String {
    match translation {
        Translation::Calls(calls) => calls.iter().fold(String::new(), |mut out, call| {
            let endpoint = format!("{:?}", call.endpoint).to_lowercase();
            assert_eq!(call.name.is_some(), call.endpoint == Endpoint::Event);
            serde_json::from_str::<&RawValue>(&call.body).expect("a body is JSON");
            writeln!(out, "> {endpoint} {}", call.body).unwrap();
            out
        }),
        Translation::Filtered(reason) => format!("! {reason:?}\n"),
    }
}

/// What a golden file should be, given what the code does.
fn as_it_would_be(text: &str) -> String {
    let mut out = String::new();
    let mut options = options();
    let mut result: Option<String> = None;
    for line in text.lines() {
        match line.split_at_checked(2) {
            Some(("> " | "! ", _)) => continue,
            Some(("==", _)) => options = self::options(),
            Some(("% ", word)) => options = with(word),
            Some(("< ", json)) => {
                let now = written(&translated(json, &options));
                assert_eq!(result.get_or_insert_with(|| now.clone()), &now, "spellings differ: {json}");
            }
            _ => out += &result.take().unwrap_or_default(),
        }
        out += line;
        out.push('\n');
    }
    out + &result.unwrap_or_default()
}

fn assert_golden(path: &Path, now: &str) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text == now, "{} differs; as it would be now:\n{now}", path.display());
}

#[test]
fn the_golden_tables_of_standard_hold() {
    for family in ["page", "identify", "products", "cart", "orders", "engage", "other"] {
        let path = golden(&format!("golden/standard/{family}.txt"));
        assert_golden(&path, &as_it_would_be(&std::fs::read_to_string(&path).unwrap()));
    }
}

#[test]
fn captured_requests_become_the_expected_calls() {
    let mut files: Vec<_> =
        std::fs::read_dir(golden("captures")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut now = String::from("# What the captured requests of real senders become, item by item.\n");
    for file in files {
        writeln!(now, "\n== {}", file.file_name().unwrap().display()).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        // The body is the last line; a line in brackets before it says how it was shown.
        let body = text.lines().rfind(|line| !line.is_empty()).unwrap();
        let request = decode(body.as_bytes(), 1000).unwrap();
        for item in &request.items {
            match Event::read(item.raw, &request.surroundings) {
                Ok(event) => now += &written(&translate(&event, standard(), &options())),
                Err(rejection) => writeln!(now, "! {:?}", rejection.code).unwrap(),
            }
        }
    }
    assert_golden(&golden("golden/standard/captures.txt"), &now);
}

#[test]
fn nobody_to_send_it_for() {
    let raw: &RawValue = serde_json::from_str(r#"{"type":"track","event":"e","userId":"user-42"}"#).unwrap();
    let mut event = Event::read(raw, &Surroundings::default()).unwrap();
    event.user_id = None;
    assert_eq!(translate(&event, standard(), &options()), Translation::Filtered(Filtered::NoLearnerId));
}

#[test]
fn every_builtin_profile_is_there() {
    for name in Profile::BUILTIN {
        assert!(Profile::builtin(name).is_some(), "{name}");
    }
    assert!(Profile::builtin("Standard").is_none());
}

/// A whole profile with one text in the place of another.
fn broken(good: &str, bad: &str) -> String {
    const SMALL: &str = r#"[identify]
contactless = "send"
[page]
calls = [{ event = "view", value = "page" }]
[screen]
calls = []
[group]
calls = []
[alias]
calls = []
[track]
otherwise = [{ event = "{event}", value = "properties" }]
[[track.row]]
object = "product"
action = "viewed"
calls = [{ event = "product_view", value = "product", requires = ["product_id"] }]
[[track.row]]
names = ["Noise"]
calls = []
"#;
    assert!(SMALL.contains(good), "{good}");
    SMALL.replacen(good, bad, 1)
}

#[test]
fn mistakes_in_a_profile_are_reported_with_their_line_and_the_remedy() {
    for (good, bad, line, words) in [
        ("contactless = \"send\"", "contactless = \"maybe\"", 2, &["maybe", "`send`", "`skip`"][..]),
        ("value = \"page\"", "value = \"pages\"", 4, &["pages", "`properties`", "`list_url`", "`order`"]),
        ("event = \"view\"", "event = \"{event}\"", 4, &["only a track event"]),
        ("event = \"view\"", "event = \"\"", 4, &["must not be empty"]),
        ("event = \"{event}\"", "event = \"x {event}\"", 12, &["placeholder", "{event}"]),
        ("[\"product_id\"]", "[\"sku\"]", 16, &["sku", "`product_id`", "`order_id`"]),
        ("requires", "needs", 16, &["needs", "`requires`"]),
        ("action = \"viewed\"\n", "", 13, &["`object` and `action`"]),
        ("names = [\"Noise\"]\n", "", 17, &["`names`"]),
        ("[\"Noise\"]", "[\"viewed_product\"]", 18, &["viewed_product", "already"]),
        ("[\"Noise\"]", "[\" \"]", 18, &["must not be empty"]),
        ("[group]\ncalls = []\n", "", 1, &["group"]),
        ("[group]", "[groups]", 7, &["groups", "`group`"]),
        ("[group]", "[group", 7, &[]),
    ] {
        let error = Profile::parse("mine", &broken(good, bad)).expect_err(bad);
        assert_eq!(error.line, line, "{error}");
        assert!(error.to_string().starts_with(&format!("profile mine, line {line}: ")), "{error}");
        for word in words {
            assert!(error.message.contains(word), "{word} in {error}");
        }
    }
}

#[test]
fn a_row_without_calls_drops_its_event() {
    let profile = Profile::parse("mine", &broken("", "")).unwrap();
    let raw: &RawValue =
        serde_json::from_str(r#"{"type":"track","event":"noise","userId":"user-42"}"#).unwrap();
    let event = Event::read(raw, &Surroundings::default()).unwrap();
    assert_eq!(translate(&event, &profile, &options()), Translation::Filtered(Filtered::DroppedByProfile));
}

// === properties of any event ===

/// JSON text of any value, three levels deep, with numbers that no machine type holds.
pub(super) fn any_value() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any_number(),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just("\"\"".to_owned()),
        Just("\"asha@shop.example\"".to_owned()),
    ];
    scalar.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((any_key(), inner), 0..4).prop_map(|members| object(&members)),
        ]
    })
}

fn any_number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,4})?"
}

/// Keys that some shape reads, in several spellings, and any other.
pub(super) fn any_key() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 30] = [
        "product_id",
        "productId",
        "id",
        "products",
        "price",
        "quantity",
        "url",
        "title",
        "canonicalUrl",
        "name",
        "query",
        "order_id",
        "total",
        "subtotal",
        "email",
        "phone",
        "phones",
        "address",
        "city",
        "zip",
        "userId",
        "source",
        "is_active",
        "first_name",
        "createdAt",
        "category",
        "list_id",
        "sku",
        "variant",
        "coupon",
    ];
    prop_oneof![3 => prop::sample::select(&KNOWN[..]).prop_map(str::to_owned), 1 => any::<String>()]
}

pub(super) fn object(members: &[(String, String)]) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(key, value)| format!("{}:{value}", serde_json::to_string(key).unwrap()))
        .collect();
    format!("{{{}}}", members.join(","))
}

pub(super) fn any_members() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec((any_key(), any_value()), 0..8)
}

const NAMES: [&str; 13] = [
    "Product Viewed",
    "Product Clicked",
    "Product Added",
    "Product Removed",
    "Product Added to Wishlist",
    "Products Searched",
    "Product List Viewed",
    "Product Reviewed",
    "Checkout Started",
    "Order Completed",
    "Order Cancelled",
    "Anything",
    "é",
];

pub(super) fn any_head() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(&NAMES[..]).prop_map(|name| format!(r#""type":"track","event":"{name}""#)),
        Just(r#""type":"page","name":"Home""#.to_owned()),
        Just(r#""type":"identify""#.to_owned()),
        Just(r#""type":"screen""#.to_owned()),
    ]
}

/// Any event; the members stand as properties and as traits, at top level and in the context.
fn event(head: &str, members: &[(String, String)]) -> String {
    let members = object(members);
    format!(
        r#"{{{head},"userId":"user-42","anonymousId":"anon-7","properties":{members},"traits":{members},"context":{{"traits":{members},"page":{members},"Wigzo":{members}}}}}"#
    )
}

proptest! {
    #[test]
    fn any_event_is_translated_and_always_alike(head in any_head(), members in any_members()) {
        let json = event(&head, &members);
        let once = translated(&json, &options());
        written(&once);
        prop_assert_eq!(once, translated(&json, &options()));
    }

    #[test]
    fn numbers_keep_their_text(number in any_number()) {
        let members = [("n".to_owned(), number.clone())];
        for head in [r#""type":"track","event":"Anything""#, r#""type":"page""#, r#""type":"identify""#] {
            let Translation::Calls(calls) = translated(&event(head, &members), &options()) else {
                panic!("no calls");
            };
            prop_assert!(calls[0].body.contains(&format!("\"n\":{number}")), "{}", calls[0].body);
        }
        let order = format!(r#"{{"type":"track","event":"Order Completed","userId":"u","properties":{{"order_id":1,"total":{number}}}}}"#);
        let (order, total) = (written(&translated(&order, &options())), format!("\"total_price\":{number}"));
        prop_assert!(order.contains(&total), "{}", order);
    }

    #[test]
    fn an_unknown_property_changes_no_other_field(head in any_head(), members in any_members(), value in any_value()) {
        const UNKNOWN: &str = "zz unknown 7";
        let before = written(&translated(&event(&head, &members), &options()));
        let mut more = members.clone();
        more.push((UNKNOWN.to_owned(), value.clone()));
        let after = written(&translated(&event(&head, &more), &options()));
        let member = format!("\"{UNKNOWN}\":{value}");
        // With the comma before it, after it (a page writes its own fields behind), or alone in its object.
        let without = [format!(",{member}"), format!("{member},"), member]
            .iter()
            .fold(after, |text, part| text.replace(part, ""));
        prop_assert_eq!(before, without);
    }
}
