//! A JSON object as it stands in the request: members in order, values untouched.

use std::borrow::Cow;
use std::collections::HashSet;

use super::raw::Raw;
use super::value::{JsonType, present, text_of};

/// As many members as an event or its properties usually have: room for them is made at once.
const USUAL_MEMBERS: usize = 16;

/// A JSON object whose values are raw slices of the request.
///
/// Members keep their order; a key that occurs twice stays twice. [`Object::get`] answers with the last one, as
/// every JavaScript reader of the same bytes would.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Raw<'a>)>,
    whole: Option<Raw<'a>>,
}

impl<'a> Object<'a> {
    /// Reads a raw value as an object. `None` if it is not an object or a key is not a Unicode string.
    pub fn parse(raw: Raw<'a>) -> Option<Self> {
        if JsonType::of(raw) != JsonType::Object {
            return None;
        }
        let mut members = Vec::with_capacity(USUAL_MEMBERS);
        raw.members(|member| {
            members.push((member.name()?, member.value));
            Some(())
        })?;
        Some(Self { members, whole: Some(raw) })
    }

    /// An object of one member, which no text of the request is.
    pub fn single(key: Cow<'a, str>, value: Raw<'a>) -> Self {
        Self { members: vec![(key, value)], whole: None }
    }

    /// The object's own text, if this object is exactly one object of the request (a merged one has no text).
    pub fn whole(&self) -> Option<Raw<'a>> {
        self.whole
    }

    /// This object's members over those of `under`: a shallow merge in which this object wins, also with `null`.
    /// This object's members come first; one without members takes nothing away from the other's text.
    #[must_use]
    pub fn over(self, under: &Object<'a>) -> Self {
        if under.is_empty() {
            return self;
        }
        if self.is_empty() {
            return under.clone();
        }
        // A set, because both sides are as large as a sender likes.
        let own: HashSet<&str> = self.iter().map(|(key, _)| key).collect();
        let rest: Vec<_> =
            under.members.iter().filter(|(key, _)| !own.contains(key.as_ref())).cloned().collect();
        let mut members = self.members;
        members.extend(rest);
        Self { members, whole: None }
    }

    /// The value under exactly this key; JSON `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<Raw<'a>> {
        self.members.iter().rev().find(|(name, _)| name == key).and_then(|(_, value)| present(*value))
    }

    /// The value whose key equals `key` when everything but letters, digits and dots is ignored and case is too
    /// (`product_id`, `productId` and `Product ID` are one key; segment.md 3.6). An exact key wins, then the first
    /// spelling in the object's order; `null` is absent.
    ///
    /// Letters and digits of every script count. (Segment's own reader drops all but ASCII; a key in another script
    /// would then be "like" nearly any key.)
    pub fn get_like(&self, key: &str) -> Option<Raw<'a>> {
        self.get(key).or_else(|| self.find(|name| alike(name, key)))
    }

    /// The value of the first key that satisfies `matches` with anything but `null`. If that spelling occurs twice,
    /// its last value, as with [`Object::get`]. Two passes at most, however many keys match.
    pub(super) fn find(&self, matches: impl Fn(&str) -> bool) -> Option<Raw<'a>> {
        let (name, _) =
            self.members.iter().find(|(name, value)| present(*value).is_some() && matches(name))?;
        self.get(name)
    }

    /// [`Object::get_like`], read as an object; `None` if absent or not an object.
    pub fn object(&self, key: &str) -> Option<Object<'a>> {
        self.get_like(key).and_then(Object::parse)
    }

    /// [`Object::get_like`], read as text: a string as it is, a number as its exact text. Empty text, booleans,
    /// arrays and objects count as absent.
    pub fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        self.get_like(key).and_then(text_of)
    }

    /// The members in their order, duplicates included, `null`s included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.members.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

/// Whether two keys are one for [`Object::get_like`].
pub fn alike(one: &str, other: &str) -> bool {
    let (mut ones, mut others) = (one.bytes(), other.bytes());
    let next = |bytes: &mut std::str::Bytes<'_>| {
        bytes.find(|byte| byte.is_ascii_alphanumeric() || *byte == b'.' || !byte.is_ascii())
    };
    loop {
        match (next(&mut ones), next(&mut others)) {
            (None, None) => return true,
            // Letters beyond ASCII are seldom, and have rules of their own.
            (Some(byte), _) | (_, Some(byte)) if !byte.is_ascii() => return folded(one).eq(folded(other)),
            (Some(byte), Some(against)) if byte.eq_ignore_ascii_case(&against) => {}
            _ => return false,
        }
    }
}

