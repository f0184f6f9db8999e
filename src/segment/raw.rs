//! One JSON value as it was sent, and the way into it.
//!
//! Bytes are validated once, where they come in. From then on what is inside a value is found by looking for where
//! values end: of a string the quote that is not escaped, of an object or array the bracket that closes it. A parser
//! that validates would read an event's bytes anew for each level of it, several times what this takes.
//!
//! Invariants:
//! * Whatever the text is, nothing here panics, recurses or reads a byte more than once in a walk: bytes on disk may be
//!   damaged. What cannot be followed is `None`.
//! * Depth costs no stack.
//! * Every [`Raw`] that is found is a slice of the one it was found in.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// One JSON value as text, known to be valid and without white space around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

/// One member of an object, its key not yet decoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'a> {
    /// The key with its quotes, as it was written.
    pub(super) key: Raw<'a>,
    /// Whether there is a backslash in the key.
    escaped: bool,
    /// The value.
    pub(super) value: Raw<'a>,
}

// === impl Raw ===

impl<'a> Raw<'a> {
    /// `true`.
    pub const TRUE: Raw<'static> = Raw("true");

    /// Validates a text as one JSON value.
    ///
    /// # Errors
    /// It is not JSON; the error says where.
    pub fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str::<&RawValue>(text).map(Self::from)
    }

    /// Takes a text that was validated before: what this program wrote, or kept after it had parsed it. Of a text that is
    /// damaged all the same, what cannot be followed is not found.
    pub fn trusted(text: &'a str) -> Self {
        Self(text.trim_matches([' ', '\t', '\n', '\r']))
    }

    /// The text.
    pub fn get(self) -> &'a str {
        self.0
    }

    /// Hands out the members of an object in their order, duplicates included, as long as `take` answers `Some`. `None`
    /// if it did not, if the value is no object, and if it cannot be followed to its end.
    pub(super) fn members(self, mut take: impl FnMut(Member<'a>) -> Option<()>) -> Option<()> {
        let mut rest = Rest { text: self.0, at: 0 };
        rest.expect(b'{')?;
        if rest.peek()? == b'}' {
            rest.expect(b'}')?;
            return rest.is_walked();
        }
        loop {
            let (key, escaped) = rest.string()?;
            rest.expect(b':')?;
            take(Member { key, escaped, value: rest.value()? })?;
            match rest.next()? {
                b',' => {}
                b'}' => return rest.is_walked(),
                _ => return None,
            }
        }
    }

    /// Hands out the items of an array in their order, as [`Raw::members`] does members.
    pub(super) fn items(self, mut take: impl FnMut(Raw<'a>) -> Option<()>) -> Option<()> {
        let mut rest = Rest { text: self.0, at: 0 };
        rest.expect(b'[')?;
        if rest.peek()? == b']' {
            rest.expect(b']')?;
            return rest.is_walked();
        }
        loop {
            take(rest.value()?)?;
            match rest.next()? {
                b',' => {}
                b']' => return rest.is_walked(),
                _ => return None,
            }
        }
    }
}

/// A parser has accepted it.
impl<'a> From<&'a RawValue> for Raw<'a> {
    fn from(value: &'a RawValue) -> Self {
        Self(value.get())
    }
}

// === impl Member ===

impl<'a> Member<'a> {
    /// The key's text; `None` if it is no Unicode text.
    pub(super) fn name(&self) -> Option<Cow<'a, str>> {
        if self.escaped {
            return serde_json::from_str(self.key.get()).ok().map(Cow::Owned);
        }
        self.key.get().strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed)
    }
}

// === the walk ===

