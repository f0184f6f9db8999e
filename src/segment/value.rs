//! Reading one raw JSON value without printing it again.
//!
//! A [`Raw`] is known to be valid JSON and has no white space around it, so its first byte says what it is.
//! Nothing here recurses: the depth of a value costs no stack. Text is borrowed from the request unless it holds
//! an escape.

use std::borrow::Cow;

use super::raw::{Member, Raw};

/// The six types of JSON (RFC 8259, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonType {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number of any size and precision.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl JsonType {
    /// The type of a raw value.
    pub fn of(raw: Raw<'_>) -> Self {
        match raw.get().bytes().next() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') | None => Self::Null,
            Some(_) => Self::Number,
        }
    }
}

/// The value, unless it is JSON `null`, which counts as absent everywhere in this room.
pub fn present(raw: Raw<'_>) -> Option<Raw<'_>> {
    (JsonType::of(raw) != JsonType::Null).then_some(raw)
}

/// Whether the value is an array without elements, which is how PHP prints an object without members.
pub(super) fn is_empty_array(raw: Raw<'_>) -> bool {
    JsonType::of(raw) == JsonType::Array && raw.items(|_| None).is_some()
}

/// A JSON string's text, empty text included. `None` for any other type, and for a string with a lone surrogate
/// (`"\ud800"`): that is valid JSON, but no Unicode text.
pub fn string_of(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.as_bytes().contains(&b'\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// A value read as text: a string as it is (spaces kept), a number as its exact text (`1299.00` stays `1299.00`).
/// Empty text, `null`, booleans, arrays and objects count as absent.
pub fn text_of(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    match JsonType::of(raw) {
        JsonType::String => string_of(raw).filter(|text| !text.is_empty()),
        JsonType::Number => Some(Cow::Borrowed(raw.get())),
        JsonType::Null | JsonType::Boolean | JsonType::Array | JsonType::Object => None,
    }
}

/// A JSON boolean's value; `None` for any other type.
pub fn bool_of(raw: Raw<'_>) -> Option<bool> {
    match raw.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// The elements of a JSON array in their order, `null`s included; `None` for any other type.
pub fn items_of(raw: Raw<'_>) -> Option<Vec<Raw<'_>>> {
    let mut items = Vec::new();
    raw.items(|item| {
        items.push(item);
        Some(())
    })?;
    Some(items)
}

/// The members of an object in their order, duplicates included; `None` if the value is no object.
pub(super) fn members_of(raw: Raw<'_>) -> Option<Vec<Member<'_>>> {
    let mut members = Vec::new();
    raw.members(|member| {
        members.push(member);
        Some(())
    })?;
    Some(members)
}

/// An event's bytes as they may be shown: a `writeKey` in it, which lets whoever reads it send events, is replaced by
/// `"***"`. Everything else is as it was.
pub fn without_key(event: Raw<'_>) -> Cow<'_, str> {
    with_member(event, "writeKey", |_| Cow::Borrowed(r#""***""#))
}

/// An object's text with the value of each member of this name replaced. Everything else is as it was, and so is what is
/// no object.
pub(super) fn with_member<'a>(
    object: Raw<'a>,
    name: &str,
    replace: impl Fn(Raw<'a>) -> Cow<'a, str>,
) -> Cow<'a, str> {
    let text = object.get();
    let members = members_of(object).into_iter().flatten();
    let members = members.filter(|member| member.name().as_deref() == Some(name));
    let (mut replaced, mut copied) = (String::new(), 0);
    for Member { value, .. } in members {
        // The members are slices of the text: where one begins is a matter of counting.
        let began = value.get().as_ptr() as usize - text.as_ptr() as usize;
        replaced.push_str(text.get(copied..began).unwrap_or_default());
        replaced.push_str(&replace(value));
        copied = began + value.get().len();
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    replaced.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(replaced)
}

/// Whether arrays and objects are nested deeper than `limit` levels (a scalar has none).
///
/// Costs one plain count of brackets in the usual case; only a text with more of them than `limit` is scanned with
/// regard to strings.
pub(super) fn deeper_than(raw: Raw<'_>, limit: usize) -> bool {
    let text = raw.get().as_bytes();
    // `{` is `[` with one bit more. Sums of bytes are calculated many at a time, and 255 ones fit in one.
    let opening =
        |part: &[u8]| usize::from(part.iter().map(|byte| u8::from((byte | 0x20) == b'{')).sum::<u8>());
    if text.chunks(usize::from(u8::MAX)).map(opening).sum::<usize>() <= limit {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in text {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Raw<'_> {
        Raw::parse(text).unwrap()
    }

    /// input | type | as a string | as text
    #[test]
    fn a_value_is_read_by_its_type() {
        use JsonType::{Array, Boolean, Null, Number, Object, String};
        let table: [(&str, JsonType, Option<&str>, Option<&str>); 16] = [
            ("null", Null, None, None),
            ("true", Boolean, None, None),
            ("false", Boolean, None, None),
            ("0", Number, None, Some("0")),
            ("-1.50", Number, None, Some("-1.50")),
            ("1299.00", Number, None, Some("1299.00")),
            ("1e400", Number, None, Some("1e400")),
            ("9007199254740993001", Number, None, Some("9007199254740993001")),
            (r#""""#, String, Some(""), None),
            (r#"" a ""#, String, Some(" a "), Some(" a ")),
            (r#""\u0041\n""#, String, Some("A\n"), Some("A\n")),
            (r#""\ud83d\ude00""#, String, Some("😀"), Some("😀")),
            (r#""\ud800""#, String, None, None),
            (r#""a\"""#, String, Some("a\""), Some("a\"")),
            ("[]", Array, None, None),
            ("{}", Object, None, None),
        ];
        for (input, kind, string, text) in table {
            assert_eq!(JsonType::of(raw(input)), kind, "{input}");
            assert_eq!(string_of(raw(input)).as_deref(), string, "{input}");
            assert_eq!(text_of(raw(input)).as_deref(), text, "{input}");
            assert_eq!(present(raw(input)).is_none(), input == "null", "{input}");
            assert_eq!(bool_of(raw(input)), input.parse().ok(), "{input}");
        }
    }

    #[test]
    fn text_without_escapes_is_borrowed() {
        assert!(matches!(string_of(raw(r#""आशा""#)), Some(Cow::Borrowed("आशा"))));
        assert!(matches!(text_of(raw("12")), Some(Cow::Borrowed("12"))));
    }

    #[test]
    fn elements_keep_their_text() {
        let texts =
            |input| items_of(raw(input)).map(|items| items.into_iter().map(Raw::get).collect::<Vec<_>>());
        assert_eq!(
            texts(r#"[1.0, {"a" : 1} ,null,"x"]"#),
            Some(vec!["1.0", r#"{"a" : 1}"#, "null", r#""x""#])
        );
        assert_eq!(texts("[]"), Some(vec![]));
        assert_eq!(texts(r#"{"0":1}"#), None);
        assert_eq!(texts(r#""[]""#), None);
    }

    #[test]
    fn depth_counts_levels_and_not_brackets() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(!deeper_than(raw(&nested(5)), 5));
        assert!(deeper_than(raw(&nested(6)), 5));
        assert!(!deeper_than(raw("[[],[],[],[],[],[],[]]"), 5), "wide is not deep");
        assert!(!deeper_than(raw(r#"["[[[[[[[["]"#), 5), "brackets in a string are text");
        assert!(!deeper_than(raw(r#"["\"[[[[[[\\"]"#), 5), "an escaped quote ends no string");
        assert!(deeper_than(raw(r#"["\\",[[[[[[]]]]]]]"#), 5), "an escaped backslash escapes nothing");
        assert!(!deeper_than(raw("1"), 0));
        let bottomless = nested(200_000);
        assert!(deeper_than(raw(&bottomless), 128), "the depth costs no stack");
    }
}
