//! What is wrong in a table, and what is said about it.

use super::*;

/// A whole profile with one text in the place of another.
fn broken(good: &str, bad: &str) -> String {
    const SMALL: &str = r#"link_anonymous = true
contactless = "send"
identify_fields = ["email"]
identify_values = "text"
phone_country = ""
extra_traits = "inline"
nested_traits = "keep"
engage_track = "both"
source = "auto"
event_names = "raw"
[page]
calls = [{ event = "view", value = "page" }]
[screen]
calls = []
[group]
calls = []
[alias]
calls = []
[otherwise]
calls = [{ event = "{event}" }]
[events."Product Viewed"]
also = ["Viewed Product"]
calls = [
  { event = "product_view", value = "product", requires = ["product_id"] },
  { event = "seen", value = "product_id" },
]
[events.Noise]
calls = []
"#;
    assert!(SMALL.contains(good), "{good}");
    SMALL.replacen(good, bad, 1)
}

/// good text | what stands in its place | line | words of the message
#[test]
fn a_profile_is_refused_with_line_and_remedy() {
    for (good, bad, line, words) in [
        ("contactless = \"send\"", "contactless = \"maybe\"", 2, &["maybe", "`send`", "`skip`"][..]),
        ("[\"email\"]", "[\"mail\"]", 3, &["mail", "`email`", "`fullName`", "`postal_code`"]),
        ("extra_traits = \"inline\"\n", "", 1, &["missing key `extra_traits`"]),
        ("value = \"page\"", "value = \"pages\"", 12, &["pages", "`properties`", "`list_url`", "`order`"]),
        ("event = \"view\"", "event = \"{event}\"", 12, &["page.calls[0].event", "only a track event"]),
        ("event = \"view\"", "event = \" \"", 12, &["must not be empty"]),
        ("event = \"view\", value", "value", 12, &["page.calls[0]", "`event`", "`endpoint`"]),
        ("event = \"{event}\"", "event = \"x {event}\"", 20, &["placeholder", "{event}"]),
        (
            "[\"product_id\"]",
            "[\"sku\"]",
            24,
            &["requires[0]", "`product_id`", "`order_id`", "`properties.`"],
        ),
        ("[\"product_id\"]", "[\"properties.\"]", 24, &["path"]),
        ("requires", "needs", 24, &["needs", "`requires`"]),
        ("requires = [\"product_id\"]", "when = { sku = 1 }", 24, &["when.sku", "`product_id`"]),
        ("requires = [\"product_id\"]", "when = { url = [] }", 24, &["when.url", "a value"]),
        ("requires = [\"product_id\"]", "when = { products = 1 }", 24, &["when.products", "`requires`"]),
        ("requires = [\"product_id\"]", "status = \"x\"", 24, &["status", "only a shipment call"]),
        ("requires = [\"product_id\"]", "endpoint = \"product\"", 24, &["endpoint", "one of the two"]),
        (
            "event = \"product_view\", value = \"product\"",
            "endpoint = \"shipment\"",
            24,
            &["status", "{status}"],
        ),
        ("event = \"product_view\"", "endpoint = \"product\"", 24, &["value", "only an event"]),
        ("event = \"product_view\"", "endpoint = \"feed\"", 24, &["feed", "`product`", "`shipment`"]),
        ("[events.Noise]", "[events.viewed_product]", 27, &["\"Product Viewed\"", "one row"]),
        ("[\"Viewed Product\"]", "[\"noise\"]", 22, &["also[0]", "already"]),
        ("[\"Viewed Product\"]", "[\" \"]", 22, &["must not be empty"]),
        ("[events.Noise]", "[events.\" \"]", 27, &["must not be empty"]),
        ("also = [\"Viewed Product\"]", "drop = [\"product_id\"]", 22, &["drop", "`productId`", "mandatory"]),
        ("also = [\"Viewed Product\"]", "keep = [\"title\"]", 22, &["keep", "`productId`", "mandatory"]),
        ("  { event = \"product_view\", value = \"product\", requires = [\"product_id\"] },\n", "", 24, &[]),
        ("[group]\ncalls = []\n", "", 1, &["missing key `group.calls`"]),
        ("[group]", "[groups]", 15, &["groups", "`group`"]),
        ("[group]", "[group", 15, &[]),
    ] {
        let text = broken(good, bad);
        let Err(error) = Profile::parse("mine", &text) else {
            assert!(words.is_empty(), "{bad} is no mistake");
            continue;
        };
        assert!(!words.is_empty() || bad == "[group", "{error}");
        assert_eq!(error.line, line, "{error}");
        assert!(error.to_string().starts_with(&format!("profile mine, line {line}: ")), "{error}");
        for word in words {
            assert!(error.message.contains(word), "{word} in {error}");
        }
    }
}

/// changes to `standard` | key of the mistake | words of the message
#[test]
fn changes_are_refused_with_key_and_remedy() {
    for (text, key, words) in [
        (
            "[events.\"Product Added\"]\ncalls = [{ event = \"{name}\" }]",
            "events.Product Added.calls[0].event",
            &["placeholder", "{event}"][..],
        ),
        ("[page]\nalso = [\"Home\"]", "page.also", &["`events`"]),
        ("[events.\"My Event\"]\nalso = [\"Added Product\"]", "events.My Event.also[0]", &["already"]),
        (
            "[events.\"Product Added\"]\n[events.\"added_product\"]",
            "events.added_product",
            &["\"Product Added\"", "one row"],
        ),
        ("[events.\"Product Added\"]\ndrop = [\"a\"]", "events.Product Added.drop", &["members", "`value`"]),
        ("[events.\"Product Added\"]\nset = { a = 1 }", "events.Product Added.set", &["members"]),
        (
            "[events.\"Order Completed\"]\ndrop = [\"Order ID\"]",
            "events.Order Completed.drop",
            &["`orderId`"],
        ),
        (
            "[events.\"Order Cancelled\"]\ncalls = [{ endpoint = \"shipment\", status = \"{state}\" }]",
            "events.Order Cancelled.calls[0].status",
            &["{status}"],
        ),
    ] {
        let changes: Mapping = toml::from_str(text).unwrap();
        let standard = Profile::builtin("standard").unwrap();
        let mistakes = standard.changed(&changes, Layer::Organization).expect_err(text);
        assert_eq!(mistakes.iter().map(super::super::Mistake::key).collect::<Vec<_>>(), [key], "{text}");
        for word in words {
            assert!(mistakes[0].message.contains(word), "{word} in {}", mistakes[0]);
        }
    }
}

#[test]
fn every_mistake_of_a_table_is_reported() {
    let text = "[page]\ncalls = [{}, { event = \"{event}\" }]\n[events.A]\ncalls = [{ event = \"\", requires = [\"x\"] }]";
    let changes: Mapping = toml::from_str(text).unwrap();
    let mistakes = Profile::builtin("guide").unwrap().changed(&changes, Layer::Defaults).unwrap_err();
    let keys: Vec<_> = mistakes.iter().map(super::super::Mistake::key).collect();
    assert_eq!(
        keys,
        ["page.calls[0]", "page.calls[1].event", "events.A.calls[0].event", "events.A.calls[0].requires[0]",]
    );
}
