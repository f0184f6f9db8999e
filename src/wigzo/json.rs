//! JSON text, written once.
//!
//! A [`Json`] is always one well-formed JSON value, because only these writers make it: strings are escaped here,
//! numbers and carried values are raw slices that a parser has already accepted. There is no tree in between, so a
//! number keeps its digits, an object the order of its members and, where a sender repeated a key, both of them.
//!
//! It knows nothing of calls, events or fields.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// One JSON value as text: written here, or borrowed from where it is only carried from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json<'a>(Cow<'a, str>);

/// Bytes that most objects of ours fit in, so that they are not moved while they are written.
const USUAL_LENGTH: usize = 256;

/// Writes an object, member by member.
#[derive(Debug)]
pub struct JsonObject(Members);

/// Writes an array, item by item.
#[derive(Debug)]
pub struct JsonArray(Members);

/// What both writers share: the text so far, and whether the next part needs a comma.
#[derive(Debug)]
struct Members {
    text: String,
    empty: bool,
}

// === impl Json ===

impl Json<'static> {
    /// A string.
    pub fn text(text: &str) -> Self {
        let mut out = String::with_capacity(text.len() + 2);
        write_text(&mut out, text);
        Self(out.into())
    }

    /// `true` or `false`.
    pub fn boolean(yes: bool) -> Self {
        Self(if yes { "true" } else { "false" }.into())
    }

    /// A number from its text, as JSON writes numbers (RFC 8259, section 6). `None` if it is not one.
    pub fn number(text: &str) -> Option<Self> {
        let starts_a_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        let ends_a_number = text.ends_with(|last: char| last.is_ascii_digit());
        (starts_a_number && ends_a_number && serde_json::from_str::<IgnoredAny>(text).is_ok())
            .then(|| Self(text.to_owned().into()))
    }

    /// An array of values that were written before.
    pub fn list<'i>(items: impl IntoIterator<Item = Json<'i>>) -> Self {
        let mut out = JsonArray::new();
        for item in items {
            out.item(&item);
        }
        out.finish()
    }
}

impl<'a> Json<'a> {
    /// A carried value, byte for byte: `raw` is one JSON value that a parser has accepted before.
    pub fn raw(raw: &'a str) -> Self {
        Self(raw.into())
    }

    /// The same value, borrowed from nowhere.
    pub fn into_owned(self) -> Json<'static> {
        Json(self.0.into_owned().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, given away.
    pub fn into_string(self) -> String {
        self.0.into_owned()
    }
}

// === impl JsonObject ===

impl JsonObject {
    /// An object without members.
    pub fn new() -> Self {
        Self::with_room(USUAL_LENGTH)
    }

    /// An object without members, and with room for so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self(Members::open('{', bytes))
    }

    /// Adds a string member.
    pub fn text(&mut self, key: &str, text: &str) -> &mut Self {
        write_text(self.member(key), text);
        self
    }

    /// Adds a boolean member.
    pub fn boolean(&mut self, key: &str, value: bool) -> &mut Self {
        self.member(key).push_str(if value { "true" } else { "false" });
        self
    }

    /// Adds a carried value, as [`Json::raw`] takes it.
    pub fn raw(&mut self, key: &str, raw: &str) -> &mut Self {
        self.member(key).push_str(raw);
        self
    }

    /// Adds a value that was written before.
    pub fn json(&mut self, key: &str, value: &Json<'_>) -> &mut Self {
        self.member(key).push_str(value.as_str());
        self
    }

    /// Adds an array of values that were written before.
    pub fn list<'i>(&mut self, key: &str, items: impl IntoIterator<Item = Json<'i>>) -> &mut Self {
        let out = self.member(key);
        out.push('[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(item.as_str());
        }
        out.push(']');
        self
    }

    /// Whether there are no members yet.
    pub fn is_empty(&self) -> bool {
        self.0.empty
    }

    /// The finished object.
    pub fn finish(self) -> Json<'static> {
        self.0.close('}')
    }

    fn member(&mut self, key: &str) -> &mut String {
        let out = self.0.next();
        write_text(out, key);
        out.push(':');
        out
    }
}

impl Default for JsonObject {
    fn default() -> Self {
        Self::new()
    }
}

// === impl JsonArray ===

impl JsonArray {
    /// An array without items.
    pub fn new() -> Self {
        Self(Members::open('[', USUAL_LENGTH))
    }

    /// Adds an item.
    pub fn item(&mut self, value: &Json<'_>) -> &mut Self {
        self.0.next().push_str(value.as_str());
        self
    }

    /// Whether there are no items yet.
    pub fn is_empty(&self) -> bool {
        self.0.empty
    }

    /// The finished array.
    pub fn finish(self) -> Json<'static> {
        self.0.close(']')
    }
}

impl Default for JsonArray {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Members ===

impl Members {
    fn open(bracket: char, room: usize) -> Self {
        let mut text = String::with_capacity(room);
        text.push(bracket);
        Self { text, empty: true }
    }

    /// The text, ready for the next part.
    fn next(&mut self) -> &mut String {
        if !self.empty {
            self.text.push(',');
        }
        self.empty = false;
        &mut self.text
    }

    fn close(mut self, bracket: char) -> Json<'static> {
        self.text.push(bracket);
        Json(self.text.into())
    }
}

/// Appends a string with its quotes and escapes.
fn write_text(out: &mut String, text: &str) {
    // All bytes are looked at, since that goes many at a time; hardly any text has one to escape.
    let escaped = text.bytes().fold(false, |found, byte| found | matches!(byte, b'"' | b'\\' | 0..b' '));
    if escaped {
        out.push_str(&serde_json::to_string(text).expect("BUG: a &str always has a JSON form"));
        return;
    }
    out.reserve(text.len() + 2);
    out.push('"');
    out.push_str(text);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_members_in_order_with_their_exact_text() {
        let mut items = JsonArray::new();
        items.item(&Json::text("a")).item(&Json::number("1299.00").unwrap());
        let mut object = JsonObject::new();
        object
            .text("quote\"", "line\nend")
            .boolean("yes", true)
            .raw("big", "1e400")
            .raw("twice", r#"{"k":1,"k":2}"#)
            .json("items", &items.finish())
            .list("list", [Json::raw("1.0"), Json::boolean(false)])
            .list("empty", []);
        assert_eq!(
            object.finish().as_str(),
            r#"{"quote\"":"line\nend","yes":true,"big":1e400,"twice":{"k":1,"k":2},"items":["a",1299.00],"list":[1.0,false],"empty":[]}"#
        );
        assert_eq!(JsonObject::new().finish().as_str(), "{}");
        assert_eq!(JsonArray::new().finish().as_str(), "[]");
    }

    #[test]
    fn numbers_are_numbers_only_in_their_json_form() {
        for good in ["0", "-1", "25.00", "1e400", "9007199254740993", "-0.5E+3"] {
            assert_eq!(Json::number(good).unwrap().as_str(), good);
        }
        for bad in
            ["", " 1", "1 ", "+1", ".5", "5.", "05", "1,299.00", "NaN", "0x1", "1 2", "true", "\"1\"", "१"]
        {
            assert_eq!(Json::number(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_as_it_was(key in any::<String>(), value in any::<String>()) {
            let mut object = JsonObject::new();
            object.text(&key, &value);
            let read: std::collections::BTreeMap<String, String> =
                serde_json::from_str(object.finish().as_str()).unwrap();
            prop_assert_eq!(read.get(&key), Some(&value));
        }
    }
}