/// A key without what [`Object::get_like`] ignores.
fn folded(key: &str) -> impl Iterator<Item = char> {
    key.chars().filter(|c| c.is_alphanumeric() || *c == '.').flat_map(char::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object<'_> {
        Object::parse(Raw::parse(text).unwrap()).unwrap()
    }

    fn listed<'o>(object: &'o Object<'_>) -> Vec<(&'o str, &'o str)> {
        object.iter().map(|(key, value)| (key, value.get())).collect()
    }

    #[test]
    fn members_keep_order_text_and_duplicates() {
        let text = r#"{"z": 1299.00, "a":"\u0041", "z" :null,"क":[ 1 ]}"#;
        let object = object(text);
        assert_eq!(listed(&object), [("z", "1299.00"), ("a", r#""\u0041""#), ("z", "null"), ("क", "[ 1 ]")]);
        assert_eq!(object.whole().map(Raw::get), Some(text));
    }

    #[test]
    fn only_an_object_with_unicode_keys_is_one() {
        for text in ["[]", "1", "null", r#""{}""#, r#"{"\ud800":1}"#] {
            assert!(Object::parse(Raw::parse(text).unwrap()).is_none(), "{text}");
        }
    }

    /// object | asked for | exact answer | answer to anything alike
    #[test]
    fn keys_are_found_exactly_or_alike() {
        let table = [
            (r#"{"a":1,"a":2}"#, "a", Some("2"), Some("2")),
            (r#"{"a":1,"a":null}"#, "a", None, None),
            (r#"{"\u0061":1}"#, "a", Some("1"), Some("1")),
            (r#"{"product_id":1}"#, "productId", None, Some("1")),
            (r#"{"Product ID":1}"#, "productId", None, Some("1")),
            (r#"{"PRODUCT-ID":1}"#, "product_id", None, Some("1")),
            (r#"{"product_id":1,"productId":2}"#, "productId", Some("2"), Some("2")),
            (r#"{"product_id":1,"Product ID":2}"#, "productId", None, Some("1")),
            (r#"{"product_id":null,"Product ID":2}"#, "productId", None, Some("2")),
            (r#"{"productId":null,"product_id":2}"#, "productId", None, Some("2")),
            (r#"{"product_id":1,"product_id":3}"#, "productId", None, Some("3")),
            (r#"{"product.id":1}"#, "product_id", None, None),
            (r#"{"product_ids":1}"#, "product_id", None, None),
            (r#"{"नाम":1}"#, "शहर", None, None),
            (r#"{"email नया":1}"#, "email", None, None),
            ("{}", "a", None, None),
        ];
        for (text, key, exact, alike) in table {
            assert_eq!(object(text).get(key).map(Raw::get), exact, "{text} get {key}");
            assert_eq!(object(text).get_like(key).map(Raw::get), alike, "{text} get_like {key}");
        }
    }

    #[test]
    fn large_objects_stay_affordable() {
        let large = |letter: &str| {
            let members: Vec<String> = (0..60_000).map(|n| format!(r#""{letter}{n}":null"#)).collect();
            format!("{{{}}}", members.join(","))
        };
        let (own, under) = (large("a"), large("b"));
        assert_eq!(object(&own).over(&object(&under)).iter().count(), 120_000);
        let spellings: Vec<String> =
            (0..60_000).map(|n| format!(r#""{}a":null"#, "_".repeat(n % 90))).collect();
        let alike = format!("{{{}}}", spellings.join(","));
        assert!(object(&alike).get_like("A").is_none());
    }

    #[test]
    fn values_are_read_by_kind() {
        let object =
            object(r#"{"Post Code":560001,"city":"  Pune ","empty":"","on":true,"address":{"a":1}}"#);
        assert_eq!(object.text("postCode").as_deref(), Some("560001"));
        assert_eq!(object.text("city").as_deref(), Some("  Pune "));
        assert_eq!(object.text("empty"), None);
        assert_eq!(object.text("on"), None);
        assert_eq!(object.text("address"), None);
        assert!(object.object("Address").is_some_and(|address| address.get("a").is_some()));
        assert!(object.object("city").is_none());
    }

    /// own | under | merged
    #[test]
    fn the_upper_object_wins_member_by_member() {
        type Members<'m> = &'m [(&'m str, &'m str)];
        let table: [(&str, &str, Members<'_>); 5] = [
            (r#"{"a":1}"#, r#"{"b":2}"#, &[("a", "1"), ("b", "2")]),
            (r#"{"a":1}"#, r#"{"a":2,"b":3,"b":4}"#, &[("a", "1"), ("b", "3"), ("b", "4")]),
            (r#"{"a":null}"#, r#"{"a":2}"#, &[("a", "null")]),
            (r#"{"a":{"x":1}}"#, r#"{"a":{"y":2}}"#, &[("a", r#"{"x":1}"#)]),
            ("{}", r#"{"a":2}"#, &[("a", "2")]),
        ];
        for (own, under, merged) in table {
            assert_eq!(listed(&object(own).over(&object(under))), merged, "{own} over {under}");
        }
        assert!(object(r#"{"a":1}"#).over(&object(r#"{"b":2}"#)).whole().is_none(), "merged: no text");
        assert!(object(r#"{"a":1}"#).over(&Object::default()).whole().is_some());
    }
}
