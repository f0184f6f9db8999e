//! The golden tables of `tests/golden/`, the captured requests of real senders, and properties of any event.
//!
//! A golden file is a list of cases: `== title`, options as `% word`, the way in as `% direct`, the events as `< json`, then what each of them
//! becomes, `> endpoint body` per call or `! reason`. Several events in one case are spellings of one thing: all
//! become the same. A file that differs from what the code does fails with the whole text as it would be now.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

mod changes;
mod classic;
mod laws;
mod mistakes;
mod people;
mod rows;
mod tables;

use super::{
    Contactless, EngageTrack, ExtraTraits, Filtered, Identity, Layer, Mapping, NameStyle, NestedTraits,
    Options, Profile, translate,
};
use crate::segment::{Arrival, Event, Moment, Object, Raw, Route, Surroundings, decode, items_of};
use crate::wigzo::{Call, Endpoint};

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file)
}

fn options() -> Options {
    Options { identity: Identity::UserFirst, namespace: "org-token-42".to_owned() }
}

/// A table, and what else an organization chose.
pub(super) struct Setup {
    profile: Profile,
    options: Options,
}

/// A built-in profile with changes.
fn with_changes(profile: &str, changes: &Mapping) -> Setup {
    let profile = Profile::builtin(profile).unwrap().changed(changes, Layer::Organization).unwrap();
    Setup { profile, options: options() }
}

/// The profile `standard` with changes.
pub(super) fn standard_with(changes: &Mapping) -> Setup {
    with_changes("standard", changes)
}

fn standard() -> Setup {
    standard_with(&Mapping::default())
}

/// `standard` with the option of a golden file.
fn with(word: &str) -> Setup {
    let skip = Mapping { contactless: Some(Contactless::Skip), ..Mapping::default() };
    let identity = |identity| Setup { options: Options { identity, ..options() }, ..standard() };
    let engage = |engage_track, others| Mapping { engage_track: Some(engage_track), ..others };
    match word {
        "no_link" => standard_with(&Mapping { link_anonymous: Some(false), ..Mapping::default() }),
        "anonymous_first" => identity(Identity::AnonymousFirst),
        "raw" => identity(Identity::Raw),
        "skip" => standard_with(&skip),
        "engage_event" => standard_with(&engage(EngageTrack::Event, Mapping::default())),
        "engage_identify" => standard_with(&engage(EngageTrack::Identify, Mapping::default())),
        "skip_engage_identify" => standard_with(&engage(EngageTrack::Identify, skip)),
        other => panic!("unknown option {other:?}"),
    }
}

/// When every event of these tests arrived, and how: behind a webhook, unless the golden file says `% direct`.
fn arrival(route: Route) -> Arrival {
    Arrival { route, received_at: Moment::of_text("2026-01-02T03:05:10Z").unwrap().millis() }
}

/// An event of a golden file or a property test, translated.
pub(super) fn translated(json: &str, setup: &Setup) -> Result<Vec<Call>, Filtered> {
    arrived(Route::Webhook, json, setup)
}

fn arrived(route: Route, json: &str, setup: &Setup) -> Result<Vec<Call>, Filtered> {
    let event = Event::read(Raw::parse(json).unwrap(), &Surroundings::default())
        .unwrap_or_else(|why| panic!("{json}: {why:?}"));
    translate(&event, arrival(route), &setup.profile, &setup.options).into_calls()
}

fn written(translated: &Result<Vec<Call>, Filtered>) -> String {
    match translated {
        Ok(calls) => calls.iter().fold(String::new(), |mut out, call| {
            let endpoint = format!("{:?}", call.endpoint).to_lowercase();
            assert_eq!(call.name.is_some(), call.endpoint == Endpoint::Event);
            Raw::parse(&call.body).expect("a body is JSON");
            writeln!(out, "> {endpoint} {}", call.body).unwrap();
            out
        }),
        Err(reason) => format!("! {reason:?}\n"),
    }
}

