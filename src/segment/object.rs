//! A JSON object as it stands in the request: members in order, values untouched.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// A JSON object whose values are raw slices of the request.
///
/// Members keep their order; a key that occurs twice stays twice. [`Object::get`] answers with the last one, as
/// every JavaScript reader of the same bytes would.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    whole: Option<&'a RawValue>,
}

impl<'a> Object<'a> {
    /// Reads a raw value as an object. `None` if it is not an object or a key is not a Unicode string.
    pub fn parse(raw: &'a RawValue) -> Option<Self> {
        todo!()
    }

    /// The object's own text, if this object is exactly one object of the request (a merged one has no text).
    pub fn whole(&self) -> Option<&'a RawValue> {
        self.whole
    }

    /// This object's members over those of `under`: a shallow merge in which this object wins.
    #[must_use]
    pub fn over(self, under: &Object<'a>) -> Self {
        todo!()
    }

    /// The value under exactly this key; JSON `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        todo!()
    }

    /// The value whose key equals `key` when everything but letters, digits and dots is ignored and case is too
    /// (`product_id`, `productId` and `Product ID` are one key; segment.md 3.6). An exact key wins; `null` is absent.
    pub fn get_like(&self, key: &str) -> Option<&'a RawValue> {
        todo!()
    }

    /// [`Object::get_like`], read as an object; `None` if absent or not an object.
    pub fn object(&self, key: &str) -> Option<Object<'a>> {
        todo!()
    }

    /// [`Object::get_like`], read as text: a string as it is, a number as its exact text. Empty text, booleans,
    /// arrays and objects count as absent.
    pub fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        todo!()
    }

    /// The members in their order, duplicates included, `null`s included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.members.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}