/// What is left to walk of a text.
struct Rest<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    /// The next byte that is no white space; it is the next to be walked.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !is_space(byte) {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Walks over the next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Walks over this byte.
    fn expect(&mut self, expected: u8) -> Option<()> {
        (self.next()? == expected).then_some(())
    }

    /// Whether nothing is left.
    fn is_walked(&self) -> Option<()> {
        (self.at == self.text.len()).then_some(())
    }

    /// A string, and whether there is a backslash in it.
    fn string(&mut self) -> Option<(Raw<'a>, bool)> {
        self.expect(b'"')?;
        let (end, escaped) = end_of_string(self.text.as_bytes(), self.at)?;
        let string = self.text.get(self.at - 1..end)?;
        self.at = end;
        Some((Raw(string), escaped))
    }

    /// Any value.
    fn value(&mut self) -> Option<Raw<'a>> {
        let first = self.peek()?;
        let (text, inside) = (self.text.as_bytes(), self.at + 1);
        let end = match first {
            b'"' => end_of_string(text, inside)?.0,
            b'{' | b'[' => end_of_container(text, inside)?,
            _ => end_of_scalar(text, self.at)?,
        };
        let value = self.text.get(self.at..end)?;
        self.at = end;
        Some(Raw(value))
    }
}

/// The white space of JSON (RFC 8259, section 2).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The place behind the quote that ends the string whose content begins at `at`, and whether there is a backslash in it.
fn end_of_string(text: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        // Eight bytes at a time: most strings are too short for the library's wider steps to pay.
        if let Some(&eight) = text.get(at..)?.first_chunk() {
            let ahead = before_mark(eight);
            at += ahead;
            if ahead == eight.len() {
                continue;
            }
        }
        match *text.get(at)? {
            b'"' => return Some((at + 1, escaped)),
            b'\\' => {
                escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

/// How many bytes stand before the first quote or backslash.
fn before_mark(eight: [u8; 8]) -> usize {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    // The high bit of each byte that is zero, and perhaps of bytes above such a one.
    let zero = |bytes: u64| bytes.wrapping_sub(LOW) & !bytes & HIGH;
    let bytes = u64::from_le_bytes(eight);
    let marks = zero(bytes ^ u64::from_le_bytes([b'"'; 8])) | zero(bytes ^ u64::from_le_bytes([b'\\'; 8]));
    (marks.trailing_zeros() / 8) as usize
}

/// The place behind the bracket that closes the object or array whose content begins at `at`.
fn end_of_container(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 1_usize;
    while depth > 0 {
        let byte = *text.get(at)?;
        at += 1;
        match byte {
            b'"' => at = end_of_string(text, at)?.0,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    Some(at)
}

/// The place behind the number or word that begins at `from`.
fn end_of_scalar(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let ends = |&byte: &u8| matches!(byte, b',' | b'}' | b']') || is_space(byte);
    let length = rest.iter().position(ends).unwrap_or(rest.len());
    (length > 0).then_some(from + length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::json;
    use super::*;

    /// The members as they stand in the text.
    fn members(text: &str) -> Option<Vec<(&str, &str)>> {
        let mut members = Vec::new();
        Raw::trusted(text).members(|member| {
            members.push((member.key.get(), member.value.get()));
            Some(())
        })?;
        Some(members)
    }

    fn items(text: &str) -> Option<Vec<&str>> {
        let mut items = Vec::new();
        Raw::trusted(text).items(|item| {
            items.push(item.get());
            Some(())
        })?;
        Some(items)
    }

    /// What a parser that validates finds at every level of a value, and what is found here.
    fn assert_found_alike(text: &str) {
        let parsed: Option<Vec<&RawValue>> = serde_json::from_str(text).ok();
        assert_eq!(items(text), parsed.map(|items| items.into_iter().map(RawValue::get).collect()), "{text}");
        for item in items(text).into_iter().flatten() {
            assert_found_alike(item);
        }
        let found = members(text);
        assert_eq!(found.is_some(), text.trim_start().starts_with('{'), "{text}");
        for (key, value) in found.into_iter().flatten() {
            assert!(
                Raw::parse(key).is_ok_and(|parsed| parsed.get() == key && key.starts_with('"')),
                "{text}"
            );
            assert!(Raw::parse(value).is_ok_and(|parsed| parsed.get() == value), "{text}");
            assert_found_alike(value);
        }
    }

    /// object | its members as they stand there; `None` if it cannot be followed
    #[test]
    fn an_object_is_taken_apart() {
        type Members<'m> = Option<&'m [(&'m str, &'m str)]>;
        let table: [(&str, Members<'_>); 24] = [
            ("{}", Some(&[])),
            (" {\t} \n", Some(&[])),
            (r#"{"a":1}"#, Some(&[(r#""a""#, "1")])),
            ("{ \"a\" :\r\n1.50 , \"a\":\tnull }", Some(&[(r#""a""#, "1.50"), (r#""a""#, "null")])),
            (r#"{"a\"}":"}\\","":"\\\""}"#, Some(&[(r#""a\"}""#, r#""}\\""#), (r#""""#, r#""\\\"""#)])),
            (
                r#"{"a":{"b":[{}],"c":"]}"},"d":[]}"#,
                Some(&[(r#""a""#, r#"{"b":[{}],"c":"]}"}"#), (r#""d""#, "[]")]),
            ),
            ("", None),
            ("1", None),
            ("[1]", None),
            ("{", None),
            ("{}}", None),
            ("{}{}", None),
            (r#"{"a"}"#, None),
            (r#"{"a":}"#, None),
            (r#"{"a":1"#, None),
            (r#"{"a":1,"#, None),
            (r#"{"a":1,}"#, None),
            (r#"{"a":1]"#, None),
            (r#"{"a":"1}"#, None),
            (r#"{"a":"\"}"#, None),
            (r#"{"a":{"b":1}"#, None),
            (r#"{"a" 1}"#, None),
            ("{a:1}", None),
            (r#"{"a":1 2}"#, None),
        ];
        for (text, expected) in table {
            assert_eq!(members(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn an_array_is_taken_apart() {
        assert_eq!(items("[]"), Some(vec![]));
        assert_eq!(
            items(r#"[1.0, {"a" : 1} ,null,"x,]"]"#),
            Some(vec!["1.0", r#"{"a" : 1}"#, "null", r#""x,]""#])
        );
        for text in
            ["", "{}", "[", "[1", "[1,", "[1,]", "[,]", "[1}", "[[]", "[\"]", "[]]", "[1 2]", r#""[]""#]
        {
            assert_eq!(items(text), None, "{text}");
        }
    }

    #[test]
    fn who_takes_may_stop() {
        let mut taken = 0;
        let stopped = Raw::trusted("[1,2,3]").items(|_| {
            taken += 1;
            (taken < 2).then_some(())
        });
        assert_eq!((stopped, taken), (None, 2));
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(items(&deep).map(|items| items.len()), Some(1));
        assert_eq!(items(&"[".repeat(500_000)), None);
    }

    proptest! {
        #[test]
        fn every_level_is_what_a_parser_finds(text in json(), space in "[ \r\n\t]{0,3}") {
            assert_found_alike(&text);
            let spaced = format!("{space}{text}{space}");
            prop_assert_eq!(Raw::trusted(&spaced), Raw::parse(&spaced).unwrap());
            prop_assert_eq!(Raw::trusted(&spaced).get(), text);
        }

        #[test]
        fn names_are_what_a_parser_reads(names in prop::collection::vec(any::<String>(), 0..6)) {
            let written: Vec<_> = names.iter().map(|name| format!("{}:1", serde_json::json!(name))).collect();
            let text = format!("{{{}}}", written.join(","));
            let mut read = Vec::new();
            Raw::trusted(&text).members(|member| {
                read.push(member.name()?.into_owned());
                Some(())
            }).unwrap();
            prop_assert_eq!(read, names);
        }

        #[test]
        fn no_text_does_harm(text in r#"[\[\]{},:"\\ a1é]{0,40}"#, other in any::<String>()) {
            for text in [&text, &other] {
                let within = text.as_bytes().as_ptr_range();
                for part in items(text).into_iter().flatten().chain(members(text).into_iter().flatten().flat_map(|(key, value)| [key, value])) {
                    let range = part.as_bytes().as_ptr_range();
                    prop_assert!(!part.is_empty() && within.start <= range.start && range.end <= within.end);
                }
            }
        }

        #[test]
        fn no_damage_does_harm(text in json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut damaged = text.into_bytes();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            let damaged = String::from_utf8_lossy(&damaged);
            let _ = (items(&damaged), members(&damaged));
            // What a parser accepts is followed whatever was done to it.
            if serde_json::from_str::<&RawValue>(&damaged).is_ok() {
                assert_found_alike(&damaged);
            }
        }
    }
}