/// What a golden file should be, given what the code does.
fn as_it_would_be(text: &str) -> String {
    let mut out = String::new();
    let (mut setup, mut route) = (standard(), Route::Webhook);
    let mut result: Option<String> = None;
    for line in text.lines() {
        match line.split_at_checked(2) {
            Some(("> " | "! ", _)) => continue,
            Some(("==", _)) => (setup, route) = (standard(), Route::Webhook),
            Some(("% ", "direct")) => route = Route::Tracking,
            Some(("% ", word)) => setup = with(word),
            Some(("< ", json)) => {
                let now = written(&arrived(route, json, &setup));
                assert_eq!(result.get_or_insert_with(|| now.clone()), &now, "spellings differ: {json}");
            }
            _ => out += &result.take().unwrap_or_default(),
        }
        out += line;
        out.push('\n');
    }
    out + &result.unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "a test asks whether it should write")]
fn assert_golden(path: &Path, now: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, now).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let hint = "as it would be now (UPDATE_GOLDEN=1 writes it)";
    assert!(text == now, "{} differs; {hint}:\n{now}", path.display());
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
        let direct = text.starts_with("POST /v1/");
        let arrival = arrival(if direct { Route::Tracking } else { Route::Webhook });
        for item in &request.items {
            match Event::read(item.raw, &request.surroundings) {
                Ok(event) => {
                    let setup = standard();
                    let translation = translate(&event, arrival, &setup.profile, &setup.options);
                    now += &written(&translation.into_calls());
                }
                Err(rejection) => writeln!(now, "! {:?}", rejection.code).unwrap(),
            }
        }
    }
    assert_golden(&golden("golden/standard/captures.txt"), &now);
}

