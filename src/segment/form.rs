//! Events that come as form fields: bodies of Extensible Webhook with the content type
//! `application/x-www-form-urlencoded` (segment.md 1.5), and the query of a pixel.
//!
//! They are turned into the JSON text that the rest of the program reads; which event is valid is not decided here.
//! A form is flat. The producer prints each member of the event as JavaScript prints a value, so that an object becomes
//! `[object Object]` and is lost on the way. Where that loses the event's substance the text is kept, and the rules for
//! `properties` and `traits` refuse it; elsewhere the member is left out, like one that is printed as `null`.

use std::borrow::Cow;

use serde_json::Value;
use url::form_urlencoded;

use super::decode::without_mark;
use super::raw::Raw;
use super::value::{items_of, members_of, string_of};

/// The members whose value is an object, and is written as JSON text in a field.
const OBJECTS: [&str; 4] = ["properties", "traits", "context", "integrations"];

/// What an object is printed as by a producer that takes it for text.
const LOST: &str = "[object Object]";

/// The JSON text of a webhook's body that holds forms: one form (`declared` by its content type), or an array of
/// `{"body": form}` under any content type. `None` if it does not, and is to be read as it is.
pub fn form_body(body: &[u8], declared: bool) -> Option<String> {
    let text = std::str::from_utf8(without_mark(body)).ok()?.trim_start();
    match text.bytes().next()? {
        b'[' => forms(text),
        // What cannot begin a form: `curl -d` declares every body to be one.
        b'{' => None,
        _ => (declared && text.contains('=')).then(|| form_event(text)),
    }
}

/// The event in form fields, as a JSON object.
pub fn form_event(form: &str) -> String {
    event_of(form_urlencoded::parse(form.trim_end().as_bytes()))
}

/// The event in fields, as a JSON object. Members stand in the order of the fields; one that comes twice stays twice,
/// and is refused like any duplicate key.
pub fn event_of<'a>(fields: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>) -> String {
    let members = fields.filter_map(|(name, value)| {
        let value = member(&name, &value)?;
        // `Value` prints a string as JSON and cannot fail.
        Some(format!("{}:{value}", Value::from(name.as_ref())))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// A field's value as JSON.
fn member(name: &str, text: &str) -> Option<String> {
    let object = OBJECTS.contains(&name);
    match text {
        "null" | "undefined" => None,
        LOST if !matches!(name, "properties" | "traits") => None,
        _ if object && text.starts_with(['{', '[']) && Raw::parse(text).is_ok() => Some(text.to_owned()),
        // Mappings fill in an empty text where the event has no such object.
        "" if object => None,
        _ => Some(Value::from(text).to_string()),
    }
}

/// An array whose first item is `{"body": form}`, with each such item replaced by its event.
fn forms(text: &str) -> Option<String> {
    // Producers write no white space or escapes here; this look spares every other array a pass.
    let first = text.strip_prefix('[')?.trim_start().strip_prefix('{')?.trim_start();
    if !first.starts_with(r#""body""#) {
        return None;
    }
    let items = items_of(Raw::parse(text).ok()?)?;
    let events = items.into_iter().map(|item| form_in(item).map_or_else(|| item.get().into(), Cow::from));
    Some(format!("[{}]", events.collect::<Vec<Cow<'_, str>>>().join(",")))
}

/// The event in `{"body": form}`; `None` if the item is anything else.
fn form_in(item: Raw<'_>) -> Option<String> {
    let members = members_of(item)?;
    let [only] = members.as_slice() else { return None };
    (only.name()? == "body").then_some(())?;
    Some(form_event(&string_of(only.value)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// form | event
    #[test]
    fn fields_become_members() {
        for (form, event) in [
            ("type=track&event=A+B&userId=7", r#"{"type":"track","event":"A B","userId":"7"}"#),
            ("properties=%7B%22price%22%3A1.50%7D", r#"{"properties":{"price":1.50}}"#),
            ("traits=%5B%5D", r#"{"traits":[]}"#),
            ("traits=%7B%7D&context=", r#"{"traits":{}}"#),
            ("name=%E0%A4%86%E0%A4%B6%E0%A4%BE+%22%5C", r#"{"name":"आशा \"\\"}"#),
            ("userId=null&anonymousId=undefined&event=x", r#"{"event":"x"}"#),
            (
                "context=%5Bobject+Object%5D&_metadata=%5Bobject+Object%5D&properties=%5Bobject+Object%5D",
                r#"{"properties":"[object Object]"}"#,
            ),
            ("properties=%7Bnot+json", r#"{"properties":"{not json"}"#),
            ("event=%7B%22a%22%3A1%7D", r#"{"event":"{\"a\":1}"}"#),
            ("a=1&a=2", r#"{"a":"1","a":"2"}"#),
            ("", "{}"),
        ] {
            assert_eq!(form_event(form), event, "{form}");
        }
    }

    /// body | whether its type says that it is a form | the body to read instead
    #[test]
    fn a_body_that_is_no_form_is_left_alone() {
        for (body, declared, expected) in [
            ("a=b\n", true, Some(r#"{"a":"b"}"#)),
            ("a=b", false, None),
            ("\u{feff}a=b", true, Some(r#"{"a":"b"}"#)),
            ("words", true, None),
            (r#"{"a":"b=c"}"#, true, None),
            (r#" [{"a":"b"}]"#, true, None),
            (r#"[{"body":"a=b&c=d"},{"body":"e=f"}]"#, false, Some(r#"[{"a":"b","c":"d"},{"e":"f"}]"#)),
            (
                r#"[ {"body":"a=b"},{"type":"track"},{"body":1},{"body":"c=d","x":1},7]"#,
                true,
                Some(r#"[{"a":"b"},{"type":"track"},{"body":1},{"body":"c=d","x":1},7]"#),
            ),
            (r#"[{"body":"a=b"}"#, true, None),
            ("", true, None),
        ] {
            assert_eq!(form_body(body.as_bytes(), declared).as_deref(), expected, "{body}");
        }
        assert_eq!(form_body(b"a=\xff", true), None, "not text");
    }

    proptest! {
        #[test]
        fn every_form_becomes_an_object(form in any::<String>()) {
            prop_assert!(serde_json::from_str::<Value>(&form_event(&form)).is_ok_and(|event| event.is_object()));
        }
    }
}