#[test]
fn nobody_to_send_it_for() {
    let raw = Raw::parse(r#"{"type":"track","event":"e","userId":"user-42"}"#).unwrap();
    let mut event = Event::read(raw, &Surroundings::default()).unwrap();
    event.user_id = None;
    let Setup { profile, options } = standard();
    let translation = translate(&event, arrival(Route::Webhook), &profile, &options);
    assert_eq!(translation.into_calls(), Err(Filtered::NoLearnerId));
}

#[test]
fn every_builtin_profile_is_there() {
    for name in Profile::BUILTIN {
        assert!(Profile::builtin(name).is_some(), "{name}");
    }
    assert!(Profile::builtin("Standard").is_none());
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

const NAMES: [&str; 16] = [
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
    "Completed Order",
    "Wishlist Product Added to Cart",
    "Cart Viewed",
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

/// Any of the built-in profiles, with switches of any position.
fn any_setup() -> impl Strategy<Value = Setup> {
    let extra = prop::sample::select(&[None, Some(ExtraTraits::Inline), Some(ExtraTraits::Event)][..]);
    let nested = prop::sample::select(&[NestedTraits::Keep, NestedTraits::Flatten][..]);
    let style = prop::sample::select(&[NameStyle::Raw, NameStyle::Snake, NameStyle::Compact][..]);
    (prop::sample::select(Profile::BUILTIN), extra, nested, style).prop_map(
        |(profile, extra_traits, nested, style)| {
            let changes = Mapping {
                extra_traits,
                nested_traits: Some(nested),
                event_names: Some(style),
                ..Mapping::default()
            };
            with_changes(profile, &changes)
        },
    )
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.profile.name(), self.profile.switches())
    }
}

/// What Wigzo calls mandatory (wigzo.md 6.2), by the event's name in the profile `guide`.
fn assert_complete(call: &Call) {
    let body = Object::parse(Raw::parse(&call.body).unwrap()).unwrap();
    let (fields, items): (&[&str], _) = match call.name.as_deref() {
        Some("product_view") => (
            &["productId", "canonicalUrl"],
            Some(("variants", &["variant_id", "product_id", "title", "price"][..])),
        ),
        Some("order_completed") => (
            &["orderId", "customer_id"],
            Some(("line_items", &["line_item_id", "variant_id", "product_id", "quantity"][..])),
        ),
        Some("checkout_started") => {
            (&[], Some(("line_items", &["checkout_id", "product_id", "quantity"][..])))
        }
        Some("order") => (&["orderId", "customer_id", "line_items"], None),
        Some("product/push") => (&["productId"], None),
        _ => return,
    };
    let value = body.object("eventval").unwrap();
    for field in fields {
        assert!(value.get(field).is_some(), "{field} is missing: {}", call.body);
    }
    let Some((list, fields)) = items else { return };
    let items = items_of(value.get(list).unwrap()).unwrap();
    assert!(!items.is_empty(), "{list} is empty: {}", call.body);
    for item in items {
        let item = Object::parse(item).unwrap();
        for field in fields {
            assert!(item.get(field).is_some(), "{list}: {field} is missing: {}", call.body);
        }
    }
}

/// A property that no shape reads.
const UNKNOWN: &str = "zz unknown 7";

proptest! {
    #[test]
    fn any_event_is_translated_and_always_alike(
        setup in any_setup(), head in any_head(), members in any_members(),
    ) {
        let json = event(&head, &members);
        let once = translated(&json, &setup);
        written(&once);
        prop_assert_eq!(once, translated(&json, &setup));
    }

    #[test]
    fn no_call_lacks_what_wigzo_calls_mandatory(
        setup in any_setup(), head in any_head(), members in any_members(), product in any_members(),
    ) {
        let products = format!("[{},null,{}]", object(&product), object(&members));
        let members: Vec<_> = members.into_iter().chain([("products".to_owned(), products)]).collect();
        for call in translated(&event(&head, &members), &setup).unwrap_or_default() {
            assert_complete(&call);
        }
    }

    #[test]
    fn numbers_keep_their_text(number in any_number()) {
        let members = [("n".to_owned(), number.clone())];
        for head in [r#""type":"track","event":"Anything""#, r#""type":"page""#, r#""type":"identify""#] {
            for profile in Profile::BUILTIN {
                if *profile != "standard" && !head.contains("track") {
                    continue;
                }
                let setup = with_changes(profile, &Mapping::default());
                let calls = translated(&event(head, &members), &setup).unwrap();
                prop_assert!(calls[0].body.contains(&format!("\"n\":{number}")), "{}", calls[0].body);
            }
        }
        let id = format!(r#"{{"type":"track","event":"Product Removed","userId":"u","properties":{{"product_id":1{number}}}}}"#);
        if number.bytes().all(|byte| byte.is_ascii_digit()) {
            let calls = translated(&id, &with_changes("classic", &Mapping::default())).unwrap();
            prop_assert!(calls[0].body.contains(&format!("\"eventval\":1{number},")), "{}", calls[0].body);
        }
        let order = format!(r#"{{"type":"track","event":"Order Completed","userId":"u","properties":{{"order_id":1,"total":{number}}}}}"#);
        let (order, total) = (written(&translated(&order, &standard())), format!("\"total_price\":{number}"));
        prop_assert!(order.contains(&total), "{}", order);
    }

    #[test]
    fn an_unknown_property_changes_no_other_field(
        profile in prop::sample::select(Profile::BUILTIN), head in any_head(), members in any_members(), value in any_value(),
    ) {
        let setup = with_changes(profile, &Mapping::default());
        let before = written(&translated(&event(&head, &members), &setup));
        let mut more = members.clone();
        more.push((UNKNOWN.to_owned(), value.clone()));
        let after = written(&translated(&event(&head, &more), &setup));
        let member = format!("\"{UNKNOWN}\":{value}");
        // With the comma before it, after it (a page writes its own fields behind), or alone in its object.
        let without = [format!(",{member}"), format!("{member},"), member]
            .iter()
            .fold(after, |text, part| text.replace(part, ""));
        prop_assert_eq!(before, without);
    }
}
